"""What peers of one torrent say, and the answers that the protocol demands: handshakes, bitfields, interest, HAVEs.

BEP 3, 6, 10, 21. Decisions about data are taken in fetching and serving.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from btfast._bitfield import Bitfield
from btfast._peer_stream import BLOCK_EVENT, CLOSED_EVENT, HANDSHAKE_EVENT, REQUESTS_EVENT
from btfast.engine.allowed import handle_allowed
from btfast.engine.connection import PeerConnection
from btfast.engine.context import Context
from btfast.engine.extended import Extended
from btfast.engine.fetching import Fetching
from btfast.engine.greeting import read_handshake, still_welcome
from btfast.engine.serving import Serving
from btfast.engine.swarm_names import SwarmNames
from btfast.metainfo.geometry import BLOCK
from btfast.metainfo.torrent import Torrent
from btfast.swarm.pieces import Pieces
from btfast.wire import ids, messages
from btfast.wire.extensions import (
    ExtendedHandshake,
    decode_dont_have,
    decode_upload_only,
    encode_dont_have,
    encode_upload_only,
)

if TYPE_CHECKING:  # it is loaded when a torrent has a v2 half
    from btfast.engine.hash_exchange import HashExchange

ADOPTED_HAVES = 100_000  # pieces that are told one by one to a peer that was greeted before we knew of them


class Owner(Protocol):
    """Who knows the peers."""

    def greeted(self, peer: PeerConnection) -> str | None: ...

    def introduced(self, peer: PeerConnection) -> None: ...

    def handle_interested(self, peer: PeerConnection, now: float) -> None: ...

    def handle_not_interested(self, peer: PeerConnection) -> None: ...

    def dropped(self, peer: PeerConnection, reason: str) -> None: ...


class Conversation:
    """The owner of all PeerConnections of one torrent."""

    def __init__(
        self, context: Context, torrent: Torrent, pieces: Pieces, fetching: Fetching, serving: Serving,
        extended: Extended, names: SwarmNames, owner: Owner, hashes: HashExchange | None = None,
    ) -> None:  # fmt: skip
        self._context = context
        self._torrent = torrent
        self._pieces = pieces
        self._fetching = fetching
        self._serving = serving
        self._extended = extended
        self._names = names
        self._hashes = hashes
        self._owner = owner
        self._dht = context.dht if context.dht.enabled and not torrent.private else None
        self._bitfield_bytes = -(-torrent.geometry.piece_count // 8)
        blocks = -(-torrent.piece_length // BLOCK)
        self._mean_block = max(1, torrent.piece_length // max(1, blocks))
        self._ticked = context.loop.time()
        extended.register("lt_donthave", self._dont_have, self._introduced)
        extended.register("upload_only", self._upload_only)

    def greet(self, peer: PeerConnection) -> None:
        """Sends our handshake. As the initiator nothing more goes out until theirs has come: some clients close otherwise."""
        peer.stream.bitfield_limit = self._bitfield_bytes
        peer.greet(self.handshake(peer.info_hash, outgoing=peer.outgoing))
        peer.flush()

    def handshake(self, info_hash: bytes, *, outgoing: bool) -> bytes:
        """What we say first, by one of the torrent's names."""
        return self._names.handshake(info_hash, self._context.peer_id, dht=self._dht is not None, outgoing=outgoing)

    def adopt(self, peer: PeerConnection, said: list[tuple[Any, ...]], now: float) -> None:
        """Takes over a connection from before the torrent was known, with what the peer has said so far."""
        peer.owner = self
        peer.stream.bitfield_limit = self._bitfield_bytes
        if peer.greeted:
            if self._hashes is not None:
                peer.v2 = peer.v2 or peer.info_hash == self._names.v2
                self._hashes.peer_joined(peer, now)
            if peer.extensions is not None:
                self._extended.introduce(peer)
            have = self._pieces.have
            if have.count > ADOPTED_HAVES:  # a new connection takes a bitfield, which is shorter
                peer.close("it comes back")
                return
            if not have.none():
                peer.send(messages.encode_haves(have.indices()))
        self.handle_events(peer, said, now)

    def handle_events(self, peer: PeerConnection, events: list[tuple[Any, ...]], now: float) -> None:
        fetching = self._fetching
        for event in events:
            kind = event[0]
            if kind == ids.PIECE:
                fetching.handle_run(peer, event[1], event[2], event[3], now)
                continue
            handler = self._HANDLERS.get(kind)
            if handler is not None:
                handler(self, peer, event, now)
                if peer.closed:
                    return
        if peer.have is not None:
            fetching.fill(peer, now)
        if peer.stream.unsent or peer.stream.uploads:
            peer.flush()

    def handle_closed(self, peer: PeerConnection, reason: str) -> None:
        if peer.have is not None:
            self._fetching.peer_left(peer)
        self._serving.peer_left(peer)
        if self._hashes is not None:
            self._hashes.peer_left(peer)
        self._owner.dropped(peer, reason)

    # greetings

    def _handshake(self, peer: PeerConnection, event: tuple[Any, ...], now: float) -> None:
        handshake = read_handshake(peer, event, self._names)
        if handshake is None:
            return
        refused = self._owner.greeted(peer)
        if refused is not None:
            peer.close(refused)
            return
        peer.greeted = True
        if handshake.extensions:
            self._extended.greet(peer)
        have = self._serving.offered
        if peer.fast and have.all():
            peer.send(messages.HAVE_ALL)
        elif peer.fast and have.none():
            peer.send(messages.HAVE_NONE)
        elif not have.none():
            peer.send(messages.encode_bitfield(have.to_bytes()))
        if self._hashes is not None:
            self._hashes.peer_joined(peer, now)

    def _introduced(self, peer: PeerConnection, said: ExtendedHandshake, now: float) -> None:
        self._owner.introduced(peer)
        self._judge_use(peer)

    def _upload_only(self, peer: PeerConnection, body: bytes, now: float) -> None:
        peer.upload_only = decode_upload_only(body)
        self._owner.introduced(peer)
        self._judge_use(peer)

    def _judge_use(self, peer: PeerConnection) -> None:
        """Two who both want nothing have nothing to say to each other (BEP 21)."""
        if self._pieces.complete and (peer.is_seed or peer.upload_only):
            peer.close("both have everything" if peer.is_seed else "neither wants anything")

    def handle_complete(self, peers: list[PeerConnection]) -> None:
        """The last piece is there: from now on we only serve."""
        for peer in peers:
            self._judge_use(peer)
            if not peer.closed and self._extended.send(peer, "upload_only", encode_upload_only(True)):
                peer.flush()

    def _port(self, peer: PeerConnection, event: tuple[Any, ...], now: float) -> None:
        if self._dht is not None:
            self._dht.handle_port(peer.address.host, event[1])

    def _dont_have(self, peer: PeerConnection, body: bytes, now: float) -> None:
        index = decode_dont_have(body)
        if peer.have is not None and index < len(peer.have):
            self._fetching.picker.peer_lacks(peer.number, index)
            self._fetching.asked.handle_lacks(peer, index)
            peer.is_seed = False

    # what it has

    def _bitfield(self, peer: PeerConnection, event: tuple[Any, ...], now: float) -> None:
        count = self._torrent.geometry.piece_count
        if event[0] != ids.BITFIELD:
            if not peer.fast:
                peer.close("it uses the fast extension, which was not negotiated")
                return
            have = Bitfield.full(count) if event[0] == ids.HAVE_ALL else Bitfield(count)
        else:
            try:
                have = Bitfield(count, event[1])
            except ValueError as error:
                peer.close(f"its bitfield is wrong: {error}")
                return
        if peer.have is None:
            self._knows(peer, have)
            return
        # aria2 sends it again where that is shorter than the HAVEs since.
        for index in have.and_not(peer.have).indices():
            self._have(peer, (ids.HAVE, index), now)
            if peer.closed:
                return

    def _knows(self, peer: PeerConnection, have: Bitfield) -> None:
        peer.have = have
        self._fetching.picker.peer_joined(peer.number, have)
        self._serving.handle_bitfield(peer, have, self._context.loop.time())
        self._has_more(peer)

    def _have(self, peer: PeerConnection, event: tuple[Any, ...], now: float) -> None:
        index = event[1]
        if index >= self._torrent.geometry.piece_count:
            peer.close(f"it has piece {index}, which does not exist")
            return
        if peer.have is None:
            self._knows(peer, Bitfield(self._torrent.geometry.piece_count))
        if self._fetching.picker.peer_has(peer.number, index) and not peer.am_interested:
            peer.interested(True)
        assert peer.have is not None
        self._serving.handle_have(peer, index, now)
        if not peer.is_seed and peer.have.all():
            self._has_more(peer)

    def _suggest(self, peer: PeerConnection, event: tuple[Any, ...], now: float) -> None:
        if peer.have is not None and peer.fast and not self._pieces.complete:
            self._fetching.picker.peer_suggests(peer.number, event[1])

    def _allowed_fast(self, peer: PeerConnection, event: tuple[Any, ...], now: float) -> None:
        handle_allowed(peer, event[1], self._pieces)

    def _has_more(self, peer: PeerConnection) -> None:
        assert peer.have is not None
        peer.is_seed = peer.have.all()
        if self._pieces.complete:
            self._judge_use(peer)
        elif not peer.am_interested and self._fetching.picker.interesting(peer.number):
            peer.interested(True)

    def announce_lost(self, index: int, peers: list[PeerConnection]) -> None:
        """A piece that we have told of is not there any more (BEP 54)."""
        for peer in peers:
            if peer.greeted and self._extended.send(peer, "lt_donthave", encode_dont_have(index)):
                peer.flush()

    # who may ask whom

    def _choke(self, peer: PeerConnection, event: tuple[Any, ...], now: float) -> None:
        peer.peer_choking = True
        peer.choked_at = now
        if peer.have is not None:
            self._fetching.asked.handle_choked(peer)

    def _unchoke(self, peer: PeerConnection, event: tuple[Any, ...], now: float) -> None:
        peer.peer_choking = False
        peer.unchoked_at = now
        if peer.have is None:
            self._knows(peer, Bitfield(self._torrent.geometry.piece_count))

    def _interested(self, peer: PeerConnection, event: tuple[Any, ...], now: float) -> None:
        peer.peer_interested = True
        self._owner.handle_interested(peer, now)

    def _not_interested(self, peer: PeerConnection, event: tuple[Any, ...], now: float) -> None:
        peer.peer_interested = False
        self._owner.handle_not_interested(peer)

    # blocks

    def _request(self, peer: PeerConnection, event: tuple[Any, ...], now: float) -> None:
        self._serving.handle_request(peer, event[1], event[2], event[3])

    def _requests(self, peer: PeerConnection, event: tuple[Any, ...], now: float) -> None:
        self._serving.handle_requests(peer, event[1], event[2], event[3])

    def _cancel(self, peer: PeerConnection, event: tuple[Any, ...], now: float) -> None:
        self._serving.handle_cancel(peer, event[1], event[2], event[3])

    def _reject(self, peer: PeerConnection, event: tuple[Any, ...], now: float) -> None:
        if not peer.fast:
            peer.close("it uses the fast extension, which was not negotiated")
        elif peer.have is not None:
            self._fetching.asked.handle_reject(peer, event[1], event[2], event[3])

    def _aside(self, peer: PeerConnection, event: tuple[Any, ...], now: float) -> None:
        self._fetching.handle_aside(peer, event[1], event[2], event[3], now)

    def _closed(self, peer: PeerConnection, event: tuple[Any, ...], now: float) -> None:
        peer.close(event[1])

    def _extension(self, peer: PeerConnection, event: tuple[Any, ...], now: float) -> None:
        self._extended.handle(peer, event, now)

    def _hash_request(self, peer: PeerConnection, event: tuple[Any, ...], now: float) -> None:
        if self._hashes is not None:
            self._hashes.handle_request(peer, event, now)

    def _hashes_come(self, peer: PeerConnection, event: tuple[Any, ...], now: float) -> None:
        if self._hashes is not None:
            self._hashes.handle_hashes(peer, event, now)

    def _hash_reject(self, peer: PeerConnection, event: tuple[Any, ...], now: float) -> None:
        if self._hashes is not None:
            self._hashes.handle_reject(peer, event, now)

    _HANDLERS: ClassVar[dict[int, Callable[[Conversation, PeerConnection, tuple[Any, ...], float], None]]] = {
        HANDSHAKE_EVENT: _handshake,
        ids.CHOKE: _choke,
        ids.UNCHOKE: _unchoke,
        ids.INTERESTED: _interested,
        ids.NOT_INTERESTED: _not_interested,
        ids.HAVE: _have,
        ids.SUGGEST: _suggest,
        ids.ALLOWED_FAST: _allowed_fast,
        ids.BITFIELD: _bitfield,
        ids.HAVE_ALL: _bitfield,
        ids.HAVE_NONE: _bitfield,
        ids.REQUEST: _request,
        REQUESTS_EVENT: _requests,
        ids.CANCEL: _cancel,
        ids.REJECT: _reject,
        ids.EXTENDED: _extension,
        ids.PORT: _port,
        BLOCK_EVENT: _aside,
        CLOSED_EVENT: _closed,
        ids.HASH_REQUEST: _hash_request,
        ids.HASHES: _hashes_come,
        ids.HASH_REJECT: _hash_reject,
    }

    # time

    def tick(self, peers: list[PeerConnection], now: float) -> None:
        """Once a second: drops the silent and the noisy, keeps the idle alive, says when we have become uninterested."""
        seconds = max(1.0, now - self._ticked)
        self._ticked = now
        if self._hashes is not None:
            self._hashes.ask(now)
        for peer in peers:
            if not still_welcome(peer, self._explained(peer), seconds, now):
                continue
            if peer.dht_owed and self._dht is not None:
                self._dht.introduce(peer)
            if peer.have is not None and not self._pieces.complete and peer.stream.outstanding == 0:
                wanted = self._fetching.picker.interesting(peer.number)
                if wanted != peer.am_interested:
                    peer.interested(wanted)
                    peer.flush()

    def _explained(self, peer: PeerConnection) -> int:
        """Messages so far that do something.

        Blocks that were asked for explain a message each; blocks that it got explain two, a cancel among them; so does
        each piece that it has.
        """
        explained = (peer.stream.payload + 2 * peer.stream.payload_sent) // self._mean_block
        return explained + (peer.have.count if peer.have is not None else 0)
