"""Where things lie: the one owner of byte range <-> piece <-> block <-> file arithmetic (BEP 3, 52).

A torrent's payload is one stream of bytes: its files one after the other. Pieces cut the stream every piece_length
bytes, blocks cut each piece every 16 KiB; only the last of either may be short.

Where files are `aligned` (v2, BEP 52), each that has bytes begins with a piece. Its last piece and block end with it, and
the rest of that piece is a gap in the stream: no bytes that are ever hashed, sent or asked for.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from btfast.errors import InputError

BLOCK = 16384
MAX_TOTAL_LENGTH = 2**63 - 1


class FileSpan(NamedTuple):
    """`length` bytes at `offset` of file number `file`."""

    file: int
    offset: int
    length: int


class Geometry:
    """Piece length, file lengths, and all that follows from them. Immutable; 16 bytes a non-empty file.

    Raises InputError for a piece length below 1, a negative file length, or a total above 2**63 - 1.
    """

    __slots__ = (
        "_aligned", "_blocks", "_ends", "_files", "_last", "_last_size",
        "file_count", "piece_count", "piece_length", "total_length",
    )  # fmt: skip

    piece_length: int
    total_length: int  # bytes of all files, gaps not counted
    piece_count: int
    file_count: int

    def __init__(self, piece_length: int, file_lengths: Sequence[int], *, aligned: bool = False) -> None:
        if piece_length < 1:
            raise InputError(f"piece length {piece_length}: must be at least 1", piece_length=piece_length)
        # Only files with bytes are kept, so that a search never lands on one of a thousand empty ones.
        ends = array("q")
        files = array("q")
        end = total = 0
        for number, length in enumerate(file_lengths):
            if length > 0:
                total += length
                end = (-(-end // piece_length) * piece_length if aligned else end) + length
                if end > MAX_TOTAL_LENGTH:
                    raise InputError("total length: above 2**63 - 1 bytes: no disk holds it", total=end)
                ends.append(end)
                files.append(number)
            elif length < 0:
                raise InputError(f"file {number}: length {length} is negative", file=number, length=length)
        self.piece_length = piece_length
        self.total_length = total
        self.piece_count = -(-end // piece_length)
        self.file_count = len(file_lengths)
        self._ends = ends
        self._files = files
        self._last = self.piece_count - 1
        self._last_size = end - self._last * piece_length if end else 0
        self._aligned = aligned
        self._blocks = -(-piece_length // BLOCK)

    def piece_size(self, index: int) -> int:
        """Bytes in piece `index`. Raises IndexError."""
        if 0 <= index < self._last:
            if self._aligned:
                begin = index * self.piece_length
                return min(self.piece_length, self._ends[bisect_right(self._ends, begin)] - begin)
            return self.piece_length
        if index == self._last and index >= 0:
            return self._last_size
        raise IndexError(f"piece {index} of {self.piece_count}")

    def padded_size(self, index: int) -> int:
        """Bytes in piece `index` and in the gap behind it, of which some clients believe that it can be asked for.

        Raises IndexError.
        """
        size = self.piece_size(index)
        return self.piece_length if self._aligned else size

    def block_count(self, index: int) -> int:
        """16 KiB blocks in piece `index`, the short one included. Raises IndexError."""
        if 0 <= index < self._last and not self._aligned:
            return self._blocks
        return -(-self.piece_size(index) // BLOCK)

    def block_size(self, index: int, block: int) -> int:
        """Bytes in block number `block` of piece `index`. Raises IndexError."""
        size = self.piece_size(index)
        begin = block * BLOCK
        if 0 <= begin < size:
            return min(BLOCK, size - begin)
        raise IndexError(f"block {block} of piece {index}")

    def _start(self, place: int) -> int:
        """Where the file whose end is the `place`th begins."""
        start = self._ends[place - 1] if place else 0
        return -(-start // self.piece_length) * self.piece_length if self._aligned else start

    def spans(self, offset: int, length: int) -> list[FileSpan]:
        """The parts of files that hold bytes [offset, offset + length) of the stream, in order; none is empty.

        Raises IndexError when the range is not inside the stream, or reaches into a gap.
        """
        if offset < 0 or length < 0 or offset + length > (self._ends[-1] if self._ends else 0):
            raise IndexError(f"bytes {offset}+{length} of {self.total_length}")
        found: list[FileSpan] = []
        place = bisect_right(self._ends, offset)
        while length:
            start = self._start(place)
            if offset < start:
                raise IndexError(f"bytes {offset}+{length} lie in no file")
            part = min(length, self._ends[place] - offset)
            found.append(FileSpan(self._files[place], offset - start, part))
            offset += part
            length -= part
            place += 1
        return found

    def piece_spans(self, index: int) -> list[FileSpan]:
        """The parts of files that piece `index` covers. Raises IndexError."""
        return self.spans(index * self.piece_length, self.piece_size(index))

    def file_offset(self, file: int) -> int:
        """Where file number `file` begins in the stream; an empty one begins where the next does. Raises IndexError."""
        if not 0 <= file < self.file_count:
            raise IndexError(f"file {file} of {self.file_count}")
        return self._start(bisect_left(self._files, file))

    def file_pieces(self, file: int) -> range:
        """The pieces that hold bytes of file number `file`; an empty range for an empty file. Raises IndexError."""
        start = self.file_offset(file)
        place = bisect_left(self._files, file)
        if place == len(self._files) or self._files[place] != file:
            return range(0)
        return range(start // self.piece_length, (self._ends[place] - 1) // self.piece_length + 1)

    def piece_files(self, index: int) -> range:
        """From the first to the last file with bytes in piece `index`; empty files between them are in the range.

        Raises IndexError.
        """
        if len(self._files) == 1 and 0 <= index <= self._last:
            return range(self._files[0], self._files[0] + 1)
        begin = index * self.piece_length
        end = begin + self.piece_size(index)
        first = bisect_right(self._ends, begin)  # a piece never begins in a gap
        last = bisect_left(self._ends, end)
        return range(self._files[first], self._files[last] + 1)
