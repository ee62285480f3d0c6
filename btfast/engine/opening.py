"""What is on disk already: before a torrent starts, its files are looked up and their pieces hashed, all workers wide."""

from __future__ import annotations

import asyncio
import os

from btfast._bitfield import Bitfield
from btfast.engine.context import Context
from btfast.errors import DestinationBusyError, StorageError
from btfast.metainfo.torrent import Torrent
from btfast.storage.finish import make_directory, survey
from btfast.storage.layout import Layout
from btfast.storage.lock import PlaceLock
from btfast.storage.messages import GOOD, CheckPieces

FEW = 32  # files
_BYTES_A_QUESTION = 64 << 20


class Found:
    """What a survey and a check brought. `final`: files that are there under their final names."""

    def __init__(self, have: Bitfield, unfinished: set[int], final: set[int]) -> None:
        self.have = have
        self.unfinished = unfinished
        self.final = final


def hold_place(layout: Layout) -> PlaceLock:
    """Makes the destination and takes it for this torrent alone. Raises DestinationBusyError, StorageError."""
    lock = PlaceLock(layout)
    try:
        make_directory(layout.directory)
        held = lock.acquire()
    except OSError as error:
        raise StorageError(
            f"{layout.directory}: {error.strerror or error}: choose another directory with -o",
            errno=error.errno, path=layout.directory,
        ) from None  # fmt: skip
    if not held:
        place = os.path.join(layout.directory, layout.paths[0][0])
        raise DestinationBusyError(
            f"{place}: another btfast, or another item of this run, is writing it: wait for that, or choose another "
            "directory with -o",
            path=place,
        )
    return lock


async def survey_and_check(context: Context, torrent: Torrent, layout: Layout, *, must_fit: bool) -> Found:
    """Which pieces are on disk and right. Raises StorageError where the destination cannot be used or has no room."""
    # A thread costs more than a few look-ups; a slow disk under many files must not hold the loop.
    found = survey(layout) if len(layout.paths) <= FEW else await asyncio.to_thread(survey, layout)
    if found.error:
        raise StorageError(
            f"{layout.directory}: {found.error}: choose another directory with -o", errno=found.errno, path=layout.directory
        )
    geometry = torrent.geometry
    missing = sum(length for file, length in enumerate(layout.lengths) if file not in layout.pads) - found.allocated
    if must_fit and missing > found.free:
        raise StorageError(
            f"{layout.directory}: {os.strerror(28)}: {missing} bytes are needed and {found.free} are free",
            errno=28, path=layout.directory,
        )  # fmt: skip
    have = Bitfield(geometry.piece_count)
    touched = Bitfield(geometry.piece_count)
    for file in (*found.unfinished, *found.final):
        for index in geometry.file_pieces(file):
            touched.set(index)
    runs = _runs(touched, max(1, _BYTES_A_QUESTION // geometry.piece_length))
    pending = {
        asyncio.ensure_future(
            context.workers.check(
                CheckPieces(layout.torrent, first, torrent.pieces[20 * first : 20 * (first + count)]), number
            )
        )
        for number, (first, count) in enumerate(runs)
    }
    try:
        for answered in asyncio.as_completed(pending):
            answer = await answered
            for offset, state in enumerate(answer.states):
                if state == GOOD:
                    have.set(answer.first + offset)
    finally:
        for question in pending:
            question.cancel()
    return Found(have, set(found.unfinished), set(found.final))


def _runs(touched: Bitfield, most: int) -> list[tuple[int, int]]:
    """Set bits as (first, count), at most `most` long."""
    runs: list[tuple[int, int]] = []
    for index in touched.indices():
        if runs and runs[-1][0] + runs[-1][1] == index and runs[-1][1] < most:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((index, 1))
    return runs
