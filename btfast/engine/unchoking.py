"""Who may ask us for blocks: the choker's rounds, carried out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btfast.engine.connection import PeerConnection
from btfast.engine.context import Context
from btfast.swarm.choker import ROUND, SNUBBED, Choker, PeerStats
from btfast.swarm.rates import Rate

if TYPE_CHECKING:  # it is loaded when a torrent is seeded
    from btfast.engine.suggesting import Suggesting


class Unchoking:
    """One torrent's upload slots. `suggesting`: of a seed, which also says who keeps to itself what it gets."""

    def __init__(
        self, context: Context, peers: dict[int, PeerConnection], suggesting: Suggesting | None = None
    ) -> None:
        now = context.loop.time()
        self._context = context
        self._peers = peers
        self._made: Choker | None = None
        self._suggesting = suggesting
        if suggesting is not None:
            suggesting.piece_end = self._handle_piece_end
        self._last_round = now
        self._rate = Rate(now)
        self._sent_before: dict[int, int] = {}
        # Of each peer when the last round was held: payload from it and to it, and the rate at which it gave.
        self._at_round: dict[int, tuple[int, int, float]] = {}

    @property
    def _choker(self) -> Choker:
        """Made when it is first needed: many torrents are served that nobody wants."""
        if self._made is None:
            self._made = Choker(self._context.rng)
        return self._made

    def handle_interested(self, peer: PeerConnection, now: float) -> None:
        """A free slot is given at once: a peer that has to wait for the next round is lost time for both."""
        if self._choker.handle_interested(peer.number, now):
            self._unchoke(peer)

    def handle_not_interested(self, peer: PeerConnection) -> None:
        self._choker.handle_not_interested(peer.number)
        self._give_free(self._context.loop.time())

    def dropped(self, peer: PeerConnection) -> None:
        self._choker.peer_left(peer.number)
        self._sent_before.pop(peer.number, None)
        self._at_round.pop(peer.number, None)
        self._give_free(self._context.loop.time())

    def _give_free(self, now: float) -> None:
        """Slots that nobody has go to those who wait, at once."""
        for number in self._choker.poll_free(now):
            self._tell(number, choked=False)

    def _tell(self, number: int, *, choked: bool) -> None:
        peer = self._peers.get(number)
        if peer is None or choked == self._choker.is_unchoked(number):
            return  # another one that has just been told was gone, and this changed since
        if choked:
            peer.choke()
            if self._suggesting is not None:
                self._suggesting.refuse(peer)
        else:
            self._unchoke(peer)
        peer.flush()

    def _unchoke(self, peer: PeerConnection) -> None:
        """What is suggested comes first: it asks as soon as it may."""
        if self._suggesting is not None:
            self._suggesting.serve(peer, self._context.loop.time())
        peer.unchoke()

    def _handle_piece_end(self, peer: PeerConnection, now: float) -> None:
        """Its turn was over, and it was let finish the piece."""
        if self._choker.handle_piece_end(peer.number, now):
            self._tell(peer.number, choked=True)
            self._give_free(now)

    def tick(self, now: float, *, seeding: bool) -> None:
        """Once a second; does a round when it is due."""
        for peer in self._peers.values():
            sent = peer.stream.payload_sent
            grown = sent - self._sent_before.get(peer.number, 0)
            self._rate.add(now, grown)
            self._sent_before[peer.number] = sent
            if grown:
                peer.last_served = now
        if self._made is None and not self._peers:
            return
        seconds = now - self._last_round
        if seconds < ROUND:
            self._give_free(now)
            return
        self._last_round = now
        stats = [self._stats(peer, now, seconds) for peer in self._peers.values() if peer.greeted]
        unchoke, choke = self._choker.round(now, stats, seeding=seeding)
        for number in choke:
            self._tell(number, choked=True)
        for number in unchoke:
            self._tell(number, choked=False)

    def _stats(self, peer: PeerConnection, now: float, seconds: float) -> PeerStats:
        """What it gave counts for half as much each round later: blocks come in lumps."""
        received, sent = peer.stream.payload, peer.stream.payload_sent
        received_before, sent_before, gave = self._at_round.get(peer.number, (0, 0, 0.0))
        gave = (gave + (received - received_before) / seconds) / 2
        self._at_round[peer.number] = (received, sent, gave)
        snubbed = now - peer.last_payload > SNUBBED
        suggesting = self._suggesting
        return PeerStats(
            peer.number, peer.peer_interested, gave, (sent - sent_before) / seconds, snubbed,
            refuses=peer.am_interested and peer.peer_choking,
            arrears=suggesting is not None and suggesting.arrears(peer),
            busy=suggesting is not None and suggesting.busy(peer),
        )  # fmt: skip

    def rate(self, now: float) -> float:
        """Payload sent, bytes a second."""
        return self._rate.value(now)
