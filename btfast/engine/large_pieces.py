"""Pieces that are too large for memory: received part by part, each written when it is whole, read back and hashed at last.

Until its hash is right nothing of such a piece counts: what was written of it is overwritten when it is fetched again.
A piece that is given up is not begun again before the last of its parts that were given to a worker is written.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import xxhash

from btfast._arena import Slot
from btfast.engine.context import Context
from btfast.metainfo.geometry import BLOCK, FileSpan
from btfast.metainfo.torrent import Torrent
from btfast.storage.messages import GOOD, IN_PARTS, MISSING, CheckPieces
from btfast.swarm.blocks import BlockRun, runs_of

PAGE = 4096
LARGE_SHARE = 4  # pieces above this share of the arena are received in parts
PART_SHARE = 32  # of the arena is one part
PARTS = 4  # of one piece that are in memory at a time


class Owner(Protocol):
    """Who fetches pieces."""

    def unlock(self, index: int, room: int) -> None:
        """There is room for the first `room` blocks now."""

    def handle_read_back(self, index: int, state: int, fingerprints: list[int]) -> None:
        """All of a piece was written, and hashed as it lies on disk; `state` is one of storage.messages, as GOOD."""


class Place(NamedTuple):
    """Where `length` bytes from byte `begin` of a piece on belong."""

    slot: Slot
    begin: int
    length: int


class _Open:
    """A piece under way: slots of its parts (None: not yet, or written), and which blocks each still lacks.

    `runs`: what is to come, beginnings and ends in bytes; it is cut into parts of at most `part` bytes.
    """

    def __init__(self, size: int, part: int, runs: Iterable[tuple[int, int]]) -> None:
        cut = [(begin, min(part, end - begin)) for first, end in runs for begin in range(first, end, part)]
        self.begins = [begin for begin, _ in cut]
        self.lengths = [length for _, length in cut]
        self.slots: list[Slot | None] = [None] * len(self.lengths)
        self.missing = [(1 << -(-length // BLOCK)) - 1 for length in self.lengths]  # masks of blocks
        self.fingerprints: list[int] = [0] * -(-size // BLOCK)
        self.begun = 0  # parts that have or had a slot
        self.was_whole = False  # all of it is on disk, and some of that is wrong
        self.writing: list[Slot] = []
        self.checking: asyncio.Task[None] | None = None

    def blocks_before(self, part: int) -> int:
        """How many blocks lie before a part, or in all where there is no such part."""
        return self.begins[part] // BLOCK if part < len(self.begins) else len(self.fingerprints)

    def part_at(self, begin: int) -> int:
        """The part that a byte is in."""
        return bisect_right(self.begins, begin) - 1


class LargePieces:
    """Those of one torrent, which is number `number` to the workers."""

    def __init__(self, context: Context, number: int, torrent: Torrent, owner: Owner) -> None:
        self._context = context
        self._number = number
        self._torrent = torrent
        self._geometry = torrent.geometry
        self._owner = owner
        self._part = part_length(context.arena.size)
        self._pieces: dict[int, _Open] = {}
        self._given_up: dict[int, list[Slot]] = {}  # parts that are still being written

    def __contains__(self, index: int) -> bool:
        return index in self._pieces

    def open(self, index: int) -> int:
        """Begins a piece; for how many of its blocks there is room, 0 when there is none at all."""
        if index in self._given_up:
            return 0
        piece = self._opened(index)
        room = self._grow(index, piece)
        if room:
            self._pieces[index] = piece
        return room

    def _opened(self, index: int) -> _Open:
        size = self._geometry.piece_size(index)
        return _Open(size, self._part, [(0, size)])

    def mend(self, index: int, bad: int, fingerprints: list[int]) -> int:
        """Goes on with a piece that is on disk but for its `bad` blocks: for how many blocks there is room."""
        size = self._geometry.piece_size(index)
        runs = [(run.first * BLOCK, min((run.first + run.count) * BLOCK, size)) for run in runs_of(index, bad)]
        piece = self._pieces[index] = _Open(size, self._part, runs)
        piece.fingerprints = fingerprints
        piece.was_whole = True
        return self._grow(index, piece)

    def grow(self) -> None:
        """Looks for memory for further parts."""
        for index, piece in list(self._pieces.items()):
            before = piece.begun
            room = self._grow(index, piece)
            if piece.begun != before:
                self._owner.unlock(index, room)

    def _grow(self, index: int, piece: _Open) -> int:
        held = len(piece.writing) + sum(slot is not None for slot in piece.slots)
        while piece.begun < len(piece.lengths) and held < PARTS:
            begin, length = piece.begins[piece.begun], piece.lengths[piece.begun]
            lead = lead_of(self._geometry.spans(index * self._geometry.piece_length + begin, length))
            slot = self._context.workers.allocate(length, lead, begin)
            if slot is None:
                break
            piece.slots[piece.begun] = slot
            piece.begun += 1
            held += 1
        return piece.blocks_before(piece.begun)

    def places(self, run: BlockRun) -> Iterator[Place]:
        """Where the blocks of a run belong, cut where one part ends."""
        piece = self._pieces[run.index]
        begin, end = run.first * BLOCK, min((run.first + run.count) * BLOCK, piece.begins[-1] + piece.lengths[-1])
        while begin < end:
            slot = piece.slots[piece.part_at(begin)]
            assert slot is not None
            length = min(end, slot.first + slot.length) - begin
            yield Place(slot, begin, length)
            begin = slot.first + slot.length

    def landed(self, run: BlockRun) -> None:
        """These blocks are in their places; parts that are whole now are given to be written."""
        piece = self._pieces[run.index]
        last = piece.part_at((run.first + run.count - 1) * BLOCK)
        for part in range(piece.part_at(run.first * BLOCK), last + 1):
            start, count = piece.begins[part] // BLOCK, -(-piece.lengths[part] // BLOCK)
            first, end = max(run.first, start), min(run.first + run.count, start + count)
            piece.missing[part] &= ~(((1 << (end - first)) - 1) << (first - start))
            slot = piece.slots[part]
            if not piece.missing[part] and slot is not None:
                piece.slots[part] = None
                piece.fingerprints[start : start + count] = fingerprints(slot)
                piece.writing.append(slot)
                self._context.workers.write_part(self._number, run.index, slot)

    def handle_written(self, index: int, slot: Slot) -> None:
        """A worker has written a part."""
        if index in self._given_up:
            self._given_up[index] = _without(self._given_up[index], slot)
            if not self._given_up[index]:
                del self._given_up[index]
            return
        piece = self._pieces[index]
        piece.writing = _without(piece.writing, slot)
        if not piece.writing and not any(piece.missing):
            self._begin_check(index, piece)

    def _begin_check(self, index: int, piece: _Open) -> None:
        piece.checking = self._context.loop.create_task(self._read_back(index, piece))
        piece.checking.add_done_callback(self._checked)

    async def _read_back(self, index: int, piece: _Open) -> None:
        digest = self._torrent.hashes.digest(index)
        order = CheckPieces(self._number, index, digest, len(digest))
        answer = await self._context.workers.check(order, index)
        if self._pieces.get(index) is piece:
            del self._pieces[index]
            state = answer.states[0] if answer.states else MISSING
            self._owner.handle_read_back(index, GOOD if state == IN_PARTS else state, piece.fingerprints)

    def _checked(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._context.loop.call_exception_handler({"message": "reading a piece back broke", "exception": error})

    def written(self) -> Iterator[tuple[int, list[int]]]:
        """Pieces under way: fingerprints of their blocks, from the first on, as far as parts were given to be written."""
        for index, piece in self._pieces.items():
            parts = 0
            while parts < piece.begun and not piece.missing[parts]:
                parts += 1
            if piece.was_whole:  # the next run finds out again what is wrong: nothing that is right comes twice
                yield index, piece.fingerprints
            elif parts:
                yield index, piece.fingerprints[: piece.blocks_before(parts)]

    def resume(self, index: int, sums: dict[int, bytes]) -> tuple[int, int]:
        """Goes on with a piece whose first blocks are on disk: for how many blocks there is room, and which it has.

        `sums`: the fingerprints of the blocks that are there; those behind a gap do not count.
        """
        fingerprints: list[int] = []
        while len(fingerprints) in sums:
            fingerprints.append(int.from_bytes(sums[len(fingerprints)], "big"))
        piece = self._opened(index)
        while piece.begun < len(piece.lengths) and piece.blocks_before(piece.begun + 1) <= len(fingerprints):
            piece.missing[piece.begun] = 0
            piece.begun += 1
        received = piece.blocks_before(piece.begun)
        if not received:
            return 0, 0
        piece.fingerprints[:received] = fingerprints[:received]
        self._pieces[index] = piece
        room = self._grow(index, piece)
        if not any(piece.missing):
            self._begin_check(index, piece)
        return room, (1 << received) - 1

    def drop(self, index: int) -> None:
        """The piece is given up; what was written of it does not count."""
        piece = self._pieces.pop(index)
        if piece.writing:
            self._given_up[index] = piece.writing

    def close(self) -> None:
        for piece in self._pieces.values():
            if piece.checking is not None:
                piece.checking.cancel()
        self._pieces.clear()
        self._given_up.clear()


def _without(slots: list[Slot], slot: Slot) -> list[Slot]:
    return [other for other in slots if other is not slot]


def is_large(piece_length: int, arena: int) -> bool:
    """Whether pieces of that length do not belong into an arena of `arena` bytes as a whole."""
    return piece_length * LARGE_SHARE > arena


def part_length(arena: int) -> int:
    """Bytes of a part of a large piece: whole blocks."""
    return max(1, arena // PART_SHARE // BLOCK) * BLOCK


def lead_of(spans: Iterable[FileSpan]) -> int:
    """Where in a page a slot for these parts of files begins, so that the largest lies as it does in its file."""
    lead = largest = at = 0
    for _, offset, length in spans:
        if length > largest:
            largest, lead = length, (offset - at) % PAGE
        at += length
    return lead


def fingerprints(slot: Slot) -> list[int]:
    """xxh3_64 of each block."""
    view: Any = memoryview(slot)
    return [xxhash.xxh3_64_intdigest(view[begin : begin + BLOCK]) for begin in range(0, len(view), BLOCK)]
