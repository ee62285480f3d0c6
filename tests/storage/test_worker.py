"""The worker as a process of its own, through its rings and its control stream."""

from __future__ import annotations

import hashlib
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from disk_harness import Content, on_disk
from leaks import wait_until
from worker_harness import Done, WorkerUnderTest

from btfast.storage.messages import (
    DEMOTE_FILE,
    DONE,
    FAILED,
    FINISH_FILE,
    GOOD,
    MISMATCH,
    MISSING,
    OK,
    WRITE_PIECE,
    CheckPieces,
    CloseTorrent,
    PiecesChecked,
    Problem,
)

PIECE = 64 << 10
TREE = Content({"t/a": 5 * PIECE + 100, "t/b": 1, "t/c/d": 3 * PIECE, "t/empty": 0}, PIECE)
LARGE = Content({"large": 150 * PIECE + 3}, PIECE)


@pytest.fixture
def worker() -> Iterator[WorkerUnderTest]:
    with WorkerUnderTest() as found:
        yield found


def give_pieces(worker: WorkerUnderTest, content: Content, indexes: list[int], torrent: int = 0) -> dict[int, int]:
    """Jobs for these pieces, by job number."""
    numbers = {}
    for index in indexes:
        digest = hashlib.sha1(content.piece(index)).digest()
        numbers[worker.give(WRITE_PIECE, torrent, index, content.slot(worker.arena, index), digest)] = index
    worker.wake()
    return numbers


def test_verified_pieces_are_written_and_finished(tmp_path: Path, worker: WorkerUnderTest) -> None:
    worker.order(TREE.order(tmp_path))
    numbers = give_pieces(worker, TREE, list(range(TREE.count)))
    done = worker.completions(TREE.count)
    assert {record.job: record.index for record in done} == numbers
    assert all(record == Done(DONE | WRITE_PIECE, record.job, 0, record.index, OK, 0) for record in done)
    assert on_disk(tmp_path) == {path: data for path, data in TREE.files.items() if data}
    for file in range(4):
        worker.give(FINISH_FILE, 0, file)
    worker.wake()
    assert [(record.kind, record.index, record.status) for record in worker.completions(4)] == [
        (DONE | FINISH_FILE, file, OK) for file in range(4)
    ]
    assert on_disk(tmp_path, "") == TREE.files
    assert worker.answers == []


def test_more_jobs_than_a_batch_are_all_answered(tmp_path: Path, worker: WorkerUnderTest) -> None:
    worker.order(LARGE.order(tmp_path))
    order = list(range(LARGE.count))
    random.Random(1).shuffle(order)
    give_pieces(worker, LARGE, order)
    assert {record.status for record in worker.completions(LARGE.count)} == {OK}
    assert on_disk(tmp_path) == LARGE.files


def test_a_wrong_piece_is_told_and_not_written(tmp_path: Path, worker: WorkerUnderTest) -> None:
    worker.order(TREE.order(tmp_path))
    slot = TREE.slot(worker.arena, 2)
    slot.write(100, b"x")
    right = TREE.slot(worker.arena, 1)
    worker.give(WRITE_PIECE, 0, 2, slot, hashlib.sha1(TREE.piece(2)).digest())
    worker.give(WRITE_PIECE, 0, 1, right, hashlib.sha1(TREE.piece(1)).digest())
    worker.wake()
    assert {record.index: record.status for record in worker.completions(2)} == {2: MISMATCH, 1: OK}
    written = on_disk(tmp_path)["t/a"]
    assert written[PIECE : 2 * PIECE] == TREE.piece(1)
    assert written[2 * PIECE : 3 * PIECE] == bytes(PIECE)


def test_a_job_may_overtake_the_order_that_opens_its_torrent(tmp_path: Path, worker: WorkerUnderTest) -> None:
    give_pieces(worker, TREE, [0, 1], torrent=9)
    worker.order(TREE.order(tmp_path, number=9))
    assert [record.status for record in worker.completions(2)] == [OK, OK]


def test_torrents_do_not_mix(tmp_path: Path, worker: WorkerUnderTest) -> None:
    other = Content({"t/a": 3 * PIECE}, PIECE)
    worker.order(TREE.order(tmp_path / "one", number=1))
    worker.order(other.order(tmp_path / "two", number=2))
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    give_pieces(worker, TREE, list(range(TREE.count)), torrent=1)
    give_pieces(worker, other, list(range(other.count)), torrent=2)
    done = worker.completions(TREE.count + other.count)
    assert {record.status for record in done} == {OK}
    assert on_disk(tmp_path / "one")["t/a"] == TREE.files["t/a"]
    assert on_disk(tmp_path / "two") == other.files


def test_a_disk_error_names_the_file_and_keeps_the_rest_going(tmp_path: Path, worker: WorkerUnderTest) -> None:
    worker.order(TREE.order(tmp_path))
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "c").write_bytes(b"")
    give_pieces(worker, TREE, list(range(TREE.count)))
    done = {record.index: record for record in worker.completions(TREE.count)}
    assert [done[index].status for index in range(TREE.count)] == [OK] * 5 + [FAILED] * 4
    problems = [answer for answer in worker.answers if isinstance(answer, Problem)]
    assert {problem.path for problem in problems} == {str(tmp_path / "t/c/d")}
    assert {problem.errno for problem in problems} == {done[5].detail}
    assert all(problem.message for problem in problems)


def test_a_finish_that_fails_is_told(tmp_path: Path, worker: WorkerUnderTest) -> None:
    worker.order(TREE.order(tmp_path))
    worker.give(FINISH_FILE, 0, 0)
    worker.give(DEMOTE_FILE, 0, 1)
    worker.wake()
    assert {record.status for record in worker.completions(2)} == {FAILED}
    assert {answer.path for answer in worker.answers if isinstance(answer, Problem)} == {
        str(tmp_path / "t/a"),
        str(tmp_path / "t/b"),
    }


def test_it_surveys_and_checks(tmp_path: Path, worker: WorkerUnderTest) -> None:
    TREE.put_on_disk(tmp_path)
    (tmp_path / "t" / "b").unlink()
    worker.order(TREE.order(tmp_path))
    worker.order(CheckPieces(0, 3, TREE.hashes(3)))
    assert worker.answer() == PiecesChecked(0, 3, bytes([GOOD, GOOD, MISSING, GOOD, GOOD, GOOD]))
    worker.give(DEMOTE_FILE, 0, 0)
    worker.wake()
    assert worker.completions(1)[0].status == OK
    assert (tmp_path / "t" / "a.part").exists()


def test_a_closed_torrent_keeps_no_file_open(tmp_path: Path, worker: WorkerUnderTest) -> None:
    def open_files() -> list[str]:
        folder = f"/proc/{worker.process.pid}/fd"
        targets = [os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)]
        return [target for target in targets if target.startswith(str(tmp_path))]

    worker.order(TREE.order(tmp_path))
    give_pieces(worker, TREE, list(range(TREE.count)))
    worker.completions(TREE.count)
    assert open_files() != []
    worker.order(CloseTorrent(0))
    assert wait_until(lambda: open_files() == [], patience=60)


def test_it_stays_when_the_terminal_is_interrupted(tmp_path: Path, worker: WorkerUnderTest) -> None:
    worker.order(TREE.order(tmp_path))
    give_pieces(worker, TREE, [0])
    worker.completions(1)
    worker.process.send_signal(signal.SIGINT)
    give_pieces(worker, TREE, [1])
    assert worker.completions(1)[0].status == OK


def test_it_leaves_when_the_network_process_is_gone() -> None:
    with WorkerUnderTest() as worker:
        worker.control.close()
        assert worker.process.wait(60) == 0


def test_a_killed_worker_leaves_jobs_that_another_can_do(tmp_path: Path) -> None:
    with WorkerUnderTest() as first, WorkerUnderTest() as second:
        first.order(TREE.order(tmp_path))
        give_pieces(first, TREE, [0, 1])
        first.completions(2)
        first.process.kill()
        first.process.wait()
        second.order(TREE.order(tmp_path))
        give_pieces(second, TREE, list(range(2, TREE.count)))
        assert {record.status for record in second.completions(TREE.count - 2)} == {OK}
    assert on_disk(tmp_path) == {path: data for path, data in TREE.files.items() if data}
