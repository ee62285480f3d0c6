"""A long check and the pieces that come meanwhile take turns; what is over is not checked any more."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from disk_harness import Content
from worker_harness import WorkerUnderTest
from workshop import Workshop

from btfast.storage.layout import Layout
from btfast.storage.messages import (
    GOOD,
    OK,
    WRITE_PIECE,
    CheckPieces,
    CloseTorrent,
    PiecesChecked,
    encode,
)

PIECE = 64 << 10
SMALL = Content({"small": PIECE}, PIECE)
LARGE = Content({"large": 10 * PIECE}, PIECE)


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

    def check(layout: Layout, first: int, hashes: bytes, size: int, *, final: bool) -> bytes:
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
