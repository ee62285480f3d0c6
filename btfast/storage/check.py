"""Hashing what is on disk: sixteen pieces side by side, a chunk of each at a time, so that any piece length fits."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator

from btfast import _hashing
from btfast.metainfo.merkle import HASH, LEAF, raised
from btfast.metainfo.piece_hashes import UNPROVED
from btfast.storage.judging import ROOT, SHA1, judge
from btfast.storage.layout import Layout
from btfast.storage.messages import BAD, DISAGREE, GOOD, MISMATCH, MISSING, OK, SPLIT
from btfast.storage.parts import look_into_parts, read_whole

_LANES = 16
_CHUNK = 256 << 10  # a chunk of each lane: 4 MiB, which stays in the cache between the read and the hash
_STATES = {OK: GOOD, MISMATCH: BAD, DISAGREE: SPLIT}


class Checker:
    """Reads and hashes pieces of one torrent at a time; its files stay open until it moves on."""

    def __init__(self) -> None:
        self._memory = memoryview(mmap.mmap(-1, _LANES * _CHUNK))
        self._open: dict[int, int | None] = {}
        self._torrent = -1
        self._final = False

    def close(self) -> None:
        for fd in self._open.values():
            if fd is not None:
                os.close(fd)
        self._open.clear()

    def check(self, layout: Layout, first: int, hashes: bytes, size: int = SHA1, *, final: bool = False) -> bytes:
        """What PiecesChecked says of the pieces first, first+1, ...; `hashes`, `size`, `final`: as of CheckPieces."""
        if size == len(UNPROVED):  # what was written a moment ago, and is not looked at before all is there
            return bytes((GOOD,)) * len(hashes)
        if layout.torrent != self._torrent:
            self.close()
            self._torrent = layout.torrent
        self._final = final
        states = bytearray()
        count = len(hashes) // size
        for start in range(0, count, _LANES):
            lanes = range(start, min(start + _LANES, count))
            expected = [hashes[size * n : size * n + size] for n in lanes]
            states += self._check_lanes(layout, [first + n for n in lanes], expected)
        self.close()
        left = [n for n, state in enumerate(states) if state != GOOD] if layout.has_parts and size == SHA1 else []
        if left:
            again = look_into_parts(layout, [first + n for n in left], [hashes[20 * n : 20 * n + 20] for n in left])
            for n, state in zip(left, again, strict=True):
                states[n] = states[n] if state is None else state
        return bytes(states)

    def leaves(self, layout: Layout, first: int, count: int) -> bytes:
        """What LeavesRead says of `count` pieces of a file, from piece `first` on."""
        self._final = False
        found = bytearray()
        try:
            for index in range(first, first + count):
                rest = layout.tree_shape(index)[0]
                for chunk in self._chunks(layout, index, 0):
                    if len(chunk) == 0:
                        return b""
                    found += _hashing.hash_spans("sha256", chunk[: max(rest, 0)], LEAF)
                    rest -= len(chunk)
        finally:
            self.close()
        return bytes(found)

    def _check_lanes(self, layout: Layout, pieces: list[int], expected: list[bytes]) -> bytes:
        missing = [False] * len(pieces)
        sha1, trees = len(expected[0]) != ROOT, len(expected[0]) != SHA1
        hashers = [_hashing.Hasher("sha1") for _ in pieces] if sha1 else []
        leaves = [bytearray() for _ in pieces]
        lengths = [layout.tree_shape(index)[0] for index in pieces] if trees else []
        readers = [self._chunks(layout, index, lane) for lane, index in enumerate(pieces)]
        alive = list(range(len(pieces)))
        while alive:
            batch: list[tuple[int, memoryview]] = []
            for lane in alive:
                chunk = next(readers[lane], None)
                if chunk is None:
                    continue
                if len(chunk) == 0:
                    missing[lane] = True
                    continue
                batch.append((lane, chunk))
            if sha1:
                _hashing.update_many([hashers[lane] for lane, _ in batch], [chunk for _, chunk in batch])
            if trees:
                for lane, chunk in batch:
                    rest = lengths[lane] - len(leaves[lane]) // HASH * LEAF  # what follows is a hybrid's pad
                    if rest > 0:
                        leaves[lane] += _hashing.hash_spans("sha256", chunk[:rest], LEAF)
            alive = [lane for lane, _ in batch]
        states = bytearray()
        for lane, index in enumerate(pieces):
            if missing[lane]:
                states.append(MISSING)
                continue
            found = hashers[lane].digest() if sha1 else b""
            if trees:
                found += raised(bytes(leaves[lane]), 0, layout.tree_shape(index)[1].bit_length() - 1)
            states.append(_STATES[judge(found, expected[lane])])
        return bytes(states)

    def _chunks(self, layout: Layout, index: int, lane: int) -> Iterator[memoryview]:
        """The piece's bytes, a chunk at a time in the lane's own memory; an empty chunk where a file ends too early."""
        room = self._memory[lane * _CHUNK : (lane + 1) * _CHUNK]
        filled = 0
        for file, offset, length in layout.geometry.piece_spans(index):
            end = offset + length
            while offset < end:
                part = room[filled : filled + min(_CHUNK - filled, end - offset)]
                if not self._read(layout, file, offset, part):
                    yield room[:0]
                    return
                filled += len(part)
                offset += len(part)
                if filled == _CHUNK:
                    yield room
                    filled = 0
        if filled:
            yield room[:filled]

    def _read(self, layout: Layout, file: int, offset: int, part: memoryview) -> bool:
        if file in layout.pads:
            part[:] = bytes(len(part))
            return True
        if file not in self._open:
            if len(self._open) >= 64:
                self.close()
            try:
                self._open[file] = layout.open_for_reading(file, final=self._final)
            except OSError:
                self._open[file] = None
        fd = self._open[file]
        if fd is None:
            return False
        return read_whole(fd, part, offset)
