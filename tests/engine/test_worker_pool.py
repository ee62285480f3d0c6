"""The pool with real worker processes: jobs done, workers killed, and nothing lost."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from real_sockets import until

from btfast._arena import Arena
from btfast.engine.worker_process import Job
from btfast.engine.worker_start import StartedWorker, start_worker
from btfast.engine.workers import Workers
from btfast.errors import InternalError
from btfast.storage.identity import FINAL
from btfast.storage.messages import (
    FINISH_FILE,
    GOOD,
    MISMATCH,
    OK,
    SAVE_BLOCKS,
    WRITE_PIECE,
    CheckPieces,
    FileSeen,
    OpenTorrent,
    PartialPiece,
    Problem,
    Row,
    Wanted,
)

PIECE = 64 << 10
DATA = random.Random(5).randbytes(60 * PIECE + 100)
COUNT = 61


class Pool:
    """Workers on one torrent of one file, and what they have said."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.arena = Arena.create(32 << 20)
        self.completed: list[tuple[Job, int, int]] = []
        self.problems: list[Problem] = []
        self.fatal: list[InternalError] = []
        self.batches = 0
        self.workers = Workers(
            self.arena,
            [start_worker(self.arena) for _ in range(count)],
            self._completed,
            self._batch_ended,
            self.problems.append,
            self.fatal.append,
        )
        self.order = OpenTorrent(
            torrent=0, directory=str(folder), paths=["data"], lengths=[len(DATA)], pads=[], piece_length=PIECE,
            in_place=False, io="auto",
        )  # fmt: skip

    def _completed(self, job: Job, status: int, errno: int) -> None:
        self.completed.append((job, status, errno))

    def _batch_ended(self) -> None:
        self.batches += 1

    def write(self, index: int, *, wrong: bool = False) -> None:
        piece = DATA[index * PIECE : (index + 1) * PIECE]
        slot = self.arena.allocate(len(piece))
        assert slot is not None
        slot.write(0, bytes(len(piece)) if wrong else piece)
        self.workers.write_piece(0, index, slot, hashlib.sha1(piece).digest())

    def processes(self) -> list[psutil.Process]:
        return [psutil.Process(pid) for pid in self.workers.pids]


@pytest_asyncio.fixture(params=[1, 3])
async def pool(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Pool]:
    found = Pool(tmp_path, request.param)
    await found.workers.start()
    found.workers.open_torrent(found.order)
    yield found
    found.workers.close()
    await found.workers.reap()


async def test_pieces_are_written_and_the_slots_come_back(pool: Pool) -> None:
    for index in range(COUNT):
        pool.write(index)
    assert pool.workers.busy
    await until(lambda: len(pool.completed) == COUNT)
    assert not pool.workers.busy
    assert {status for _, status, _ in pool.completed} == {OK}
    assert pool.batches > 0
    pool.workers.file_job(FINISH_FILE, 0, 0)
    await until(lambda: len(pool.completed) == COUNT + 1)
    assert (pool.folder / "data").read_bytes() == DATA
    pool.completed.clear()
    await until(lambda: pool.arena.used == 0)


async def test_a_wrong_piece_is_told(pool: Pool) -> None:
    pool.write(0, wrong=True)
    pool.write(1)
    await until(lambda: len(pool.completed) == 2)
    assert {job.piece: status for job, status, _ in pool.completed} == {0: MISMATCH, 1: OK}


async def test_what_is_on_disk_is_checked_by_whichever_worker(pool: Pool) -> None:
    (pool.folder / "data.part").write_bytes(DATA)
    hashes = b"".join(hashlib.sha1(DATA[at : at + PIECE]).digest() for at in range(0, len(DATA), PIECE))
    questions = [
        pool.workers.check(CheckPieces(0, first, hashes[20 * first : 20 * first + 200]), number)
        for number, first in enumerate(range(0, COUNT, 10))
    ]
    answers = await asyncio.gather(*questions)
    assert b"".join(answer.states for answer in answers) == bytes([GOOD]) * COUNT


async def test_a_disk_that_fails_is_told(pool: Pool) -> None:
    (pool.folder / "data.part").mkdir()
    pool.write(0)
    await until(lambda: pool.completed)
    assert pool.problems[0].path == str(pool.folder / "data")
    assert pool.completed[0][2] == pool.problems[0].errno


async def test_a_killed_worker_is_replaced_and_its_jobs_are_done(pool: Pool) -> None:
    before = pool.workers.pids
    for process in pool.processes():
        process.send_signal(signal.SIGSTOP)  # so that it dies with its jobs unanswered
    for index in range(COUNT):
        pool.write(index)
    pool.workers.flush()
    await asyncio.sleep(0.05)
    assert pool.completed == []
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    await until(lambda: len(pool.completed) == COUNT)
    assert sorted(job.piece for job, _, _ in pool.completed) == list(range(COUNT))
    assert {status for _, status, _ in pool.completed} == {OK}
    assert set(pool.workers.pids).isdisjoint(before)
    assert pool.fatal == []
    assert (pool.folder / "data.part").read_bytes() == DATA


async def test_a_successor_that_dies_before_it_is_connected_passes_its_jobs_on(pool: Pool) -> None:
    first = set(pool.workers.pids)
    for pid in first:
        os.kill(pid, signal.SIGSTOP)
    for index in range(COUNT):
        pool.write(index)
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    # Turn by turn, so that a successor is seen in the turn in which it is started.
    async with asyncio.timeout(60):
        while first & set(pool.workers.pids):
            for pid in set(pool.workers.pids) - first:
                os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0)
    for pid in pool.workers.pids:
        os.kill(pid, signal.SIGKILL)
    await until(lambda: len(pool.completed) == COUNT)
    assert sorted(job.piece for job, status, _ in pool.completed if status == OK) == list(range(COUNT))
    assert pool.fatal == []


async def test_what_a_worker_finished_before_it_died_counts_once(pool: Pool) -> None:
    for index in range(20):
        pool.write(index)
    await until(lambda: len(pool.completed) == 20)
    for pid in pool.workers.pids:
        os.kill(pid, signal.SIGKILL)
    for index in range(20, COUNT):
        pool.write(index)
    await until(lambda: len(pool.completed) == COUNT)
    assert sorted(job.piece for job, _, _ in pool.completed) == list(range(COUNT))


async def test_a_question_to_a_killed_worker_is_answered_by_its_successor(pool: Pool) -> None:
    (pool.folder / "data.part").write_bytes(DATA)
    for process in pool.processes():
        process.send_signal(signal.SIGSTOP)
    question = asyncio.ensure_future(
        pool.workers.check(CheckPieces(0, 3, hashlib.sha1(DATA[3 * PIECE : 4 * PIECE]).digest()), 0)
    )
    await asyncio.sleep(0.05)
    for pid in pool.workers.pids:
        os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        assert (await question).states == bytes([GOOD])


async def test_a_job_that_kills_every_worker_ends_the_session(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    def start_doomed_worker(arena: Arena) -> StartedWorker:
        started = start_worker(arena)
        started.process.kill()
        return started

    monkeypatch.setattr("btfast.engine.workers.start_worker", start_doomed_worker)
    for process in pool.processes():
        process.send_signal(signal.SIGSTOP)
    pool.write(0)
    pool.workers.flush()
    for process in pool.processes():
        process.kill()
    async with asyncio.timeout(60):
        while not pool.fatal:
            await asyncio.sleep(0.005)
    assert "giving up" in str(pool.fatal[0])
    assert pool.completed == []


async def test_closing_leaves_no_process(pool: Pool) -> None:
    processes = pool.processes()
    for index in range(COUNT):
        pool.write(index)
    pool.workers.close()
    await pool.workers.reap()
    assert not any(process.is_running() for process in processes)


async def test_a_stopped_worker_is_ended_by_force(pool: Pool) -> None:
    processes = pool.processes()
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    pool.workers.close()
    await pool.workers.reap()
    assert not any(process.is_running() for process in processes)


async def test_a_whole_piece_is_written_after_blocks_of_it_that_are_being_saved(pool: Pool) -> None:
    for pid in pool.workers.pids:
        os.kill(pid, signal.SIGSTOP)
    wrong = pool.arena.allocate(PIECE)
    assert wrong is not None
    wrong.write(0, bytes(PIECE))
    pool.workers.save_blocks(0, 3, wrong, 0, PIECE // 2)
    pool.workers.save_blocks(0, 3, wrong, PIECE // 2, PIECE // 2)
    pool.write(3)
    pool.write(4)
    pool.workers.flush()
    for pid in pool.workers.pids[1:]:
        os.kill(pid, signal.SIGCONT)
    os.kill(pool.workers.pids[0], signal.SIGKILL)  # its save is given out again
    await until(lambda: len(pool.completed) == 4)
    assert [job.kind for job, status, _ in pool.completed if job.piece == 3 and status == OK] == [
        SAVE_BLOCKS, SAVE_BLOCKS, WRITE_PIECE,
    ]  # fmt: skip
    assert not pool.workers.busy
    assert (pool.folder / "data.part").read_bytes()[3 * PIECE : 5 * PIECE] == DATA[3 * PIECE : 5 * PIECE]


async def test_memory_that_a_worker_may_read_to_stays_until_it_has_answered_or_is_dead(pool: Pool) -> None:
    blocks = PartialPiece(0, b"\x01", bytes(8))
    worker = pool.workers.workers[0]
    for kill in (False, True):
        slot = pool.arena.allocate(PIECE)
        os.kill(worker.process.pid, signal.SIGSTOP)
        reading = asyncio.ensure_future(pool.workers.read_blocks(0, slot, blocks))
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait((reading,))
        del slot, reading
        assert pool.arena.used > 0
        os.kill(worker.process.pid, signal.SIGKILL if kill else signal.SIGCONT)
        await until(lambda: pool.arena.used == 0)
    assert pool.workers.workers[0] is not worker


async def test_a_closed_torrent_waits_for_its_jobs(pool: Pool) -> None:
    for index in range(10):
        pool.write(index)
    pool.workers.close_torrent(0)
    await until(lambda: len(pool.completed) == 10)
    assert {status for _, status, _ in pool.completed} == {OK}
    assert not pool.workers.busy


async def test_a_record_is_made_although_the_worker_that_was_asked_dies(pool: Pool, tmp_path: Path) -> None:
    (pool.folder / "data").write_bytes(DATA)
    store = str(tmp_path / "state" / "resume.db")
    row = Row(
        torrent=0, key=bytes(32), directory=str(pool.folder), count=1, complete=True, have=b"\xff" * 8,
        files=[FileSeen(0, "data", FINAL, True)], partial=[], uploaded=0, downloaded=0, peers=b"", trackers=[], used=0,
    )  # fmt: skip
    for pid in pool.workers.pids:
        os.kill(pid, signal.SIGSTOP)
    recording = asyncio.ensure_future(pool.workers.record(store, [row]))
    await asyncio.sleep(0.05)
    assert not recording.done()
    for pid in pool.workers.pids:
        os.kill(pid, signal.SIGKILL)
    answer = await asyncio.wait_for(recording, 60)
    assert (answer.failed, answer.error) == ([], "")
    known = (await pool.workers.recall(store, [Wanted(bytes(32), str(pool.folder), ["data"], [], ".part")])).known[0]
    assert known is not None
    assert known.complete


async def test_a_file_is_finished_by_who_has_it_open_unless_others_have_less_to_do(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 2)
    await pool.workers.start()
    pool.workers.open_torrent(pool.order)
    try:
        other, knows = pool.workers.workers
        knows.torrents.add(0)
        knows.jobs |= {-number: Job(FINISH_FILE, 0, 0, None, b"") for number in range(1, 17)}
        assert pool.workers._idlest_that_knows(0) is knows
        knows.jobs[-17] = knows.jobs[-1]
        assert pool.workers._idlest_that_knows(0) is other
        knows.jobs.clear()
    finally:
        pool.workers.close()
        await pool.workers.reap()


async def test_the_workers_cpu_time_is_told_and_none_for_one_that_is_gone(pool: Pool) -> None:
    for index in range(COUNT):
        pool.write(index)
    await until(lambda: len(pool.completed) == COUNT)
    used = sum(sum(process.cpu_times()[:2]) for process in pool.processes())
    assert used - 0.05 < pool.workers.cpu_seconds() < used + 1.0
    process = pool.workers.workers[0]
    process.close(kill=True)
    assert process.cpu_seconds() == 0.0
