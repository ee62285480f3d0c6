"""Runs of blocks, masks of blocks (bit b = block b of a piece), and the record of an open piece."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from btfast._bitfield import Bitfield

NOBODY = -1
ALL_BLOCKS = 1 << 30  # more than any piece has


class BlockRun(NamedTuple):
    """Blocks first .. first + count - 1 of piece `index`."""

    index: int  # type: ignore[assignment]  # a piece has an index; nobody searches a run
    first: int
    count: int  # type: ignore[assignment]


class Received(NamedTuple):
    """What a run brought: blocks that were new, whether the piece is whole now, and whom to cancel what."""

    new: int
    whole: bool
    cancel: list[tuple[int, BlockRun]]


class SlotSource(Protocol):
    """Gives memory for pieces."""

    def open_piece(self, index: int) -> int:
        """Allocates room for piece `index`; for how many of its blocks, from the first on: 0 when there is none now.

        ALL_BLOCKS, or more than it has: for the whole piece. When there is less, `unlock` follows.
        """


NOTHING_NEW = Received(0, False, [])


class OpenPiece:
    """A piece with room: which blocks came, which are asked of whom, which of nobody, and who sent what.

    `room`: for so many of its blocks, from the first on, there is memory; the others are locked until there is.
    """

    __slots__ = ("doubled", "free", "full", "holders", "index", "levels", "locked", "owner", "received", "sent", "solo")

    def __init__(self, index: int, blocks: int, owner: int, *, room: int = ALL_BLOCKS, solo: bool = False) -> None:
        self.index = index
        self.full = (1 << blocks) - 1
        self.free = (1 << min(room, blocks)) - 1
        self.locked = self.full ^ self.free
        self.received = 0
        self.holders: dict[int, int] = {}  # peer: mask of blocks asked of it, never 0
        self.owner = owner  # the peer that draws from it; NOBODY when it is drained or loose
        self.sent: list[tuple[int, int, int]] = []  # peer, first, count in order of arrival
        self.doubled = False  # some block may have two holders
        self.levels: tuple[int, int] | None = None  # blocks with two holders or more, with three; None: not known now
        self.solo = solo  # failed before: fetched from one peer, so that a second failure names it

    @classmethod
    def resumed(cls, index: int, blocks: int, received: int, *, room: int = ALL_BLOCKS) -> OpenPiece:
        """A piece of which an earlier run has received the blocks of a mask: from NOBODY who could be blamed for them."""
        piece = cls(index, blocks, NOBODY, room=room)
        piece.received = received & piece.full
        piece.free &= ~piece.received
        piece.locked &= ~piece.received
        piece.sent = [(NOBODY, run.first, run.count) for run in runs_of(index, piece.received)]
        return piece

    def held_by(self, holders: int) -> int:
        """Blocks that are asked of `holders` peers or more; holders is 2 or 3."""
        levels = self.levels
        if levels is None:
            one = two = three = 0
            for mask in self.holders.values():
                three |= two & mask
                two |= one & mask
                one |= mask
            levels = self.levels = (two, three)
        return levels[holders - 2]


class PeerWork:
    """What one peer has, and what is asked of it."""

    __slots__ = ("got", "have", "hints", "last", "mask", "number", "open", "outstanding", "own")

    def __init__(self, number: int, have: Bitfield, mask: int | None) -> None:
        self.number = number
        self.have = have
        self.mask = mask  # None: it has every piece
        self.own: OpenPiece | None = None
        self.last = -1  # the piece that was opened for it last
        self.hints: list[int] = []  # pieces that it suggests, the first one first
        self.open: dict[int, OpenPiece] = {}  # pieces with blocks asked of it, in the order of asking
        self.outstanding = 0
        self.got = 0


def mask_of_run(run: BlockRun) -> int:
    """The bits of a run."""
    return ((1 << run.count) - 1) << run.first


def runs_of(index: int, bits: int) -> list[BlockRun]:
    """The set bits of a mask as runs of piece `index`, lowest first."""
    runs = []
    base = 0
    while bits:
        skip = (bits & -bits).bit_length() - 1
        bits >>= skip
        count = (~bits & (bits + 1)).bit_length() - 1
        runs.append(BlockRun(index, base + skip, count))
        bits >>= count
        base += skip + count
    return runs


def highest(bits: int, count: int) -> int:
    """The highest `count` set bits of a mask."""
    taken = 0
    while bits and count > 0:
        top = bits.bit_length()
        hole = bits ^ ((1 << top) - 1)
        length = min(top - hole.bit_length(), count)
        run = ((1 << length) - 1) << (top - length)
        taken |= run
        bits ^= run
        count -= length
    return taken
