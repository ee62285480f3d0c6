"""What a seed suggests to its peers, carried out: each is told by SUGGEST (BEP 6) what nobody else is being sent."""

from __future__ import annotations

from collections.abc import Callable

from btfast._bitfield import Bitfield
from btfast.engine.connection import PeerConnection
from btfast.engine.context import Context
from btfast.metainfo.geometry import Geometry
from btfast.swarm.spreading import Spreading
from btfast.wire import messages

MOST_PIECES = 4096  # of a torrent: a peer that joins with many costs half a microsecond for each
QUIET = 1.0  # seconds after which a peer that has said nothing of its pieces has none


class Suggesting:
    """One torrent's, while it is seeded. `piece_end` is called when a peer has got a piece that it was being sent."""

    def __init__(self, context: Context, geometry: Geometry, peers: dict[int, PeerConnection]) -> None:
        self._loop = context.loop
        self._pieces = geometry.piece_count
        self._peers = peers
        self._spreading = Spreading(geometry.piece_count, geometry.piece_length, context.rng)
        self._known: set[int] = set()
        self._rates: dict[int, tuple[int, float]] = {}  # payload sent before, bytes a second since
        self.piece_end: Callable[[PeerConnection, float], None] = lambda peer, now: None

    @property
    def needed(self) -> bool:
        """Whether there are pieces that hardly anybody has."""
        return self._spreading.needed

    def handle_bitfield(self, peer: PeerConnection, have: Bitfield, now: float) -> None:
        """It has said what it has; who has everything is none of our business."""
        if peer.number not in self._known and not have.all():
            self._known.add(peer.number)
            self._spreading.peer_joined(peer.number, have, now)
            if not peer.am_choking:
                self.serve(peer, now)

    def handle_have(self, peer: PeerConnection, index: int, now: float) -> None:
        if self._spreading.peer_has(peer.number, index, now):
            self.piece_end(peer, now)
        self._suggest(peer, now)

    def peer_left(self, peer: PeerConnection) -> None:
        self._known.discard(peer.number)
        self._rates.pop(peer.number, None)
        self._spreading.peer_left(peer.number, self._loop.time())

    def serve(self, peer: PeerConnection, now: float) -> None:
        """It is about to be unchoked."""
        self._spreading.handle_served(peer.number)
        self._rates[peer.number] = (peer.stream.payload_sent, 0.0)
        self._suggest(peer, now)

    def refuse(self, peer: PeerConnection) -> None:
        """It has been choked."""
        self._spreading.handle_refused(peer.number)
        self._rates.pop(peer.number, None)

    def arrears(self, peer: PeerConnection) -> bool:
        return self._spreading.arrears(peer.number)

    def busy(self, peer: PeerConnection) -> bool:
        return self._spreading.busy(peer.number)

    def tick(self, now: float) -> None:
        """Once a second."""
        for peer in list(self._peers.values()):
            if peer.number not in self._known and peer.greeted and now - peer.connected_at > QUIET:
                self.handle_bitfield(peer, peer.have if peer.have is not None else Bitfield(self._pieces), now)
            if peer.number not in self._rates:
                continue
            sent, before = peer.stream.payload_sent, self._rates[peer.number][0]
            self._rates[peer.number] = (sent, float(sent - before))
            if (index := peer.stream.uploading) >= 0:
                self._spreading.handle_sending(peer.number, index)
            self._suggest(peer, now)
            peer.flush()

    def _suggest(self, peer: PeerConnection, now: float) -> None:
        if not peer.fast or not self._spreading.needed:
            return
        rate = self._rates.get(peer.number, (0, 0.0))[1]
        for index in self._spreading.suggest(peer.number, rate, now):
            peer.send(messages.encode_suggest(index))
