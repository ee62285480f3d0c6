"""Pieces that are not whole when a torrent ends: what came of them is written where it belongs, and found by the next run.

Like every part of a piece that is not verified it counts for nothing: the next run believes its sums that it is the same,
and the piece's hash that it is right.
"""

from __future__ import annotations

import asyncio
from typing import Any

import xxhash

from btfast._arena import Slot
from btfast.engine.context import Context
from btfast.engine.fetching import Fetching
from btfast.engine.worker_process import Job
from btfast.metainfo.geometry import BLOCK, Geometry
from btfast.storage.messages import PartialPiece
from btfast.storage.partial import blocks_of, mask_bytes
from btfast.swarm.blocks import runs_of

LARGE = 4 << 20  # bytes of a piece whose blocks are kept from time to time, not only at the end
WORTH = 2 << 20  # bytes of it that came since
INTERVAL = 5.0  # seconds
ARENA_SHARE = 2  # one in so many bytes of memory is given to what earlier runs have left
MOST = 10_000  # pieces; a row of the resume store must not grow without bound


class PartialPieces:
    """Those of one torrent, number `number` to the workers."""

    def __init__(self, context: Context, number: int, geometry: Geometry, fetching: Fetching) -> None:
        self._context = context
        self._number = number
        self._geometry = geometry
        self._fetching = fetching
        self._next = context.loop.time() + INTERVAL
        self._written: dict[int, dict[int, bytes]] = {}  # piece: block: its sum
        self._parts: list[tuple[int, list[int]]] = []
        self._writing: dict[int, int] = {}  # piece: jobs that are not answered
        self._saved = False  # nothing comes any more

    async def resume(self, found: list[PartialPiece]) -> None:
        """Takes up what an earlier run has left, as far as there is memory for it."""
        arena = self._context.arena
        for partial in found[:MOST]:
            index = partial.index
            if not 0 <= index < self._geometry.piece_count or not self._fetching.pieces.is_wanted(index):
                continue
            if arena.used > arena.size // ARENA_SHARE:
                return
            if self._fetching.large:
                good = await self._context.workers.read_blocks(self._number, None, partial)
                self._resumed(partial, good, None)
            elif (slot := self._fetching.slot_for(index)) is not None:
                good = await self._context.workers.read_blocks(self._number, slot, partial)
                self._resumed(partial, good, slot)

    def _resumed(self, partial: PartialPiece, good: int, slot: Slot | None) -> None:
        sums = {block: found for block, found in blocks_of(partial) if good >> block & 1}
        if sums and self._fetching.pieces.is_wanted(partial.index):
            self._fetching.resumed(partial.index, sums, slot)
            if slot is not None:  # of a large piece `fetching` knows it
                self._written[partial.index] = sums

    def tick(self, now: float) -> list[int]:
        """Once a second: every few of them keeps what came of large pieces; the pieces of which something is written."""
        if self._geometry.piece_length < LARGE or now < self._next:
            return []
        self._next = now + INTERVAL
        return self._save(WORTH // BLOCK)

    def save(self) -> list[int]:
        """The torrent ends: keeps all that came; the pieces of which something is written."""
        self._parts = list(self._fetching.written_parts())
        given = [*self._save(1), *(index for index, _ in self._parts)]
        self._saved = True  # soon nobody knows them any more
        return given

    def _forget_dropped(self) -> None:
        """What was kept of pieces that were begun in vain is not theirs when they are begun anew, nor what is whole now."""
        if self._saved:
            return
        under_way = self._fetching.under_way
        for index in [index for index in self._written if index not in under_way or index in self._fetching.dropped]:
            del self._written[index]
        self._fetching.dropped.clear()

    def _save(self, least: int) -> list[int]:
        self._forget_dropped()
        given: list[int] = []
        for index, received, slot in self._fetching.unfinished():
            written = self._written.setdefault(index, {})
            fresh = received & ~sum(1 << block for block in written)
            if index in self._writing or fresh.bit_count() < least or len(self._written) > MOST:
                continue
            view: Any = memoryview(slot)
            for run in runs_of(index, fresh):
                begin, end = run.first * BLOCK, min((run.first + run.count) * BLOCK, slot.length)
                for block in range(run.first, run.first + run.count):
                    written[block] = xxhash.xxh3_64_digest(view[block * BLOCK : min((block + 1) * BLOCK, end)])
                self._writing[index] = self._writing.get(index, 0) + 1
                self._context.workers.save_blocks(self._number, index, slot, begin, end - begin)
            given.append(index)
        return given

    def handle_saved(self, job: Job, *, good: bool) -> None:
        """A worker has written blocks, or could not: then nothing of the piece is kept."""
        left = self._writing[job.piece] = self._writing[job.piece] - 1
        if not left:
            del self._writing[job.piece]
        if not good:
            self._written.pop(job.piece, None)

    def kept(self) -> list[PartialPiece]:
        """What is on its way to be durable."""
        self._forget_dropped()
        found = [
            PartialPiece(index, mask_bytes(sum(1 << block for block in sums)), b"".join(sums[block] for block in sorted(sums)))
            for index, sums in self._written.items()
            if sums and index not in self._writing
        ]
        for index, digests in self._parts or self._fetching.written_parts():
            found.append(
                PartialPiece(
                    index, mask_bytes((1 << len(digests)) - 1), b"".join(digest.to_bytes(8, "big") for digest in digests)
                )
            )
        return found


async def resume(partial: PartialPieces, found: list[PartialPiece], done: asyncio.Future[None]) -> None:
    """Until all is taken up, or the torrent ends for another reason."""
    if not found:
        return
    task = asyncio.ensure_future(partial.resume(found))
    try:
        await asyncio.wait((task, done), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        task.cancel()
