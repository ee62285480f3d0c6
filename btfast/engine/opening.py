"""What is on disk already: before a torrent starts, its files are looked up and their pieces hashed, all workers wide."""

from __future__ import annotations

import asyncio
import errno
import os
from collections import deque
from collections.abc import Collection, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from btfast._bitfield import Bitfield
from btfast.engine.context import Context
from btfast.engine.disagreement import halves_differ
from btfast.engine.strangers import Strangers
from btfast.errors import DestinationBusyError, StorageError
from btfast.metainfo.selection import Selection
from btfast.metainfo.torrent import Torrent
from btfast.storage.finish import make_directory, survey
from btfast.storage.identity import FINAL, UNFINISHED, Identity
from btfast.storage.layout import Layout
from btfast.storage.lock import PlaceLock
from btfast.storage.messages import GOOD, IN_PARTS, SPLIT, TO_RESTORE, CheckPieces, Known, PartsSeen, Surveyed

if TYPE_CHECKING:  # it is loaded for the one file of a Metalink
    from btfast.engine.whole_files import WholeFile

FEW = 32  # files
_BYTES_A_QUESTION = 64 << 20
_QUESTIONS = 2  # that a worker has of one torrent: the next lies there when one is answered


class Found(NamedTuple):
    """What a survey and a check brought: pieces that are right, and files that have their final names.

    `wrong_size`: files with final names that are not theirs, whatever pieces are in them. Of what is only served, every
    file counts as `final`: nothing is to be done to it. `unchanged`: files that are as an earlier run has recorded them;
    `there`: all that are there, `named` of them under their final names. `seen`: which files they were before their pieces
    were hashed. `restore`: pieces that are right in the parts file and that wanted files lack; not in `have`. `parts`: there
    is a parts file.
    """

    have: Bitfield
    final: set[int]
    wrong_size: set[int]
    unchanged: set[int]
    there: set[int]
    named: set[int]
    seen: dict[int, Identity]
    restore: list[int]
    parts: bool


def hold_place(layout: Layout) -> PlaceLock:
    """Makes the destination and takes it for this torrent alone. Raises DestinationBusyError, StorageError."""
    lock = PlaceLock(layout)
    try:
        try:
            held = lock.acquire()
        except FileNotFoundError:
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


def must_be_here(known: Known | None, directory: str) -> None:
    """Raises StorageError where what was fetched is on a disk that is not mounted any more: it is not fetched again."""
    if known is not None and known.elsewhere:
        raise StorageError(
            f"{directory}: what was fetched into it is on another disk, which is not mounted there now: mount it, or start "
            "anew with --check",
            path=directory,
        )


async def survey_and_check(
    context: Context, item: int, torrent: Torrent, layout: Layout, selection: Selection, *, writing: bool,
    known: Known | None = None, whole: WholeFile | None = None,
) -> Found:  # fmt: skip
    """Which pieces are on disk and right. `writing`: what is missing will be fetched; else nothing is changed there.

    Files that are as `known` says, from an earlier run, are trusted; those that are not are hashed. `item`: as in events.
    `whole`: what proves the one file where its pieces do not.

    Raises StorageError where the destination cannot be used or has no room.
    """
    strangers = Strangers(context, item, layout, known, partial(check_pieces, context, torrent, layout))
    found = await _survey(layout, writing=writing)
    if found.beside:
        await strangers.choose(found.beside)
        layout.in_parts.clear()
        found = await _survey(layout, writing=writing)
    there = {*found.unfinished, *found.final, *found.wrong_size}
    recorded = _unchanged(layout, found, known)
    unchanged = set() if context.settings.check else recorded  # the user trusts nothing but hashes
    have = _trusted(layout, unchanged, known)
    restore = await check_pieces(context, torrent, layout, _doubtful(layout, there - unchanged, have, parts=found.parts), have)
    if whole is not None and not torrent.proves_pieces and found.final and await whole.is_right():
        have.set_all()
    if writing and (kept := await strangers.keep(found, have, recorded, restore, torrent.hashes.digest)):
        found = await _survey(layout, writing=writing)
        there -= kept
    named = {*found.final, *found.wrong_size, *(found.unfinished if not layout.suffix else ())}
    if writing:
        _must_fit(layout, selection, found, have)
        return Found(have, set(found.final), set(found.wrong_size), unchanged, there, named, found.seen, restore, found.parts)
    for index in restore:  # the shares that wanted files lack are read there, too
        have.set(index)
        layout.in_parts.add(index)
    return Found(have, set(range(len(layout.paths))), set(), unchanged, there, named, found.seen, [], found.parts)


async def _survey(layout: Layout, *, writing: bool) -> Surveyed:
    """Raises StorageError."""
    # A thread costs more than a few look-ups; a slow disk under many files must not hold the loop.
    if len(layout.paths) <= FEW:
        found = survey(layout, writing=writing)
    else:
        found = await asyncio.to_thread(survey, layout, writing=writing)
    if found.error:
        what = "choose another directory with -o" if writing else "name the directory that holds the data with --data"
        raise StorageError(f"{layout.directory}: {found.error}: {what}", errno=found.errno, path=layout.directory)
    return found


def _unchanged(layout: Layout, found: Surveyed, known: Known | None) -> set[int]:
    """Files that are the very ones that were recorded, and are the ones that would be read."""
    if known is None or not any(known.names):
        return set()
    names = known.names
    unfinished = UNFINISHED if layout.suffix else FINAL
    return {file for file in found.unfinished if names[file] == unfinished} | {
        file for file in found.final if names[file] == FINAL
    }


def _trusted(layout: Layout, unchanged: set[int], known: Known | None) -> Bitfield:
    """Pieces that were recorded and lie in unchanged files alone."""
    geometry = layout.geometry
    if known is None or not unchanged:
        return Bitfield(geometry.piece_count)
    try:
        have = Bitfield(geometry.piece_count, known.have)
    except ValueError:
        return Bitfield(geometry.piece_count)
    for file, length in enumerate(layout.lengths):
        if length and file not in unchanged and file not in layout.pads:
            for index in geometry.file_pieces(file):
                have.clear(index)
    if known.parts is not None:
        _trust_parts(layout, unchanged, known.parts, have)
    return have


def _trust_parts(layout: Layout, unchanged: set[int], parts: PartsSeen, have: Bitfield) -> None:
    """Pieces that were recorded as right in the parts file, which is the same: wanted files must have had their shares."""
    geometry = layout.geometry
    try:
        pieces, wanted = Bitfield(geometry.piece_count, parts.pieces), Bitfield(geometry.file_count, parts.wanted)
    except ValueError:
        return
    for index in pieces.indices():
        if index in layout.slots and all(
            file in layout.pads or not layout.wants(file) or (wanted[file] and file in unchanged)
            for file, _, _ in geometry.piece_spans(index)
        ):
            have.set(index)
            layout.in_parts.add(index)


def _must_fit(layout: Layout, selection: Selection, found: Surveyed, have: Bitfield) -> None:
    """What is there already is told by the blocks that it occupies, and where those are compressed, by what is in them."""
    geometry = layout.geometry
    verified = sum(map(geometry.piece_size, have.indices()))
    kept = 0
    if layout.partial:
        levels = selection.piece_levels or b""
        verified = sum(map(selection.piece_bytes, have.indices()))
        kept = sum(geometry.piece_size(index) for index in layout.slots if levels[index] and layout.keeps(index))
    needed = kept + sum(
        length for file, length in enumerate(layout.lengths) if file not in layout.pads and layout.wants(file)
    )
    missing = needed - max(found.allocated, verified)
    if missing > found.free:
        raise StorageError(
            f"{layout.directory}: {os.strerror(errno.ENOSPC)}: {missing} bytes are needed and {found.free} are free: "
            "make room, or choose another directory with -o",
            errno=errno.ENOSPC, path=layout.directory,
        )  # fmt: skip


def _doubtful(layout: Layout, files: Collection[int], have: Bitfield, *, parts: bool) -> Bitfield:
    """The pieces to hash: of these files, and where there is a parts file, those that wanted files share and are not had."""
    geometry = layout.geometry
    touched = Bitfield(geometry.piece_count)
    for file in files:
        for index in geometry.file_pieces(file):
            touched.set(index)
    if parts:
        for index in layout.slots:
            if not have[index] and not touched[index] and any(layout.wants(file) for file, _, _ in geometry.piece_spans(index)):
                touched.set(index)
    return touched


async def check_pieces(
    context: Context, torrent: Torrent, layout: Layout, touched: Bitfield, have: Bitfield, *, final: bool = False
) -> list[int]:
    """Has these pieces hashed, and sets in `have` those that are right; returns those to restore from the parts file.

    `final`: as of CheckPieces.
    Only so many questions are out at once, so that those of others get turns.
    """
    if torrent.info_hash_v1 is None and torrent.hashes.missing and not touched.none():
        from btfast.engine.layers_on_disk import layers_on_disk

        touched = await layers_on_disk(context, torrent, layout, touched, have)
    restore: list[int] = []
    runs = deque(_questions(torrent, layout, touched, final=final))

    async def ask_in_turn(worker: int) -> None:
        while runs:
            question = runs.popleft()
            answer = await context.workers.check(question, worker)
            for index, state in enumerate(answer.states, question.first):
                if state == SPLIT:
                    raise halves_differ(torrent.name, index)
                if state == TO_RESTORE:
                    restore.append(index)
                elif state in (GOOD, IN_PARTS):
                    have.set(index)
                    if state == IN_PARTS:
                        layout.in_parts.add(index)

    askers = min(_QUESTIONS * len(context.workers.workers), len(runs))
    if askers <= 1:
        await ask_in_turn(layout.torrent)
        return restore
    asking = [asyncio.ensure_future(ask_in_turn(layout.torrent + number)) for number in range(askers)]
    try:
        await asyncio.gather(*asking)
    finally:
        for task in asking:
            task.cancel()
    return restore


def _questions(torrent: Torrent, layout: Layout, touched: Bitfield, *, final: bool) -> Iterator[CheckPieces]:
    """Orders for all of these pieces, each for a run of them whose digests are of one kind.

    Where nothing is known of single pieces nothing is asked: none is right before the whole file is.
    """
    if not torrent.proves_pieces:
        return
    most = max(1, _BYTES_A_QUESTION // torrent.piece_length)
    first, digests = 0, [b""]
    for index in touched.indices():
        digest = torrent.hashes.digest(index)
        if index != first + len(digests) or len(digests) == most or len(digest) != len(digests[0]):
            if digests[0]:
                yield CheckPieces(layout.torrent, first, b"".join(digests), len(digests[0]), final)
            first, digests = index, [digest]
        else:
            digests.append(digest)
    if digests[0]:
        yield CheckPieces(layout.torrent, first, b"".join(digests), len(digests[0]), final)
