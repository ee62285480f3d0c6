"""A long check and the pieces that come meanwhile take turns; what is over is not checked any more."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from disk_harness import Content
from worker_harness import WorkerUnderTest

from btfast._arena import Arena, shared_memory
from btfast._ring import Ring, ring_bytes
from btfast.frames import Frames
from btfast.storage.layout import Layout
from btfast.storage.messages import (
    GOOD,
    OK,
    WRITE_PIECE,
    Answer,
    CheckPieces,
    CloseTorrent,
    PiecesChecked,
    decode_answer,
    encode,
)
from btfast.storage.worker import Worker

PIECE = 64 << 10
SMALL = Content({"small": PIECE}, PIECE)
LARGE = Content({"large": 10 * PIECE}, PIECE)


class Workshop:
    """A worker in this process, which has both ends of its rings and of its control stream."""

    def __init__(self) -> None:
        self.arena = Arena.create(8 << 20)
        self._fds = [shared_memory("test-rings", 2 * ring_bytes(64)), *(os.eventfd(0, os.EFD_NONBLOCK) for _ in "12")]
        rings, jobs_wake, done_wake = self._fds
        self.jobs = Ring(rings, 0, 64, jobs_wake)
        self.completions = Ring(rings, ring_bytes(64), 64, done_wake)
        self.control, self._theirs = socket.socketpair()
        self.worker = Worker(self.arena, self.jobs, self.completions, self._theirs.fileno())

    def answers(self, count: int) -> list[Answer]:
        """Runs the worker until it has answered so often."""
        found: list[Answer] = []

        def read() -> None:
            frames = Frames()
            self.control.settimeout(20)
            try:
                while len(found) < count:
                    found.extend(map(decode_answer, frames.handle_bytes(self.control.recv(1 << 16))))
            finally:
                self.control.shutdown(socket.SHUT_WR)

        reader = threading.Thread(target=read)
        reader.start()
        self.worker.run()
        reader.join()
        return found

    def close(self) -> None:
        self.control.close()
        self._theirs.close()
        for fd in self._fds:
            os.close(fd)


@pytest.fixture
def workshop() -> Iterator[Workshop]:
    found = Workshop()
    yield found
    found.close()


def test_a_piece_is_written_and_a_torrent_closed_amid_a_long_check(
    tmp_path: Path, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = SMALL.slot(workshop.arena, 0)
    checked: list[int] = []

    def check(layout: Layout, first: int, hashes: bytes, size: int) -> bytes:
        checked.append(first)
        if len(checked) == 2:
            digest = hashlib.sha1(SMALL.data).digest()
            workshop.jobs.put(WRITE_PIECE, 1, 2, 0, slot.offset, slot.length, digest)
        elif len(checked) == 3:
            ((*_, status, _),) = workshop.completions.take()
            assert status == OK, "the piece waited for no more than the question that was being answered"
        elif len(checked) == 4:
            workshop.control.sendall(encode(CloseTorrent(1)))
        return bytes([GOOD])

    monkeypatch.setattr(workshop.worker._checker, "check", check)
    for order in (LARGE.order(tmp_path, number=1), SMALL.order(tmp_path, number=2)):
        workshop.control.sendall(encode(order))
    for first in range(10):
        workshop.control.sendall(encode(CheckPieces(1, first, LARGE.hashes(first, 1))))
    answers = workshop.answers(10)
    assert checked == [0, 1, 2, 3]
    assert answers == [PiecesChecked(1, first, bytes([GOOD]) if first < 4 else b"") for first in range(10)]
    assert (tmp_path / "small.part").read_bytes() == SMALL.data


def test_questions_about_a_torrent_that_is_not_open_are_answered(tmp_path: Path) -> None:
    SMALL.put_on_disk(tmp_path)
    with WorkerUnderTest() as worker:
        worker.order(CheckPieces(7, 0, SMALL.hashes()))
        worker.order(SMALL.order(tmp_path, number=8))
        worker.order(CheckPieces(8, 0, SMALL.hashes()))
        answers = [worker.answer() for _ in range(2)]
    assert PiecesChecked(7, 0, b"") in answers
    assert PiecesChecked(8, 0, bytes([GOOD])) in answers
