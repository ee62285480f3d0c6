"""The open pieces of a torrent: whose they are, which have free blocks, and what is asked of whom."""

from __future__ import annotations

from btfast.swarm.blocks import NOBODY, BlockRun, OpenPiece, PeerWork, runs_of


class OpenPieces:
    """Keeps the masks of each piece and the work of each peer in step. `peers` is the picker's own."""

    def __init__(self, peers: dict[int, PeerWork]) -> None:
        self._peers = peers
        self.all: dict[int, OpenPiece] = {}  # RECEIVING and HASHING pieces
        self.free: dict[int, OpenPiece] = {}  # those with free blocks, oldest first
        self.loose: dict[int, OpenPiece] = {}  # those of them without an owner
        self.locked: set[int] = set()  # those with blocks for which there is no room yet

    def add(self, piece: OpenPiece) -> None:
        """A piece was opened."""
        self.all[piece.index] = piece
        if piece.locked:
            self.locked.add(piece.index)
        if piece.free:
            self.free[piece.index] = piece
            if piece.owner == NOBODY:
                self.loose[piece.index] = piece

    def abandon(self, index: int) -> None:
        """A loose piece is given up."""
        del self.loose[index], self.free[index], self.all[index]
        self.locked.discard(index)

    def unlock(self, index: int, room: int) -> None:
        """There is memory for the first `room` blocks of a piece now (or was: they may have come already)."""
        piece = self.all[index]
        more = piece.locked & ((1 << room) - 1)
        piece.locked ^= more
        if not piece.locked:
            self.locked.discard(index)
        self.set_free(piece, more)

    def own(self, me: PeerWork, piece: OpenPiece) -> None:
        """A loose piece is drawn from by one peer from here on."""
        del self.loose[piece.index]
        piece.owner = me.number
        me.own = piece

    def take(self, me: PeerWork, piece: OpenPiece, blocks: int, runs: list[BlockRun]) -> int:
        """Asks at most `blocks` free blocks of a piece of a peer and adds them to `runs`; how many."""
        free = piece.free
        index = piece.index
        before = blocks
        taken = 0
        while free and blocks:
            first = (free & -free).bit_length() - 1
            rest = free >> first
            count = min((~rest & (rest + 1)).bit_length() - 1, blocks)
            bits = ((1 << count) - 1) << first
            runs.append(BlockRun(index, first, count))
            free ^= bits
            taken |= bits
            blocks -= count
        self._taken(me, piece, taken, before - blocks)
        return before - blocks

    def take_run(self, me: PeerWork, piece: OpenPiece, first: int, blocks: int, runs: list[BlockRun]) -> None:
        """Asks at most `blocks` free blocks in a row, from block `first` on, of a peer and adds them to `runs`."""
        rest = piece.free >> first
        count = min((~rest & (rest + 1)).bit_length() - 1, blocks)
        if count:
            runs.append(BlockRun(piece.index, first, count))
            self._taken(me, piece, ((1 << count) - 1) << first, count)

    def _taken(self, me: PeerWork, piece: OpenPiece, bits: int, count: int) -> None:
        piece.free &= ~bits
        if not piece.free:
            self.drained(piece)
        number = me.number
        piece.holders[number] = piece.holders.get(number, 0) | bits
        me.open[piece.index] = piece
        me.outstanding += count

    def unhold(self, me: PeerWork, piece: OpenPiece, bits: int, count: int) -> None:
        """These `count` blocks are not asked of the peer any more."""
        left = piece.holders[me.number] ^ bits
        if left:
            piece.holders[me.number] = left
        else:
            del piece.holders[me.number]
            del me.open[piece.index]
        me.outstanding -= count
        piece.levels = None

    def release(self, piece: OpenPiece, bits: int) -> None:
        """Blocks that one holder gave up become free unless another has them."""
        if piece.doubled:
            for mask in piece.holders.values():
                bits &= ~mask
        self.set_free(piece, bits)

    def set_free(self, piece: OpenPiece, bits: int) -> None:
        """These blocks can be asked of anybody."""
        if not bits:
            return
        if not piece.free:
            self.free[piece.index] = piece
            self.loose[piece.index] = piece
        piece.free |= bits

    def claim(self, piece: OpenPiece, fresh: int, cancel: list[tuple[int, BlockRun]]) -> None:
        """Blocks that came are neither free nor asked of anybody any more."""
        if piece.free & fresh:
            piece.free &= ~fresh
            if not piece.free:
                self.drained(piece)
        for number, mask in list(piece.holders.items()):
            both = mask & fresh
            if both:
                self.unhold(self._peers[number], piece, both, both.bit_count())
                cancel.extend((number, run) for run in runs_of(piece.index, both))

    def unsend(self, piece: OpenPiece, peer: int) -> bool:
        """Blocks that a peer has sent are wanted again; whether there are any."""
        bits = 0
        for run in piece.sent:
            if run[0] == peer:
                bits |= ((1 << run[2]) - 1) << run[1]
        if bits:
            piece.sent = [run for run in piece.sent if run[0] != peer]
            piece.received &= ~bits
            self.set_free(piece, bits)
        return bits != 0

    def mend(self, piece: OpenPiece, bad: int, room: int) -> None:
        """A whole piece has `bad` blocks, which are wanted again; who sent the others, which are right, matters no more.

        There is memory for the first `room` blocks.
        """
        within = bad & ((1 << room) - 1)
        piece.received = piece.full & ~bad
        piece.sent = []
        piece.solo = piece.doubled = False
        piece.levels = None
        piece.locked = bad ^ within
        if piece.locked:
            self.locked.add(piece.index)
        self.set_free(piece, within)

    def drained(self, piece: OpenPiece) -> None:
        """The last free block is taken: nobody draws from it."""
        index = piece.index
        del self.free[index]
        if piece.owner == NOBODY:
            self.loose.pop(index, None)
        else:
            self._peers[piece.owner].own = None
            piece.owner = NOBODY

    def disown(self, me: PeerWork) -> None:
        """What a peer has not taken of its own piece is for all."""
        piece = me.own
        if piece is not None:
            me.own = None
            piece.owner = NOBODY
            self.loose[piece.index] = piece
