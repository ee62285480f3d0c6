"""Blocks of pieces that were not whole when a run ended: read back from where they lie in the files, believed by their sums."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Protocol

import xxhash

from btfast.metainfo.geometry import BLOCK
from btfast.storage.layout import Layout
from btfast.storage.messages import PartialPiece

SUM_BYTES = 8


class Memory(Protocol):
    """The arena."""

    def view(self, offset: int, length: int) -> memoryview: ...


def blocks_of(partial: PartialPiece) -> Iterator[tuple[int, bytes]]:
    """Each block and its sum; what does not fit together is left out."""
    mask = int.from_bytes(partial.blocks, "little")
    sums = partial.sums
    at = 0
    while mask and at + SUM_BYTES <= len(sums):
        block = (mask & -mask).bit_length() - 1
        mask &= mask - 1
        yield block, sums[at : at + SUM_BYTES]
        at += SUM_BYTES


def mask_bytes(mask: int) -> bytes:
    """A mask of blocks as PartialPiece.blocks."""
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")


def read_blocks(layout: Layout, partial: PartialPiece, memory: Memory, offset: int) -> int:
    """Reads the blocks to their places in the piece, which begins at `offset` of `memory`; with -1 nowhere.

    Returns the mask of those that are there and have their sums.
    """
    geometry = layout.geometry
    found = 0
    if not 0 <= partial.index < geometry.piece_count:
        return 0
    scratch = memoryview(bytearray(BLOCK))
    open_files: dict[int, int] = {}
    try:
        for block, expected in blocks_of(partial):
            if block >= geometry.block_count(partial.index):
                break
            begin, length = block * BLOCK, geometry.block_size(partial.index, block)
            room = scratch[:length] if offset < 0 else memory.view(offset + begin, length)
            with contextlib.suppress(OSError):
                if _read(layout, open_files, partial.index, begin, room) and xxhash.xxh3_64_digest(room) == expected:
                    found |= 1 << block
    finally:
        for fd in open_files.values():
            os.close(fd)
    return found


def _read(layout: Layout, open_files: dict[int, int], index: int, begin: int, room: memoryview) -> bool:
    at = 0
    for file, offset, length in layout.written(index, begin, len(room)):
        part = room[at : at + length]
        at += length
        if file in layout.pads:
            part[:] = bytes(length)
            continue
        if file not in open_files:
            if len(open_files) >= 16:
                os.close(open_files.pop(next(iter(open_files))))
            open_files[file] = layout.open_for_reading(file)
        if os.preadv(open_files[file], [part], offset) != length:
            return False
    return True
