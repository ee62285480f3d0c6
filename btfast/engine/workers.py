"""The worker pool: who gets which job, what happens when one dies, and how many pieces travel together.

Sixteen pieces hashed at once cost a quarter of sixteen hashed one by one, so whole pieces are gathered for a moment: a
batch leaves when it has sixteen, when nothing else is under way, or after GATHER seconds, of which there are up to
LOOKS while more and more pieces come.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
from collections.abc import Callable, Iterable

from btfast._arena import Arena, Slot
from btfast.engine.worker_process import Job, WorkerProcess
from btfast.engine.worker_start import StartedWorker, start_worker
from btfast.errors import InternalError
from btfast.storage import messages

GATHER = 0.008
LOOKS = 4  # 16 pieces in that time are 500 MiB/s of MiB pieces
LANES = 16
BACKLOG = 48 << 20  # bytes that may always wait for the workers
STANDSTILL = 0.05  # seconds without an answer
SETTLE = 2.0  # seconds that workers have to end what they were given of a torrent
ATTEMPTS = 8  # of one job, when workers die over it or before it: less than the deaths that end a session
REAP = 1.0  # seconds that workers have to leave
DEATHS = 10  # of workers in a session before it gives up

Completed = Callable[[Job, int, int], None]  # job, status, errno


class Workers:
    """`handle_completed(job, status, errno)` and `handle_problem(problem)` are called in the loop."""

    def __init__(
        self,
        arena: Arena,
        started: Iterable[StartedWorker],
        handle_completed: Completed,
        handle_batch_end: Callable[[], None],
        handle_problem: Callable[[messages.Problem], None],
        handle_fatal: Callable[[InternalError], None],
    ) -> None:
        self._arena = arena
        self._handle_completed = handle_completed
        self._handle_batch_end = handle_batch_end
        self._handle_problem = handle_problem
        self._handle_fatal = handle_fatal
        self._torrents: dict[int, messages.OpenTorrent] = {}
        self._answers: dict[tuple[int, int], asyncio.Future[messages.Answer]] = {}
        self._questions = itertools.count()
        self._open_jobs: collections.Counter[int] = collections.Counter()  # of each torrent: gathered, waiting or given
        self._closing: set[int] = set()
        self._pieces: list[Job] = []  # gathered, not yet given out
        self._saving: collections.Counter[tuple[int, int]] = collections.Counter()  # torrent, piece: saves not answered
        self._held: dict[tuple[int, int], list[Job]] = {}  # whole pieces that wait for those
        self._waiting: collections.deque[Job] = collections.deque()  # no worker had room
        self._timer: asyncio.TimerHandle | None = None
        self._to_wake: set[WorkerProcess] = set()  # once this turn of the loop is over: a wake-up costs more than a job
        self._number = 0
        self._backlog = 0  # bytes of pieces that are not answered
        self._progress = 0.0  # when a worker last answered
        self._deaths = 0
        self._closed = False
        self.workers = [self._speak_with(worker) for worker in started]

    def _speak_with(self, started: StartedWorker) -> WorkerProcess:
        return WorkerProcess(started, self._answered, self._completed, self._died)

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        for worker in self.workers:
            await worker.connect()

    @property
    def pids(self) -> list[int]:
        return [worker.process.pid for worker in self.workers]

    @property
    def busy(self) -> bool:
        """Whether any job is not answered."""
        return any(self._open_jobs.values())

    def busy_with(self, torrent: int) -> bool:
        """Whether any job of this torrent is not answered."""
        return self._open_jobs[torrent] > 0

    async def settle(self, torrent: int) -> None:
        """Waits until what was given of this torrent is done: whole pieces are kept, and nobody writes there afterwards."""
        self.flush()
        deadline = self._loop.time() + SETTLE
        while self.busy_with(torrent):
            if self._loop.time() > deadline:
                return  # a hanging disk must not hold up the end
            await asyncio.sleep(0.005)

    # torrents and questions

    def open_torrent(self, order: messages.OpenTorrent) -> None:
        """From here on jobs and questions may name the torrent."""
        self._torrents[order.torrent] = order

    def close_torrent(self, torrent: int) -> None:
        """No more jobs of it will be given; those under way are done first: a worker must not look for what has gone."""
        if torrent in self._torrents:
            self._closing.add(torrent)
            if self._open_jobs[torrent]:
                self.flush()
            else:
                self._close_now(torrent)

    def _close_now(self, torrent: int) -> None:
        self._closing.discard(torrent)
        del self._torrents[torrent], self._open_jobs[torrent]
        for worker in self.workers:
            worker.orders = [order for order in worker.orders if messages.torrent_of(order) != torrent]
            if torrent in worker.torrents:
                worker.torrents.discard(torrent)
                worker.order(messages.CloseTorrent(torrent))

    def _introduce(self, worker: WorkerProcess, torrent: int) -> None:
        """A worker hears of a torrent when it first gets work of it: most small ones need only one worker."""
        if torrent not in worker.torrents and torrent in self._torrents:
            worker.torrents.add(torrent)
            worker.order(self._torrents[torrent])

    def cpu_seconds(self) -> float:
        """What the workers have used so far."""
        return sum(worker.cpu_seconds() for worker in self.workers)

    async def check(self, order: messages.CheckPieces, worker: int) -> messages.PiecesChecked:
        """Asks worker number `worker` (modulo how many there are) to hash pieces on disk."""
        process = self.workers[worker % len(self.workers)]
        self._introduce(process, order.torrent)
        answer = await self._ask(process, order)
        assert isinstance(answer, messages.PiecesChecked)
        return answer

    async def hash_file(self, torrent: int, file: int, kinds: list[str]) -> messages.FileHashed:
        """Has a whole file read and hashed."""
        worker = self.workers[torrent % len(self.workers)]
        self._introduce(worker, torrent)
        answer = await self._ask(worker, messages.HashFile(next(self._questions), torrent, file, kinds))
        assert isinstance(answer, messages.FileHashed)
        return answer

    async def recall(self, store: str, wanted: list[messages.Wanted]) -> messages.Recalled:
        """Asks what the resume store knows."""
        answer = await self._ask(self.workers[0], messages.Recall(next(self._questions), store, wanted))
        assert isinstance(answer, messages.Recalled)
        return answer

    async def seek(self, store: str, marks: list[list[int]]) -> list[list[str]]:
        """Asks the resume store for files that may be those with these marks."""
        answer = await self._ask(self.workers[0], messages.Seek(next(self._questions), store, marks))
        assert isinstance(answer, messages.Sought)
        return answer.paths

    async def record(self, store: str, rows: list[messages.Row]) -> messages.Recorded:
        """Has these rows recorded, after what they speak of has been made durable."""
        answer = await self._ask(self.workers[0], messages.Record(next(self._questions), store, rows))
        assert isinstance(answer, messages.Recorded)
        return answer

    async def reopen(self, torrent: int, file: int) -> None:
        """Returns when nobody writes any more into what was open as this file; it is made again where it is not there."""
        for worker in list(self.workers):
            if torrent in worker.torrents:
                await self._ask(worker, messages.Reopen(next(self._questions), torrent, file))

    async def read_blocks(self, torrent: int, slot: Slot | None, partial: messages.PartialPiece) -> int:
        """Reads blocks of a piece back to its slot, None: nowhere; the mask of those that are the same.

        The slot stays until the worker has answered or is dead, also when nobody waits for that any more.
        """
        worker = self.workers[torrent % len(self.workers)]
        self._introduce(worker, torrent)
        offset = slot.offset if slot is not None else -1
        question = messages.ReadBlocks(next(self._questions), torrent, offset, partial)
        if slot is not None:
            worker.lent[question.question] = slot
        answer = await self._ask(worker, question)
        assert isinstance(answer, messages.BlocksRead)
        return int.from_bytes(answer.blocks, "little")

    async def read_leaves(self, torrent: int, first: int, count: int) -> bytes:
        """Leaf hashes of `count` pieces of a v2 file as they are on disk, from piece `first` on; b"" where they are not."""
        worker = self.workers[(torrent + first) % len(self.workers)]
        self._introduce(worker, torrent)
        answer = await self._ask(worker, messages.ReadLeaves(next(self._questions), torrent, first, count))
        assert isinstance(answer, messages.LeavesRead)
        return answer.leaves

    async def _ask(self, worker: WorkerProcess, question: messages.Question) -> messages.Answer:
        key = messages.question_of(question)
        assert key is not None
        future: asyncio.Future[messages.Answer] = self._loop.create_future()
        self._answers[key] = future
        worker.order(question)
        try:
            return await future
        finally:
            self._answers.pop(key, None)

    def _answered(self, worker: WorkerProcess, answer: messages.Answer) -> None:
        if isinstance(answer, messages.BlocksRead):
            worker.lent.pop(answer.question, None)
        if isinstance(answer, messages.Problem):
            self._handle_problem(answer)
        elif (key := messages.question_of(answer)) is not None:
            future = self._answers.get(key)
            if future is not None and not future.done():
                future.set_result(answer)

    # jobs

    def allocate(self, length: int, lead: int, first: int = 0) -> Slot | None:
        """A slot for a piece, or for a part of one from byte `first` on; None when the arena is full, or for now.

        While the workers get on, no more than a batch for each and one that is gathered need wait for them: what is
        fetched beyond that only falls out of the cache. When they stand still, the whole arena takes up what comes.
        """
        limit = max(BACKLOG, (len(self.workers) + 1) * LANES * length)
        if self._backlog >= limit and self._loop.time() - self._progress < STANDSTILL:
            return None
        return self._arena.allocate(length, lead, first)

    def write_piece(self, torrent: int, index: int, slot: Slot, digest: bytes) -> None:
        """Hash the slot's bytes and, if they match, write them.

        Blocks of the piece that are being saved are waited for: another worker could write them over what is verified, or
        beside a file that has its final name.
        """
        self._open_jobs[torrent] += 1
        self._backlog += slot.length
        job = Job(messages.WRITE_PIECE, torrent, index, slot, digest)
        if self._saving[torrent, index]:
            self._held.setdefault((torrent, index), []).append(job)
        else:
            self._gather(job)

    def _gather(self, job: Job) -> None:
        self._pieces.append(job)
        if len(self._pieces) >= LANES:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(GATHER, self._look, 1, 1)

    def write_part(self, torrent: int, index: int, slot: Slot) -> None:
        """Write the slot's bytes as they are."""
        self._open_jobs[torrent] += 1
        self._backlog += slot.length
        begin = slot.first.to_bytes(8, "big")
        self._give(self._idlest(), [Job(messages.WRITE_PART, torrent, index, slot, begin)])

    def save_blocks(self, torrent: int, index: int, slot: Slot, begin: int, length: int) -> None:
        """Write `length` bytes of a piece, from `begin` on, as they are in its slot."""
        self._open_jobs[torrent] += 1
        self._backlog += slot.length
        self._saving[torrent, index] += 1
        where = begin.to_bytes(8, "big") + length.to_bytes(8, "big")
        self._give(self._idlest(), [Job(messages.SAVE_BLOCKS, torrent, index, slot, where)])

    def _saved(self, job: Job) -> None:
        key = job.torrent, job.piece
        self._saving[key] -= 1
        if self._saving[key] <= 0:
            del self._saving[key]
            for held in self._held.pop(key, ()):
                self._gather(held)

    def again(self, job: Job) -> None:
        """A job that was answered is given out once more."""
        self._open_jobs[job.torrent] += 1
        if job.slot is not None:
            self._backlog += job.slot.length
        self._give(self._idlest(), [job])

    def file_job(self, kind: int, torrent: int, index: int, digest: bytes = b"") -> None:
        """FINISH_FILE, DEMOTE_FILE or RESTORE_PIECE."""
        self._open_jobs[torrent] += 1
        self._give(self._idlest_that_knows(torrent), [Job(kind, torrent, index, None, digest)])

    def flush(self) -> None:
        """Gives the gathered pieces to the worker that has least to do."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pieces:
            jobs, self._pieces = self._pieces, []
            self._give(self._idlest(), jobs)

    def _look(self, looks: int, before: int) -> None:
        """Waits on for pieces that come as fast as a full batch would take."""
        gathered = len(self._pieces)
        if looks < LOOKS and LOOKS * (gathered - before) >= LANES // 2:
            self._timer = self._loop.call_later(GATHER, self._look, looks + 1, gathered)
        else:
            self._timer = None
            self.flush()

    def _idlest(self) -> WorkerProcess:
        return min(self.workers, key=lambda worker: (worker.job_bytes, len(worker.jobs)))

    def _idlest_that_knows(self, torrent: int) -> WorkerProcess:
        """Where it has little to do, the worker that has written the torrent's pieces and has its files open."""
        idlest = self._idlest()
        if torrent in idlest.torrents:
            return idlest
        near = [worker for worker in self.workers if torrent in worker.torrents and len(worker.jobs) <= LANES]
        return min(near, key=lambda worker: worker.job_bytes, default=idlest)

    def _wake_all(self) -> None:
        for worker in self._to_wake:
            worker.wake()
        self._to_wake.clear()

    def _give(self, worker: WorkerProcess, jobs: list[Job]) -> None:
        for job in jobs:
            if worker.room == 0:
                self._waiting.append(job)
                continue
            self._introduce(worker, job.torrent)
            self._number += 1
            worker.give(self._number, job)
        if not self._to_wake:
            self._loop.call_soon(self._wake_all)
        self._to_wake.add(worker)

    def _completed(self, worker: WorkerProcess, done: list[tuple[int, int, int, bytes]]) -> None:
        self._progress = self._loop.time()
        for number, status, detail, told in done:
            job = worker.jobs.pop(number, None)
            if job is None:
                continue
            if job.slot is not None:
                worker.job_bytes -= job.slot.length
                self._backlog -= job.slot.length
            if job.kind == messages.SAVE_BLOCKS:
                self._saved(job)
            self._handle_completed(job._replace(told=told) if told else job, status, detail)
            if self._open_jobs[job.torrent] > 0:  # after a fatal error nothing counts
                self._open_jobs[job.torrent] -= 1
            if job.torrent in self._closing and not self._open_jobs[job.torrent]:
                self._close_now(job.torrent)
        while self._waiting and worker.room:
            self._give(worker, [self._waiting.popleft()])
        self._handle_batch_end()

    def _died(self, worker: WorkerProcess) -> None:
        if self._closed:
            return
        self._deaths += 1
        status = worker.process.returncode
        if self._deaths > DEATHS:
            self._give_up(f"died {self._deaths} times, last with status {status}: giving up")
            return
        try:
            fresh = self._speak_with(start_worker(self._arena))
        except OSError as error:
            self._give_up(f"one died and no other can be started: {error.strerror}")
            return
        self.workers[self.workers.index(worker)] = fresh
        # At once, not when the fresh one has been connected: it may be dead itself by then, and what it was given moves on.
        self._loop.create_task(fresh.connect()).add_done_callback(self._connected)
        for question in worker.orders:
            self._introduce(fresh, messages.torrent_of(question))
            fresh.order(question)
            if isinstance(question, messages.ReadBlocks) and question.question in worker.lent:
                fresh.lent[question.question] = worker.lent[question.question]
        worker.lent.clear()
        for job in worker.jobs.values():
            if job.attempt + 1 >= ATTEMPTS:
                self._give_up(f"{ATTEMPTS} died over piece {job.piece} of torrent {job.torrent}: giving up")
                return
        self._give(fresh, [job._replace(attempt=job.attempt + 1) for job in worker.jobs.values()])

    def _connected(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._give_up(f"one cannot be reached: {error}")

    def _give_up(self, why: str) -> None:
        self._open_jobs.clear()  # nobody will answer
        self._handle_fatal(InternalError(f"workers: {why}"))

    def close(self) -> None:
        """Ends all workers; what they were given and have not answered is lost to this session."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for worker in self.workers:
            worker.close()

    async def reap(self) -> None:
        """After `close`: waits until all are gone, and insists after REAP seconds."""
        deadline = self._loop.time() + REAP
        for worker in self.workers:
            while worker.process.poll() is None and self._loop.time() < deadline:
                await asyncio.sleep(0.001)
            if worker.process.poll() is None:
                worker.process.kill()
                worker.process.wait()
