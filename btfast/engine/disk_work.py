"""What the workers answer about one torrent's jobs, and what becomes of it when the disk refuses them.

A disk that is full, or that fails, holds the torrent up: nothing more is asked for, what was verified stays in memory, and
one of the writes is tried again each second. When it works the others follow and the torrent goes on. Only what can be
written again waits like that: where bytes may have been lost after the disk had taken them, the torrent ends, and so it
does on every refusal that time does not mend.
"""

from __future__ import annotations

import os
from errno import EDQUOT, EIO, ENOENT, ENOSPC
from typing import Protocol

from btfast._arena import Slot
from btfast.engine.context import Context
from btfast.engine.fetching import Fetching
from btfast.engine.finishing import Finishing
from btfast.engine.partial import PartialPieces
from btfast.engine.recording import TorrentRecord
from btfast.engine.worker_process import Job
from btfast.errors import Error, StorageError
from btfast.events import Warning
from btfast.storage.identity import unpack
from btfast.storage.layout import Layout
from btfast.storage.messages import (
    DEMOTE_FILE,
    DISAGREE,
    FINISH_FILE,
    MAKE_LINK,
    MISMATCH,
    OK,
    RESTORE_PIECE,
    SAVE_BLOCKS,
    WRITE_PART,
    WRITE_PIECE,
    Problem,
)
from btfast.storage.writer import REMOVED
from btfast.swarm.pieces import WRITING

PIECES = frozenset({WRITE_PIECE, WRITE_PART, RESTORE_PIECE})
MAY_PASS = frozenset({ENOSPC, EDQUOT, EIO})
QUIET = 10.0  # seconds between two reports of a disk that is full now and then


class Owner(Protocol):
    """The torrent."""

    def fail(self, error: Error) -> None: ...

    def handle_disagreement(self, index: int) -> None:
        """The halves of a hybrid torrent differ."""

    def handle_restored(self, index: int, *, whole: bool) -> None:
        """Files have their shares of a piece from the parts file, if it was `whole`."""

    def handle_answered(self) -> None:
        """A job was done."""


class DiskWork:
    """`item`: the number of the torrent's item in events. `fetching` and `partial` are there once it is open."""

    def __init__(
        self, context: Context, item: int, layout: Layout, finishing: Finishing, record: TorrentRecord, owner: Owner
    ) -> None:
        self._context = context
        self._item = item
        self._layout = layout
        self._finishing = finishing
        self._record = record
        self._owner = owner
        self.fetching: Fetching | None = None
        self.partial: PartialPieces | None = None
        self._problem: Problem | None = None
        self._refusal: Problem | None = None  # the last
        self._held: list[Job] = []  # to be tried again
        self._trying = False
        self._since: float | None = None  # when the disk refused first
        self._said = -QUIET
        self._told = False  # whether the user knows that it is paused

    @property
    def paused(self) -> bool:
        """Whether the disk holds the torrent up."""
        return self._since is not None

    def handle_problem(self, problem: Problem) -> None:
        """A worker says what refused; the answer to the job follows."""
        self._problem = problem

    def handle_completed(self, job: Job, status: int, errno: int) -> None:
        """A worker has answered."""
        if job.kind in PIECES and job.told:
            another = self._record.handle_written_into(self._layout.opened_of(job.piece, job.told))
            if another is not None:
                self._give_up(Problem(self._layout.torrent, self._layout.path(another), REMOVED, ENOENT))
                return
        if job.kind == SAVE_BLOCKS:
            if self.partial is not None:
                self.partial.handle_saved(job, good=status == OK)
        elif status == DISAGREE:
            self._owner.handle_disagreement(job.piece)
            return
        elif status not in (OK, MISMATCH):
            self._refused(job, errno)
            return
        elif job.kind == MAKE_LINK and status != OK:
            self._finishing.handle_left_out()
            why = os.strerror(errno)
            self._warn(f"{self._layout.path(job.piece)}: the link is left out: {why}: it may lead to what is not there")
        elif job.kind in (FINISH_FILE, MAKE_LINK):
            self._record.handle_finished(job.piece, unpack(job.told) if job.told else None)
            self._finishing.handle_finished(job.piece)
        elif job.kind == DEMOTE_FILE:
            self._record.handle_demoted(job.piece)
            self._finishing.handle_demoted(job.piece)
        elif job.kind == RESTORE_PIECE:
            self._owner.handle_restored(job.piece, whole=status == OK)
        elif self.fetching is not None:
            assert isinstance(job.slot, Slot)
            if job.kind == WRITE_PART:
                self._record.handle_written(job.piece)
                self.fetching.handle_part_written(job.piece, job.slot)
            elif status == OK:
                self.fetching.handle_written(job.piece, job.slot)
            else:
                self.fetching.handle_mismatch(job.piece, job.slot)
        if self.paused and job.kind != SAVE_BLOCKS and (status == OK or job.kind == RESTORE_PIECE):
            self._goes_on()
        self._owner.handle_answered()

    def handle_not_durable(self, file: int, errno: int) -> None:
        """What was written to a file may not be on disk, although the disk took it."""
        self._give_up(Problem(self._layout.torrent, self._layout.path(file), os.strerror(errno), errno))

    def tick(self, now: float) -> None:
        """Once a second: tries one of the writes again."""
        if self._since is None or not self._held:
            return
        assert self._refusal is not None
        if now - self._since > self._context.settings.disk_timeout:
            self._give_up(self._refusal)
        elif not self._trying:
            self._trying = True
            self._context.workers.again(self._held.pop(0))

    def _refused(self, job: Job, errno: int) -> None:
        problem = self._problem_of(job, errno)
        if job.kind == FINISH_FILE:
            self._record.handle_failed(job.piece, errno)
        elif errno == ENOENT and job.kind in PIECES:  # what was written before went with it, and somebody may have made it anew
            kept = [self._layout.parts_file] if self._layout.keeps(job.piece) else []
            for file in (*self._layout.geometry.piece_files(job.piece), *kept):
                self._record.handle_unsure(file)
        empty = job.kind == FINISH_FILE and not self._layout.lengths[job.piece]
        again = job.kind in PIECES or empty
        if self.fetching is None or not again or errno not in MAY_PASS or not self._context.settings.disk_timeout:
            self._give_up(problem)
            return
        if job.kind == WRITE_PIECE and not self._held_before(job):
            self.fetching.pieces.verified_not_written(job.piece)
        self._held.append(job)
        self._refusal = problem
        self._trying = False
        if self._since is None:
            self._since = self._context.loop.time()
            self.fetching.pause()
            self._say_paused(problem, errno)

    def _held_before(self, job: Job) -> bool:
        assert self.fetching is not None
        return self.fetching.pieces.state(job.piece) == WRITING

    def _goes_on(self) -> None:
        """The disk has taken something: all that is held is tried again."""
        self._trying = False
        self._since = None
        held, self._held = self._held, []
        for job in held:
            self._context.workers.again(job)
        if self.fetching is not None:
            self.fetching.go_on()
        self._say_going_on()

    def _problem_of(self, job: Job, errno: int) -> Problem:
        """What the worker has said of it, which may come a moment after the answer."""
        problem, self._problem = self._problem, None
        if problem is not None and problem.errno == errno:
            return problem
        on_file = job.kind in (FINISH_FILE, DEMOTE_FILE, MAKE_LINK)
        file = job.piece if on_file else self._layout.geometry.piece_files(job.piece)[0]
        return Problem(self._layout.torrent, self._layout.path(file), os.strerror(errno), errno)

    def _give_up(self, problem: Problem) -> None:
        self._owner.fail(
            StorageError(
                f"{problem.path}: {problem.message}: what was verified is kept; mend this and run it again",
                errno=problem.errno, path=problem.path,
            )
        )  # fmt: skip

    def _say_paused(self, problem: Problem, errno: int) -> None:
        now = self._context.loop.time()
        self._told = now - self._said >= QUIET
        if self._told:
            self._said = now
            mend = "mend the disk" if errno == EIO else "make room"
            seconds = f"{self._context.settings.disk_timeout:g} s"
            self._warn(f"{problem.path}: {problem.message}: paused for up to {seconds}: {mend}, and it goes on")

    def _say_going_on(self) -> None:
        if self._told:
            assert self._refusal is not None
            self._warn(f"{self._refusal.path}: the disk takes data again: going on")

    def _warn(self, message: str) -> None:
        self._context.emit(Warning(id=self._item, message=message))
