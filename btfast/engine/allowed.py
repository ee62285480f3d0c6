"""What may be asked for in spite of a choke (BEP 6, ALLOWED FAST), both ways."""

from __future__ import annotations

from btfast._bitfield import Bitfield
from btfast.engine.connection import PeerConnection
from btfast.metainfo.geometry import Geometry
from btfast.swarm.allowed_fast import Allowance, Grant, GrantedHosts, allowed_fast_set, set_size
from btfast.swarm.pieces import Pieces
from btfast.wire import messages

FEW_PIECES = 16  # who has so many has something to trade, and waits to be unchoked
CHOKED_LONG = 2.0  # seconds: who is going to unchoke us mostly has by then, and lets us choose among all its pieces
MOST_ASKED = 8  # blocks that are asked for at a time of a peer that chokes us


class Granting:
    """Tells newcomers which pieces they need not wait for. `peer.granted` says to whom what was granted."""

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self._count = set_size(geometry.piece_length)
        self._hosts = GrantedHosts()

    def grant(self, peer: PeerConnection, have: Bitfield, offered: Bitfield, now: float) -> None:
        """A peer says what it has; `offered` is what we have, or pretend to."""
        if not peer.fast or not peer.am_choking or have.count >= self._count:
            return
        host = peer.address.host
        allowed = allowed_fast_set(host, peer.info_hash, self._geometry.piece_count, self._count)
        pieces = [index for index in allowed if offered[index] and not have[index]]
        if pieces and self._hosts.take(host, now):
            peer.granted = Grant(pieces, self._geometry.piece_length)
            peer.send(b"".join([messages.encode_allowed_fast(index) for index in pieces]))

    def peer_left(self, peer: PeerConnection, now: float) -> None:
        if peer.granted is not None:
            self._hosts.left(peer.address.host, now)


def handle_allowed(peer: PeerConnection, index: int, pieces: Pieces) -> None:
    """ALLOWED FAST. It may come before the peer has the piece, or has said so."""
    if peer.fast and index < len(pieces) and not pieces.complete:
        if peer.allowance is None:
            peer.allowance = Allowance()
        peer.allowance.add(index)


def to_ask(peer: PeerConnection, pieces: Pieces, now: float) -> list[int]:
    """What a peer that chokes us may be asked for: nothing where there is no need."""
    if peer.allowance is None or pieces.have.count >= FEW_PIECES:
        return []
    return peer.allowance.pieces if now - max(peer.choked_at, peer.connected_at) >= CHOKED_LONG else []
