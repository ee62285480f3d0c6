"""A worker process: hashes and writes what the network process puts into its ring. No sockets, no asyncio.

Started as `python -m btfast.storage.worker` with descriptors for the arena, its two rings, their wake-ups, and a control
stream. It ends when the control stream does, however the network process went away.
"""

from __future__ import annotations

import errno
import gc
import os
import select
import signal
import sys
from collections import deque
from typing import NamedTuple

if __name__ == "__main__":  # msgspec does without it, and is loaded 7 ms sooner
    sys.modules["typing_extensions"] = None  # type: ignore[assignment]

from btfast._arena import Arena
from btfast._ring import Ring, ring_bytes
from btfast.frames import Frames
from btfast.process_name import name_process
from btfast.storage import finish, messages
from btfast.storage.ahead import Ahead
from btfast.storage.check import Checker
from btfast.storage.files import Files, descriptor_budget
from btfast.storage.identity import pack
from btfast.storage.judging import SHA1, Shape, judge_pieces
from btfast.storage.layout import Layout
from btfast.storage.links import make_link
from btfast.storage.marks import Marks
from btfast.storage.partial import mask_bytes, read_blocks
from btfast.storage.parts import restore_piece
from btfast.storage.recorder import Recorder
from btfast.storage.whole import WholeHash
from btfast.storage.writer import VerifiedPiece, write_pieces

_BATCH = 16  # as many as the widest kernel has lanes: more a call hash more slowly (measured: 20-30 %)
_FINISHES = 512  # files that are finished at once: making a file system durable costs as much for many as for few

_AHEAD = 2 << 20  # bytes of pieces that are worth waking a thread for

_Job = tuple[int, int, int, int, int, int, bytes, int, int]


class _Batch(NamedTuple):
    """What was taken at once. `views`: the payloads of its `pieces`; `shapes`: of those that need one, by their places."""

    jobs: list[_Job]
    pieces: list[_Job]
    views: list[memoryview]
    shapes: dict[int, Shape]
    ahead: bool = False  # whether it is being hashed already


class Worker:
    """The state of one worker; `run` returns when the network process is gone."""

    def __init__(self, arena: Arena, jobs: Ring, completions: Ring, control: int) -> None:
        self._arena = arena
        self._jobs = jobs
        self._completions = completions
        self._control = control
        self._frames = Frames()
        self._layouts: dict[int, Layout] = {}
        self._closed: set[int] = set()  # torrents that are over: nothing of them is waited for
        self._checks: deque[messages.CheckPieces | messages.ReadBlocks | messages.ReadLeaves | WholeHash] = deque()
        budget = descriptor_budget()
        self._files = Files(budget)
        self._finishes = min(_FINISHES, budget // 4)
        self._checker = Checker()
        self._recorder = Recorder(self._answer, self._files)
        self._ahead = Ahead()
        self._next: _Batch | None = None  # taken while the one before is written
        self._left: list[_Job] = []  # taken out of the ring, and not yet in a batch
        self._alive = True
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._poll.register(jobs.wake_fd, select.POLLIN)
        self._control_only = select.poll()
        self._control_only.register(control, select.POLLIN)

    def run(self) -> None:
        while self._alive:
            batch = self._take()
            if batch or self._checks or self._recorder.busy:
                # In turns: what is written holds memory that peers wait for, and a check may take hours.
                if batch:
                    self._handle_jobs(batch)
                if self._checks:
                    self._check(self._checks.popleft())
                if self._recorder.busy:
                    self._recorder.step()
                if self._control_only.poll(0):
                    self._handle_control()
            elif self._jobs.prepare_sleep():
                for fd, _ in self._poll.poll():
                    if fd == self._control:
                        self._handle_control()
                    else:
                        self._jobs.drain()
        self._ahead.close()
        self._recorder.close()
        self._files.close()
        self._checker.close()

    def _take(self) -> _Batch | None:
        """What is to be done next: what was taken ahead, else what waits in the ring."""
        if self._next is not None:
            batch, self._next = self._next, None
            return batch
        jobs = self._take_jobs()
        if not jobs:
            return None
        # A tree needs to know its file.
        pieces = [job for job in jobs if job[0] == messages.WRITE_PIECE and (len(job[6]) <= SHA1 or self._known(job) is not None)]
        shapes = {
            place: self._layouts[job[2]].tree_shape(job[3]) for place, job in enumerate(pieces) if len(job[6]) > SHA1
        }
        return _Batch(jobs, pieces, [self._arena.view(job[4], job[5]) for job in pieces], shapes)

    def _take_jobs(self) -> list[_Job]:
        """As many as are hashed at once, and the files to be finished that follow them."""
        jobs, self._left = self._left or self._jobs.take(_BATCH), []
        while jobs and jobs[-1][0] == messages.FINISH_FILE and len(jobs) < self._finishes:
            more = self._jobs.take(_BATCH)
            same = next((at for at, job in enumerate(more) if job[0] != messages.FINISH_FILE), len(more))
            jobs += more[:same]
            self._left = more[same:]
            if same < _BATCH:
                break
        return jobs

    def _take_ahead(self) -> None:
        """Between two writes: what waits in the ring is hashed during those that follow."""
        if self._next is None and (batch := self._take()) is not None:
            if sum(map(len, batch.views)) >= _AHEAD:
                batch = batch._replace(ahead=True)
                self._ahead.begin(batch.views, [job[6] for job in batch.pieces], batch.shapes)
            self._next = batch

    def _handle_control(self) -> None:
        data = os.read(self._control, 1 << 20)
        if not data:
            self._alive = False
            return
        for body in self._frames.handle_bytes(data):
            order = messages.decode_order(body)
            if isinstance(order, messages.OpenTorrent):
                self._layouts[order.torrent] = Layout(order)
            elif isinstance(order, messages.CloseTorrent):
                self._closed.add(order.torrent)
                self._layouts.pop(order.torrent, None)
                self._files.forget(order.torrent)
            elif isinstance(order, messages.Reopen):
                self._files.forget(order.torrent, order.file)
                if (layout := self._layouts.get(order.torrent)) is not None:
                    layout.may_be_made(order.file)
                self._answer(messages.Reopened(order.question))
            elif isinstance(order, (messages.CheckPieces, messages.ReadBlocks, messages.ReadLeaves)):
                self._checks.append(order)
            elif isinstance(order, messages.HashFile):
                self._checks.append(WholeHash(order))
            else:
                self._recorder.handle(order)

    def _check(self, order: messages.CheckPieces | messages.ReadBlocks | messages.ReadLeaves | WholeHash) -> None:
        layout = self._layouts.get(order.torrent)
        if isinstance(order, WholeHash):
            answer = order.step(layout)
            if answer is None:
                self._checks.append(order)  # the others have their turns in between
            else:
                self._answer(answer)
            return
        if isinstance(order, messages.ReadBlocks):
            blocks = read_blocks(layout, order.partial, self._arena, order.offset) if layout is not None else 0
            self._answer(messages.BlocksRead(order.question, mask_bytes(blocks)))
            return
        if isinstance(order, messages.ReadLeaves):
            leaves = self._checker.leaves(layout, order.first, order.count) if layout is not None else b""
            self._answer(messages.LeavesRead(order.question, leaves))
            return
        states = b""
        if layout is not None:
            states = self._checker.check(layout, order.first, order.hashes, order.size, final=order.final)
        self._answer(messages.PiecesChecked(order.torrent, order.first, states))

    def _answer(self, answer: messages.Answer) -> None:
        view = memoryview(messages.encode(answer))
        while view:
            view = view[os.write(self._control, view) :]

    def _layout(self, torrent: int) -> Layout | None:
        """The torrent's layout; its OpenTorrent was sent before the job and may still be on the way."""
        while torrent not in self._layouts and torrent not in self._closed and self._alive:
            if not self._control_only.poll(10_000):
                return None
            self._handle_control()
        return self._layouts.get(torrent)

    def _handle_jobs(self, batch: _Batch) -> None:
        if batch.pieces:
            self._write_pieces(batch)
        jobs = batch.jobs
        for job in jobs:
            if job[0] == messages.WRITE_PART:
                begin = int.from_bytes(job[6][:8], "big")
                self._write(job[2], [(job, VerifiedPiece(job[3], job[4], self._arena.view(job[4], job[5]), begin))])
            elif job[0] == messages.SAVE_BLOCKS:
                self._save_blocks(job)
        finished = [job for job in jobs if job[0] == messages.FINISH_FILE]
        if finished:
            self._finish_files(finished)
        for job in jobs:
            if job[0] == messages.DEMOTE_FILE:
                self._demote_file(job)
            elif job[0] == messages.RESTORE_PIECE:
                self._restore_piece(job)
            elif job[0] == messages.MAKE_LINK:
                self._make_link(job)
        self._completions.wake()

    def _write_pieces(self, batch: _Batch) -> None:
        if batch.ahead:
            verdicts = self._ahead.verdicts()
        else:
            verdicts = judge_pieces(batch.views, [job[6] for job in batch.pieces], batch.shapes.__getitem__)
        good: dict[int, list[tuple[_Job, VerifiedPiece]]] = {}
        for job, view, verdict in zip(batch.pieces, batch.views, verdicts, strict=True):
            if verdict == messages.OK:
                good.setdefault(job[2], []).append((job, VerifiedPiece(job[3], job[4], view)))
            else:
                self._complete(job, verdict)
        for torrent, verified in good.items():
            self._write(torrent, verified)

    def _write(self, torrent: int, pieces: list[tuple[_Job, VerifiedPiece]]) -> None:
        layout = self._layout(torrent)
        if layout is None:
            for job, _ in pieces:
                self._complete(job, messages.FAILED, errno.EIO)
            return
        left: dict[int, list[_Job]] = {}
        for job, piece in pieces:
            left.setdefault(piece.piece, []).append(job)

        def handle_written(whole: list[int]) -> None:
            for index in whole:
                for job in left.pop(index):
                    self._complete(job, messages.OK, told=layout.written_into(index))
            self._completions.wake()
            self._take_ahead()

        failed = write_pieces(self._files, layout, [piece for _, piece in pieces], handle_written)
        for index, jobs in left.items():
            for job in jobs:
                if index in failed:
                    file, error = failed[index]
                    self._report(layout, file, error)
                    self._complete(job, messages.FAILED, error.errno or errno.EIO)
                else:
                    self._complete(job, messages.OK, told=layout.written_into(index))

    def _save_blocks(self, job: _Job) -> None:
        """Where that fails it is not told further: they are fetched again."""
        begin, length = int.from_bytes(job[6][:8], "big"), int.from_bytes(job[6][8:16], "big")
        offset = job[4] + begin
        layout = self._layout(job[2])
        failed = layout is None or write_pieces(
            self._files, layout, [VerifiedPiece(job[3], offset, self._arena.view(offset, length), begin)]
        )
        self._complete(job, messages.FAILED if failed else messages.OK)

    def _finish_files(self, jobs: list[_Job]) -> None:
        known = [(job, layout) for job in jobs if (layout := self._known(job)) is not None]
        repeated = [number for number, (job, _) in enumerate(known) if job[4]]
        marks = {number: Marks.unpack(job[6]) for number, (job, _) in enumerate(known) if job[6]}
        outcomes = finish.finish_files(self._files, [(layout, job[3]) for job, layout in known], repeated, marks)
        for (job, layout), outcome in zip(known, outcomes, strict=True):
            if isinstance(outcome, OSError):
                self._conclude(job, layout, outcome)
            else:
                self._complete(job, messages.OK, told=pack(outcome))

    def _demote_file(self, job: _Job) -> None:
        layout = self._known(job)
        if layout is not None:
            try:
                finish.demote_file(layout, job[3], repeated=job[4] > 0)
            except OSError as error:
                self._conclude(job, layout, error)
            else:
                self._conclude(job, layout, None)

    def _restore_piece(self, job: _Job) -> None:
        layout = self._known(job)
        if layout is not None:
            try:
                whole = restore_piece(self._files, layout, job[3], job[6])
            except OSError as error:
                self._report(layout, layout.parts_file, error)
                self._complete(job, messages.FAILED, error.errno or errno.EIO)
            else:
                self._complete(job, messages.OK if whole else messages.MISMATCH, told=layout.written_into(job[3]))

    def _make_link(self, job: _Job) -> None:
        layout = self._known(job)
        if layout is not None:
            try:
                make_link(layout, job[3])
            except OSError as error:
                self._complete(job, messages.MISMATCH, error.errno or errno.EIO)
            else:
                self._complete(job, messages.OK)

    def _known(self, job: _Job) -> Layout | None:
        """The layout that a job is for; fails the job when there is none."""
        layout = self._layout(job[2])
        if layout is None:
            self._complete(job, messages.FAILED, errno.EIO)
        return layout

    def _conclude(self, job: _Job, layout: Layout, error: OSError | None) -> None:
        if error is None:
            self._complete(job, messages.OK)
        else:
            self._report(layout, job[3], error)
            self._complete(job, messages.FAILED, error.errno or errno.EIO)

    def _report(self, layout: Layout, file: int, error: OSError) -> None:
        self._answer(
            messages.Problem(
                torrent=layout.torrent,
                path=layout.path(file),
                message=error.strerror or str(error),
                errno=error.errno or errno.EIO,
            )
        )

    def _complete(self, job: _Job, status: int, detail: int = 0, told: bytes = b"") -> None:
        kind, number, torrent, index = job[:4]
        if not self._completions.put(messages.DONE | kind, number, torrent, index, 0, 0, told, status, detail):
            raise RuntimeError("completion ring is full: more jobs were given out than it holds")


def serve(
    arena: Arena, rings: int, capacity: int, jobs_wake: int, done_wake: int, control: int, *, is_eventfd: bool
) -> None:
    """Does what the network process asks until that has gone. All are descriptors but `capacity`."""
    name_process("btfast-worker")
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    # Ctrl-C in a terminal goes to every process; the network process decides when workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    jobs = Ring(rings, 0, capacity, jobs_wake, is_eventfd=is_eventfd)
    completions = Ring(rings, ring_bytes(capacity), capacity, done_wake, is_eventfd=is_eventfd)
    Worker(arena, jobs, completions, control).run()


def main() -> None:
    """Entry of `python -m btfast.storage.worker`; not for people."""
    arena_fd, arena_size, *line, is_eventfd = map(int, sys.argv[1:])
    serve(Arena(arena_fd, arena_size), *line, is_eventfd=bool(is_eventfd))
    os._exit(0)  # the network process waits for our end: nothing is left that the interpreter's would have to do


if __name__ == "__main__":
    main()
