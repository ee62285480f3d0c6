"""Where the peers of one info-hash come from: trackers, the DHT, the local network, and who the user or a magnet names.

Needs nothing but the info-hash, so it can begin before the metadata is there and go on with another owner afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Container, Iterable, Sequence
from typing import Protocol

from btfast.discovery.announce import AnnounceRequest
from btfast.discovery.schedule import TrackerSchedule
from btfast.engine.announcing import Announcing
from btfast.engine.context import Context
from btfast.engine.dht_finding import DhtFinding
from btfast.engine.lsd_finding import LsdFinding
from btfast.engine.resolve import literal
from btfast.engine.together import together
from btfast.errors import RemoteError
from btfast.metainfo.addresses import PeerAddress
from btfast.swarm.peers import Source


class Owner(Protocol):
    """Who the peers are sought for: a torrent, or an item that has no metadata yet."""

    @property
    def info_hash(self) -> bytes: ...

    @property
    def private(self) -> bool:
        """Only trackers and the user may name peers (BEP 27). False where it is not known yet."""
        ...

    def announce_request(self, event: str | None) -> AnnounceRequest: ...

    def handle_peers(self, addresses: list[PeerAddress], source: Source, sender: str = "") -> None: ...

    def drop_peers(self, reason: str, keep: Container[Source]) -> None:
        """Those that were found so far are not wanted any more, but for those of the sources `keep`."""
        ...

    def handle_tracker_warning(self, message: str) -> None: ...


AT_ONCE = 20  # trackers of one magnet link that are asked at the same time; the others follow where these fail


class Finding:
    """Runs from the start until `stop`.

    `named`: peers by host and port; a host name counts once it is an address. `complete`: nothing is missing at the start.
    `nodes`: DHT nodes that the torrent names. `first`: trackers that answered an earlier run.
    `together`: all trackers are asked at the same time, as a magnet link's, which has nothing but a list of them.
    """

    def __init__(
        self, context: Context, owner: Owner, announce_list: Sequence[Sequence[str]], *,
        named: Iterable[tuple[str, int]] = (), complete: bool = False, together: bool = False,
        nodes: Iterable[tuple[str, int]] = (), first: Collection[str] = (),
    ) -> None:  # fmt: skip
        self._context = context
        self._owner = owner
        self._named: set[asyncio.Task[None]] = set()
        tiers = announce_list if context.settings.trackers else ()
        now = context.loop.time()
        self._announcing = [
            Announcing(
                context,
                TrackerSchedule(group, context.rng, now, complete=complete, sequential=owner.private, first=first),
                self,
            )
            for group in (_spread(tiers) if together else [tiers])
        ]
        named = list(named)
        alone = together or not (named or any(not announcing.without_trackers for announcing in self._announcing))
        self._dht = DhtFinding(context, owner, alone=alone, nodes=nodes)
        self._answering = ""  # the tracker that answered last
        self._retiring: set[asyncio.Task[None]] = set()
        self._lsd = LsdFinding(context, owner)
        self.add_named(named)

    def answered(self) -> list[str]:
        """Trackers that have answered."""
        return [url for announcing in self._announcing for url in announcing.answered()]

    def add_named(self, peers: Iterable[tuple[str, int]]) -> None:
        """Peers that the user or a magnet link named."""
        literals = []
        for host, port in peers:
            if literal(host) is not None:
                literals.append(PeerAddress(host, port))
                continue
            task = self._context.loop.create_task(self._resolve(host, port))
            self._named.add(task)
            task.add_done_callback(self._named.discard)
        if literals:
            self._owner.handle_peers(literals, Source.OPTION)

    async def _resolve(self, host: str, port: int) -> None:
        try:
            found = await self._context.resolver.resolve(host, f"peer {host}:{port}")
        except RemoteError as error:
            self._owner.handle_tracker_warning(str(error))
        else:
            self._owner.handle_peers([PeerAddress(address.host, port) for address in found], Source.OPTION)

    def hand_over(self, owner: Owner, *, complete: bool = False) -> None:
        """Another one wants the peers from now on: what had no metadata has become a torrent. Trackers notice nothing.

        `complete`: all of it was there already.
        """
        self._owner = owner
        self._dht.hand_over(owner)
        self._lsd.hand_over(owner)
        if complete:
            for announcing in self._announcing:
                announcing.found_complete()
        if owner.private:
            owner.drop_peers("its torrent is private", (Source.OPTION, Source.TRACKER))
            for announcing in self._announcing[1:]:
                task = self._context.loop.create_task(announcing.stop())
                self._retiring.add(task)
                task.add_done_callback(self._retiring.discard)
            del self._announcing[1:]
            self.want_peers()

    @property
    def exhausted(self) -> bool:
        """Nobody is left who could name another peer."""
        if self._named or not (self._dht.exhausted and self._lsd.exhausted):
            return False
        return all(announcing.without_trackers for announcing in self._announcing)

    @property
    def last_error(self) -> str | None:
        """What went wrong with the trackers last."""
        return next((one.last_error for one in self._announcing if one.last_error), None)

    def want_peers(self) -> None:
        """Those that are known are not enough."""
        self._dht.want_peers()
        self._lsd.want_peers()
        for announcing in self._announcing:
            announcing.want_peers()

    def completed(self) -> None:
        """The last piece was verified in this session."""
        for announcing in self._announcing:
            announcing.completed()

    async def stop(self) -> None:
        """Ends it all; trackers are told."""
        self._dht.stop()
        for task in self._named:
            task.cancel()
        self._lsd.stop()
        await together([announcing.stop() for announcing in self._announcing])
        if self._retiring:
            await asyncio.gather(*self._retiring)

    # announcing.Owner

    def announce_request(self, event: str | None) -> AnnounceRequest:
        return self._owner.announce_request(event)

    def handle_answered(self, url: str) -> None:
        before, self._answering = self._answering, url
        if self._owner.private and before not in ("", url):
            # BEP 27: the swarms of a private torrent's trackers do not mix.
            self._owner.drop_peers("another tracker rules its torrent now", (Source.OPTION,))

    def handle_peers(self, addresses: list[PeerAddress], tracker: str) -> None:
        self._owner.handle_peers(addresses, Source.TRACKER, tracker)

    def handle_tracker_warning(self, message: str) -> None:
        self._owner.handle_tracker_warning(message)


def _spread(tiers: Sequence[Sequence[str]]) -> list[list[list[str]]]:
    """Every tracker in a list of tiers of its own, as long as those are not too many."""
    urls = [url for tier in tiers for url in tier]
    return [[[url] for url in urls[start::AT_ONCE]] for start in range(min(AT_ONCE, len(urls)))]
