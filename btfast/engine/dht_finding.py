"""One info-hash in the DHT: looked up and announced every quarter of an hour (BEP 5), sooner while nobody is found."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from btfast.discovery.announce import AnnounceRequest
from btfast.engine.context import Context
from btfast.metainfo.addresses import PeerAddress
from btfast.swarm.peers import Source

if TYPE_CHECKING:
    from btfast.discovery.dht.events import Event, SearchEnded

INTERVAL = 900.0  # seconds
FIRST_RETRY = 5.0  # seconds after a search that found nobody, twice as long each time
WANTED = 30.0  # seconds between searches at least while peers are wanted
GRACE = 5.0  # seconds that other ways have first: what is fetched by then never costs a DHT node


class Owner(Protocol):
    """Who the peers are sought for."""

    @property
    def info_hash(self) -> bytes: ...

    @property
    def private(self) -> bool: ...

    def announce_request(self, event: str | None) -> AnnounceRequest: ...

    def handle_peers(self, addresses: list[PeerAddress], source: Source) -> None: ...


class DhtFinding:
    """Runs until `stop`. `alone`: there is no other way to peers, so that it begins at once. `nodes`: the torrent's."""

    def __init__(self, context: Context, owner: Owner, *, alone: bool, nodes: Iterable[tuple[str, int]] = ()) -> None:
        self._context = context
        self._owner = owner
        self._searching = False
        self._complete = False
        self._retry = FIRST_RETRY
        self._ended_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None  # of the next search
        self._due = 0.0  # when it is
        self._nodes = tuple(nodes)
        self._stopped = owner.private or not context.dht.enabled
        if self._stopped:
            return
        self._schedule(0.0 if alone else GRACE)

    @property
    def exhausted(self) -> bool:
        """Nobody will be found this way."""
        return self._stopped or (not self._searching and not self._nodes and self._context.dht.hopeless)

    def hand_over(self, owner: Owner) -> None:
        """Another one wants the peers from now on."""
        self._owner = owner
        if owner.private:
            self.stop()

    def want_peers(self) -> None:
        """Those that are known are not enough."""
        if not self._searching and not self._stopped:
            self._schedule(max(0.0, self._ended_at + WANTED - self._context.loop.time()))

    def stop(self) -> None:
        """What was announced is forgotten by others in half an hour."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._searching:
            self._searching = False
            self._context.dht.forget(self)

    def _schedule(self, wait: float) -> None:
        due = self._context.loop.time() + wait
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = self._context.loop.call_later(wait, self._search)

    def _search(self) -> None:
        self._timer = None
        if self._stopped or self._searching:
            return
        nodes, self._nodes = self._nodes, ()
        self._context.dht.add_nodes(nodes)
        request = self._owner.announce_request(None)
        self._complete = request.left == 0
        self._searching = self._context.dht.find_peers(
            request.info_hash, self, port=request.port, seed=self._complete
        )
        if not self._searching:
            self.dht_ended(None)

    # dht.Listener

    def dht_found(self, event: Event) -> None:
        peers = getattr(event, "peers", None)
        if peers and not self._stopped:
            self._retry = FIRST_RETRY
            self._owner.handle_peers(peers, Source.DHT)

    def dht_ended(self, event: SearchEnded | None) -> None:
        self._searching = False
        self._ended_at = self._context.loop.time()
        if self._stopped:
            return
        if event is not None and (event.found or (event.stored and self._complete)):
            self._schedule(INTERVAL)
            return
        self._schedule(self._retry)
        self._retry = min(INTERVAL, 2 * self._retry)
