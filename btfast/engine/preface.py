"""What we and the peers of an info-hash say before the torrent is known: greetings, metadata (BEP 9), and what is kept.

Until it is, we have nothing, want nothing that has a name, and serve nobody. What peers say of themselves is kept for
the torrent's Conversation, which takes their connections over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from btfast._peer_stream import CLOSED_EVENT, HANDSHAKE_EVENT
from btfast.engine.connection import PeerConnection
from btfast.engine.context import Context
from btfast.engine.extended import Extended
from btfast.engine.greeting import read_handshake, still_welcome
from btfast.engine.heard import BITFIELD_LIMIT, Heard
from btfast.engine.swarm_names import SwarmNames
from btfast.errors import RemoteError
from btfast.swarm.metadata import LAST_WINDOW, MetadataFetch
from btfast.wire import ids, messages
from btfast.wire.extensions import ExtendedHandshake, decode_dont_have
from btfast.wire.ut_metadata import DATA, REJECT, REQUEST, MetadataMessage, decode_metadata, encode_metadata

if TYPE_CHECKING:  # it is loaded when a torrent has a v2 half
    from btfast.engine.hash_exchange import HashExchange

EXTENSION = "ut_metadata"
RTORRENT = b"-lt"  # a second request while the first answer is on its way, and it reads nothing more
_OF_HASHES = (ids.HASH_REQUEST, ids.HASHES, ids.HASH_REJECT)
FEW = 16  # messages to begin with that need no explanation


class Peers(Protocol):
    """Who knows the connections."""

    connections: dict[int, PeerConnection]

    def greeted(self, peer: PeerConnection) -> str | None: ...

    def dropped(self, peer: PeerConnection, reason: str) -> None: ...

    def ban(self, number: int, reason: str) -> None: ...


class Preface:
    """The owner of all PeerConnections of one info-hash. `arrived()` is called once, when the metadata is right."""

    def __init__(
        self, context: Context, names: SwarmNames, fetch: MetadataFetch, peers: Peers, arrived: Callable[[], None]
    ) -> None:
        self._context = context
        self.names = names
        self._fetch = fetch
        self._peers = peers
        self._arrived = arrived
        self._heard: dict[int, Heard] = {}
        self._ticked = context.loop.time()
        self.hashes: HashExchange | None = None  # once the metadata is there and its piece layers are wanted
        self.extended = Extended(context, lambda: False)
        self.extended.register(EXTENSION, self._metadata, self._introduced)
        self.extended.register("lt_donthave", self._dont_have)

    def greet(self, peer: PeerConnection) -> None:
        """Sends our handshake."""
        peer.stream.bitfield_limit = BITFIELD_LIMIT
        peer.greet(self.handshake(peer.info_hash, outgoing=peer.outgoing))
        peer.flush()

    def handshake(self, info_hash: bytes, *, outgoing: bool) -> bytes:
        """What we say first, by one of the names that are known."""
        return self.names.handshake(info_hash, self._context.peer_id, dht=self._context.dht.enabled, outgoing=outgoing)

    def handle_events(self, peer: PeerConnection, events: list[tuple[Any, ...]], now: float) -> None:
        for event in events:
            kind = event[0]
            if kind == HANDSHAKE_EVENT:
                self._handshake(peer, event)
            elif kind == CLOSED_EVENT:
                peer.close(event[1])
            elif kind == ids.EXTENDED:
                if event[1] == ids.EXT_HANDSHAKE:
                    self._of(peer).handle_extended(event[2])
                self.extended.handle(peer, event, now)
            elif kind == ids.PORT:
                self._context.dht.handle_port(peer.address.host, event[1])
            elif kind in _OF_HASHES:
                if self.hashes is not None and kind == ids.HASHES:
                    self.hashes.handle_hashes(peer, event, now)
                elif self.hashes is not None and kind == ids.HASH_REJECT:
                    self.hashes.handle_reject(peer, event, now)
                elif peer.v2 and kind == ids.HASH_REQUEST:
                    peer.send(messages.encode_hash_reject(*event[1:]))
            elif peer.greeted:
                try:
                    self._of(peer).handle(peer, event, now)
                except RemoteError as error:
                    peer.close(str(error))
            if peer.closed:
                break
        self.ask(now)
        if peer.stream.unsent:
            peer.flush()

    def handle_closed(self, peer: PeerConnection, reason: str) -> None:
        self._fetch.peer_left(peer.number)
        if self.hashes is not None:
            self.hashes.peer_left(peer)
        self._heard.pop(peer.number, None)
        self._peers.dropped(peer, reason)

    def _of(self, peer: PeerConnection) -> Heard:
        heard = self._heard.get(peer.number)
        if heard is None:
            heard = self._heard[peer.number] = Heard()
        return heard

    def _handshake(self, peer: PeerConnection, event: tuple[Any, ...]) -> None:
        handshake = read_handshake(peer, event, self.names)
        if handshake is None:
            return
        refused = self._peers.greeted(peer)
        if refused is not None:
            peer.close(refused)
            return
        peer.greeted = True
        if self.hashes is not None:
            self.hashes.peer_joined(peer, self._context.loop.time())
        if handshake.extensions:
            self.extended.greet(peer)
        if peer.fast:
            peer.send(messages.HAVE_NONE)

    # extensions

    def _introduced(self, peer: PeerConnection, said: ExtendedHandshake, now: float) -> None:
        if EXTENSION in (peer.extensions or {}):
            most = 1 if peer.peer_id.startswith(RTORRENT) else LAST_WINDOW
            self._fetch.peer_joined(peer.number, said.metadata_size, now, most=most)

    def _dont_have(self, peer: PeerConnection, body: bytes, now: float) -> None:
        self._of(peer).handle_lacks(decode_dont_have(body))

    def _metadata(self, peer: PeerConnection, body: bytes, now: float) -> None:
        message = decode_metadata(body)
        if message is None:
            return
        if message.kind == REQUEST:
            self.extended.send(peer, EXTENSION, encode_metadata(MetadataMessage(REJECT, message.piece)))
        elif message.kind == REJECT:
            self._fetch.handle_reject(peer.number, message.piece, now)
        elif message.kind == DATA:
            waiting = self._fetch.metadata is None
            self._fetch.handle_data(peer.number, message.piece, message.total_size, message.data, now)
            if waiting and self._fetch.metadata is not None:
                self._arrived()

    def ask(self, now: float) -> None:
        """Sends the requests that are due, and bans who has lied. After each event, and once a second."""
        for number, piece in self._fetch.poll_requests(now):
            peer = self._peers.connections.get(number)
            if peer is not None:
                self.extended.send(peer, EXTENSION, encode_metadata(MetadataMessage(REQUEST, piece)))
                peer.flush()
        for number in self._fetch.poll_liars():
            self._peers.ban(number, "it sent wrong metadata")
        if self.hashes is not None:
            self.hashes.ask(now)

    # time

    def tick(self, peers: list[PeerConnection], now: float) -> None:
        """Once a second."""
        seconds = max(1.0, now - self._ticked)
        self._ticked = now
        for peer in peers:
            still_welcome(peer, FEW, seconds, now)
        self.ask(now)

    def hand_over(self, peer: PeerConnection, pieces: int) -> list[tuple[Any, ...]]:
        """What the peer has said so far, for a torrent with so many pieces; nobody listens here any more."""
        heard = self._heard.pop(peer.number, None)
        return heard.replay(peer, pieces) if heard is not None else []
