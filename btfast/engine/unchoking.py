"""Who may ask us for blocks: the choker's rounds, carried out."""

from __future__ import annotations

from btfast.engine.connection import PeerConnection
from btfast.engine.context import Context
from btfast.swarm.choker import ROUND, Choker, PeerStats
from btfast.swarm.rates import Rate


class Unchoking:
    """One torrent's upload slots."""

    def __init__(self, context: Context, peers: dict[int, PeerConnection]) -> None:
        now = context.loop.time()
        self._context = context
        self._peers = peers
        self._choker = Choker()
        self._next_round = now + ROUND
        self._rate = Rate(now)
        self._sent_before: dict[int, int] = {}
        self._at_round: dict[int, tuple[int, int]] = {}  # payload from and to each peer when the last round was held

    def handle_interested(self, peer: PeerConnection, now: float) -> None:
        """A free slot is given at once: a peer that has to wait for the next round is lost time for both."""
        if self._choker.handle_interested(peer.number, now):
            peer.unchoke()

    def handle_not_interested(self, peer: PeerConnection) -> None:
        self._choker.handle_not_interested(peer.number)

    def dropped(self, peer: PeerConnection) -> None:
        self._choker.peer_left(peer.number)
        self._sent_before.pop(peer.number, None)
        self._at_round.pop(peer.number, None)

    def tick(self, now: float, *, seeding: bool) -> None:
        """Once a second; does a round when it is due."""
        for peer in self._peers.values():
            sent = peer.stream.payload_sent
            grown = sent - self._sent_before.get(peer.number, 0)
            self._rate.add(now, grown)
            self._sent_before[peer.number] = sent
            if grown:
                peer.last_served = now
        if now < self._next_round:
            return
        self._next_round = now + ROUND
        stats = [self._stats(peer) for peer in self._peers.values() if peer.greeted]
        unchoke, choke = self._choker.round(now, stats, seeding=seeding)
        for number in choke:
            self._peers[number].choke()
            self._peers[number].flush()
        for number in unchoke:
            self._peers[number].unchoke()
            self._peers[number].flush()

    def _stats(self, peer: PeerConnection) -> PeerStats:
        received, sent = self._at_round.get(peer.number, (0, 0))
        self._at_round[peer.number] = (peer.stream.payload, peer.stream.payload_sent)
        return PeerStats(
            peer.number,
            peer.peer_interested,
            (peer.stream.payload - received) / ROUND,
            (peer.stream.payload_sent - sent) / ROUND,
        )

    def rate(self, now: float) -> float:
        """Payload sent, bytes a second."""
        return self._rate.value(now)
