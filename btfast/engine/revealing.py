"""Super-seeding, carried out: which pieces each peer of one torrent hears of, until the swarm holds them all."""

from __future__ import annotations

from collections.abc import Iterable

from btfast._bitfield import Bitfield
from btfast.engine.connection import PeerConnection
from btfast.engine.context import Context
from btfast.swarm.super_seeding import Shown, SuperSeeding
from btfast.wire import messages


class Revealing:
    """`active` while we pretend to have nothing."""

    def __init__(self, context: Context, piece_count: int, peers: dict[int, PeerConnection]) -> None:
        self._loop = context.loop
        self._peers = peers
        self._super = SuperSeeding(piece_count, context.rng)
        self._known: set[int] = set()
        self.active = piece_count > 0

    def may_ask(self, peer: PeerConnection, index: int) -> bool:
        """Whether the peer may know that we have the piece."""
        return not self.active or self._super.may_ask(peer.number, index)

    def handle_bitfield(self, peer: PeerConnection, have: Bitfield, now: float) -> None:
        """It has said what it has; who has everything is none of our business."""
        if self.active and not have.all() and peer.number not in self._known:
            self._known.add(peer.number)
            self._show(self._super.peer_joined(peer.number, have, now))

    def handle_have(self, peer: PeerConnection, index: int, now: float) -> None:
        if self.active:
            self._show(self._super.peer_has(peer.number, index, now))

    def peer_left(self, peer: PeerConnection) -> None:
        self._known.discard(peer.number)
        self._super.peer_left(peer.number, self._loop.time())

    def tick(self, now: float) -> None:
        """Once a second: newcomers that have nothing to say, peers that have waited long enough, and the end of it."""
        if not self.active:
            return
        for peer in list(self._peers.values()):
            if peer.greeted and peer.number not in self._known and now - peer.connected_at > 1.0:
                nothing = Bitfield(len(self._super))
                self.handle_bitfield(peer, peer.have if peer.have is not None else nothing, now)
        self._show(self._super.poll(now))
        if self._super.complete:
            self._reveal_all()

    def _show(self, shown: Shown) -> None:
        told: dict[int, list[int]] = {}
        for number, index in shown:
            told.setdefault(number, []).append(index)
        self._tell(told.items())

    def _reveal_all(self) -> None:
        """Every piece has been seen elsewhere: from here on we are a seed like any other."""
        self.active = False
        self._tell(
            (peer.number, [index for index in range(len(self._super)) if not self._super.may_ask(peer.number, index)])
            for peer in list(self._peers.values())
            if peer.greeted and not peer.is_seed
        )

    def _tell(self, told: Iterable[tuple[int, list[int]]]) -> None:
        for number, indexes in told:
            peer = self._peers.get(number)
            if peer is not None:
                peer.send(messages.encode_haves(indexes))
                peer.flush()
