"""Blocks that were asked of a peer and are free for others again: choked, rejected, too slow, given back."""

from __future__ import annotations

from btfast.engine.connection import PeerConnection
from btfast.engine.context import Context
from btfast.metainfo.geometry import BLOCK
from btfast.swarm.blocks import BlockRun
from btfast.swarm.picker import Picker

MOST_REJECTS = 2000  # blocks in a row from a peer that has unchoked us; Transmission rejects some hundreds at most
SNUBBED_TOO_LONG = 60.0  # seconds without a block from a peer that has unchoked us and is asked
REJECT_PATIENCE = 10.0  # seconds that a peer with the fast extension has to reject what it will not send after a choke


class AskedBlocks:
    """Keeps stream, pipeline and picker of one torrent in step when blocks come back."""

    def __init__(self, context: Context, picker: Picker) -> None:
        self._context = context
        self._picker = picker
        self.freed = False  # idle peers may take blocks that others were asked for

    def handle_choked(self, peer: PeerConnection) -> None:
        """Without the fast extension a choke drops every request; with it each is rejected."""
        if not peer.fast:
            self.give_up(peer)

    def handle_reject(self, peer: PeerConnection, index: int, begin: int, length: int) -> None:
        """REJECT (BEP 6)."""
        if begin % BLOCK or length > BLOCK:
            return  # nothing that we ever ask for
        removed = peer.stream.cancel(index, begin, length, tell=False)
        if not removed:
            return
        self.freed = True
        blocks = -(-removed // BLOCK)
        if peer.peer_choking:
            peer.pipeline.handle_returned(blocks)
            if peer.allowance is not None:
                peer.allowance.refuse(index)
        else:
            peer.pipeline.handle_rejected(blocks)
            peer.rejects += blocks
        self._picker.returned(peer.number, BlockRun(index, begin // BLOCK, blocks))
        if peer.rejects > MOST_REJECTS:
            peer.close("it rejects all that it is asked for")

    def give_up(self, peer: PeerConnection, *, tell: bool = False) -> None:
        """All that was asked of the peer may be asked of others."""
        if tell:
            for index, begin, length in peer.stream.open_runs():
                peer.stream.cancel(index, begin, length)
        peer.stream.drop_requests()
        self.freed = True
        self._picker.returned_all(peer.number)
        peer.pipeline.handle_returned(peer.pipeline.outstanding)

    def take_back(self, peer: PeerConnection, run: BlockRun) -> None:
        """The peer is told that it need not send this run any more."""
        removed = peer.stream.cancel(run.index, run.first * BLOCK, run.count * BLOCK, tell=True)
        peer.pipeline.handle_returned(-(-removed // BLOCK))

    def handle_lacks(self, peer: PeerConnection, index: int) -> None:
        """The peer has lost a piece (BEP 54): what it was asked of it is asked of others, and it hears that at once."""
        for piece, begin, length in peer.stream.open_runs():
            if piece == index:
                run = BlockRun(index, begin // BLOCK, -(-length // BLOCK))
                self.take_back(peer, run)
                self._picker.returned(peer.number, run)
                self.freed = True

    def review(self, peer: PeerConnection, now: float) -> None:
        """A peer that owes blocks: slow ones give back what they will not deliver soon, silent ones everything."""
        if peer.peer_choking:
            if now - max(peer.choked_at, peer.asked_choked_at, peer.last_payload) > REJECT_PATIENCE:
                self.give_up(peer)
                if peer.allowance is not None:
                    peer.allowance.refuse_all()
        elif peer.pipeline.snubbed(now):
            if now - max(peer.last_payload, peer.unchoked_at) > SNUBBED_TOO_LONG:
                peer.close("it leaves requests unanswered")
            else:
                self.give_up(peer, tell=True)
        else:
            self.give_surplus_back(peer, now)

    def give_surplus_back(self, peer: PeerConnection, now: float) -> None:
        """What the peer has been asked for beyond what it delivers in time."""
        surplus = peer.pipeline.surplus(now, tight=bool(self._context.starved))
        if surplus <= 0:
            return
        for index, begin, length in reversed(peer.stream.open_runs()):
            blocks = min(surplus, -(-length // BLOCK))
            first = -(-(begin + length) // BLOCK) - blocks
            run = BlockRun(index, first, blocks)
            self.take_back(peer, run)
            self._picker.returned(peer.number, run)
            surplus -= blocks
            if surplus <= 0:
                return
