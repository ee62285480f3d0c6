"""A range of blocks on its way from a web seed: which bytes of which files it is, and where the next bytes land.

The blocks of a range lie one behind the other in the stream of all files, through piece and file boundaries; each file is
a request of its own. Bytes come in order. A block that somebody else delivers first is cancelled: its bytes must not land
any more, since the memory may be hashed, or another piece's, by then; they are received and thrown away.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable
from enum import Enum
from typing import NamedTuple

from btfast.metainfo.geometry import BLOCK, Geometry
from btfast.swarm.blocks import BlockRun, runs_of

PAD = -1


class Mode(Enum):
    """Where bytes go: straight into the piece, beside it (others were asked for the block too), nowhere."""

    DIRECT = "direct"
    ASIDE = "aside"
    DISCARD = "discard"


class Part(NamedTuple):
    """Bytes [first, first + length) of a file; of PAD: zeros that nobody need send."""

    file: int
    first: int
    length: int


class Landing(NamedTuple):
    """The next `length` bytes belong to bytes `begin`... of piece `index`."""

    index: int  # type: ignore[assignment]  # a piece has an index; nobody searches a landing
    begin: int
    length: int
    mode: Mode


class Landed(NamedTuple):
    """Whole blocks that came: of piece `index`, from byte `begin` on. `data`: what landed beside the piece."""

    index: int  # type: ignore[assignment]
    begin: int
    length: int
    data: bytes | None


class _Span:
    """The part of a piece that is in the range; `wanted`: its blocks that have not come and that nobody cancelled."""

    __slots__ = ("begin", "end", "index", "wanted")

    def __init__(self, index: int, begin: int, end: int, wanted: int) -> None:
        self.index = index
        self.begin = begin
        self.end = end
        self.wanted = wanted


class WebRange:
    """`runs` follow one another in the stream, as `chained` gives them. `aside`: others were asked for them as well."""

    __slots__ = ("_aside", "_at", "_begun", "_geometry", "_mode", "_spans", "parts")

    def __init__(self, geometry: Geometry, runs: list[BlockRun], pads: Container[int], *, aside: bool = False) -> None:
        self._geometry = geometry
        self._mode = Mode.ASIDE if aside else Mode.DIRECT
        self._aside = bytearray()
        self._spans: deque[_Span] = deque()
        for index, first, count in runs:
            bits = ((1 << count) - 1) << first
            end = min((first + count) * BLOCK, geometry.piece_size(index))
            if self._spans and self._spans[-1].index == index:
                self._spans[-1].end = end
                self._spans[-1].wanted |= bits
            else:
                self._spans.append(_Span(index, first * BLOCK, end, bits))
        self._at = self._spans[0].begin  # in the piece
        start = self.offset
        last = self._spans[-1]
        length = last.index * geometry.piece_length + last.end - start
        self.parts = [
            Part(PAD if file in pads else file, first, part) for file, first, part in geometry.spans(start, length)
        ]

    @property
    def pieces(self) -> list[tuple[int, int, int]]:
        """What is still to come of each piece: index, begin, length."""
        return [
            (span.index, begin, span.end - begin)
            for number, span in enumerate(self._spans)
            for begin in ([span.begin] if number else [self._at])
        ]

    @property
    def offset(self) -> int:
        """Where in the stream the next byte belongs. IndexError when all have come."""
        return self._spans[0].index * self._geometry.piece_length + self._at

    @property
    def done(self) -> bool:
        """Every byte has come."""
        return not self._spans

    @property
    def useless(self) -> bool:
        """Nothing that is still to come is wanted."""
        return not any(span.wanted for span in self._spans)

    def next(self) -> Landing:
        """Where the next bytes go. IndexError when all have come."""
        span = self._spans[0]
        block = self._at // BLOCK
        rest = span.wanted >> block
        if rest & 1:
            mode, blocks = self._mode, (~rest & (rest + 1)).bit_length() - 1
        else:
            mode, blocks = Mode.DISCARD, (rest & -rest).bit_length() - 1 if rest else 1 << 40
        if mode is Mode.ASIDE:
            blocks = 1
        return Landing(span.index, self._at, min(span.end, (block + blocks) * BLOCK) - self._at, mode)

    def took(self, count: int, data: memoryview | None = None) -> Landed | None:
        """So many bytes, at most as many as `next` said, have come (`data`, unless they are where they belong).

        The blocks that are whole with them.
        """
        span = self._spans[0]
        before, self._at = self._at, self._at + count
        first, end = before // BLOCK, self._at // BLOCK
        if self._at == self._geometry.piece_size(span.index):
            end = -(-self._at // BLOCK)
        bits = ((1 << (end - first)) - 1) << first
        wanted = bool(span.wanted >> first & 1)
        index, begin = span.index, first * BLOCK
        span.wanted &= ~bits
        stop = end * BLOCK
        if self._at == span.end:
            stop = span.end
            self._spans.popleft()
            if self._spans:
                self._at = self._spans[0].begin
        if not wanted:
            self._aside.clear()
            return None
        if self._mode is Mode.ASIDE:
            assert data is not None
            self._aside += data
            if end == first:
                return None
            whole = bytes(self._aside)
            self._aside.clear()
            return Landed(index, begin, len(whole), whole)
        return Landed(index, begin, stop - begin, None) if end > first else None

    def cancel(self, run: BlockRun) -> int:
        """These blocks are not wanted any more; how many of them were."""
        bits = ((1 << run.count) - 1) << run.first
        found = 0
        for span in self._spans:
            if span.index == run.index:
                found += (span.wanted & bits).bit_count()
                span.wanted &= ~bits
        return found

    def left(self) -> list[BlockRun]:
        """The blocks that have not come and that nobody cancelled."""
        return [run for span in self._spans for run in runs_of(span.index, span.wanted)]

    @property
    def left_bytes(self) -> int:
        """What is still to come, wanted or not."""
        return sum(span.end - span.begin for span in self._spans) - (self._at - self._spans[0].begin if self._spans else 0)


def chained(runs: Iterable[BlockRun], geometry: Geometry) -> list[list[BlockRun]]:
    """Runs in groups, in each of which they follow one another without a gap in the stream."""
    groups: list[list[BlockRun]] = []
    at = -1
    for run in runs:
        start = run.index * geometry.piece_length + run.first * BLOCK
        if start == at:
            groups[-1].append(run)
        else:
            groups.append([run])
        at = start - run.first * BLOCK + min((run.first + run.count) * BLOCK, geometry.piece_size(run.index))
    return groups
