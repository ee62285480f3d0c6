"""What a hash request names (BEP 52): a run of one level of a file's tree, and how many levels above it are to be proved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from btfast.metainfo import merkle
from btfast.metainfo.merkle import HASH

MOST: Final = 512  # hashes that one request should ask for at most (BEP 52)


class HashRange(NamedTuple):
    """`root` names the file; `base` is a level, `index` and `length` count its hashes, `proof` levels above `base`.

    Any values may come in from a peer: `fits` says whether they make sense.
    """

    root: bytes
    base: int
    index: int  # type: ignore[assignment]  # BEP 52's word; nobody searches a range
    length: int
    proof: int

    @property
    def steps(self) -> int:
        """Levels from the run to its single ancestor."""
        return (self.length - 1).bit_length()

    @property
    def uncles(self) -> int:
        """Hashes besides the run: the proof levels that the run itself leads to need none.

        They begin above the run, but for a single hash one level higher still: there is none beside it (BEP 52 wants runs of
        two or more; libtorrent asks for one at the end of a file of 513 pieces, and takes this answer and no other).
        """
        return max(0, self.proof - max(0, self.steps - 1))

    def fits(self, file_length: int) -> bool:
        """Whether a file of so many bytes has such a run: aligned, a power of two long unless its level's hashes end there."""
        height = merkle.height_of(file_length)
        if not 0 <= self.base < height or not 0 <= self.proof < height - self.base or self.length < 1:
            return False
        span = 1 << self.steps
        if self.index < 0 or self.index % span or self.index + span > 1 << (height - self.base):
            return False
        return self.length == span or self.index + self.length == merkle.layer_count(file_length, self.base)

    def ancestor(self, hashes: bytes) -> bytes | None:
        """What the hashes of an answer lead to, at level base + steps + uncles; None where their number is wrong.

        A single hash proves nothing.
        """
        if len(hashes) != (self.length + self.uncles) * HASH or self.length < 2:
            return None
        run = hashes[: self.length * HASH] + merkle.pad_hash(self.base) * ((1 << self.steps) - self.length)
        return merkle.fold(run, self.base, self.index, hashes[self.length * HASH :])


def ranges(root: bytes, base: int, first: int, count: int, top: int) -> Iterator[HashRange]:
    """Requests for `count` hashes of level `base`, all below one hash of level `top`, which each of them is proved against.

    `first` is a multiple of 2**(top - base). Padding at the end of the last one is asked for too: a run that is a power of
    two long is what everybody serves.
    """
    span = min(MOST, 1 << (top - base))
    for index in range(first, first + count, span):
        yield HashRange(root, base, index, span, max(0, top - base - 1))
