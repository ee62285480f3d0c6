"""Pieces of v2 torrents and hybrids: judged in memory by a worker, and on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.torrents import Made
from support.v2_torrents import make_v2
from worker_harness import WorkerUnderTest

from btfast.metainfo.torrent import Torrent
from btfast.storage.check import Checker
from btfast.storage.judging import judge_pieces
from btfast.storage.layout import Layout
from btfast.storage.messages import (
    BAD,
    DISAGREE,
    GOOD,
    MISMATCH,
    MISSING,
    OK,
    SPLIT,
    WRITE_PIECE,
    CloseTorrent,
    OpenTorrent,
)

PIECE = 32768
FILES = {"a": 100_000, "b": 0, "c": PIECE, "d": 5, "e": 2 * PIECE, "f": 40_000}


def order_of(torrent: Torrent, folder: Path) -> OpenTorrent:
    return OpenTorrent(
        torrent=1,
        directory=str(folder),
        paths=[str(torrent.file_path(number)) for number in range(len(torrent.files))],
        lengths=[file.length for file in torrent.files],
        pads=[number for number, file in enumerate(torrent.files) if file.pad],
        piece_length=torrent.piece_length,
        aligned=torrent.info_hash_v1 is None,
        in_place=True,
        io="auto",
    )


class Case:
    """A torrent, its layout, and the bytes of each piece as peers send them."""

    def __init__(self, hybrid: bool, folder: Path, **options: object) -> None:
        self.made: Made = make_v2(FILES, name="t", piece_length=PIECE, hybrid=hybrid, **options)  # type: ignore[arg-type]
        self.torrent = Torrent.parse(self.made.torrent)
        self.order = order_of(self.torrent, folder)
        self.layout = Layout(self.order)
        contents = {f"t/{path}": data for path, data in self._contents().items()}
        self.pieces = []
        for index in range(self.torrent.piece_count):
            spans = self.torrent.geometry.piece_spans(index)
            parts = [contents.get(self.order.paths[file], bytes(1 << 20))[at : at + length] for file, at, length in spans]
            self.pieces.append(b"".join(parts))
        self.digests = [self.torrent.hashes.digest(index) for index in range(self.torrent.piece_count)]

    def _contents(self) -> dict[str, bytes]:
        return {path.removeprefix("t/"): data for path, data in self.made.contents().items()}

    def judge(self, payloads: list[bytes], digests: list[bytes] | None = None) -> list[int]:
        views = [memoryview(bytearray(payload)) for payload in payloads]
        return judge_pieces(views, digests or self.digests, self.layout.tree_shape)


@pytest.fixture(params=[False, True], ids=["v2", "hybrid"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return Case(request.param, tmp_path)


def spoiled(piece: bytes, at: int = 0) -> bytes:
    return piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1 :]


def test_right_pieces_are_right_and_one_wrong_byte_is_seen(case: Case) -> None:
    assert case.judge(case.pieces) == [OK] * len(case.pieces)
    for wrong in range(len(case.pieces)):
        length = case.layout.tree_shape(wrong)[0]
        payloads = list(case.pieces)
        payloads[wrong] = spoiled(payloads[wrong], length - 1)
        assert case.judge(payloads) == [MISMATCH if index == wrong else OK for index in range(len(case.pieces))]


def test_what_was_sent_for_a_pad_does_not_count(tmp_path: Path) -> None:
    case = Case(True, tmp_path)
    payloads = []
    for index, piece in enumerate(case.pieces):
        length = case.layout.tree_shape(index)[0]
        payloads.append(piece[:length] + b"\xff" * (len(piece) - length))
    assert any(payload != piece for payload, piece in zip(payloads, case.pieces, strict=True))
    assert case.judge(payloads) == [OK] * len(case.pieces)


def test_halves_that_describe_different_data_disagree(tmp_path: Path) -> None:
    case = Case(True, tmp_path)
    other = [digest[:20] + bytes(32) for digest in case.digests]
    assert case.judge(case.pieces, other) == [DISAGREE] * len(case.pieces)
    other = [bytes(20) + digest[20:] for digest in case.digests]
    assert case.judge(case.pieces, other) == [DISAGREE] * len(case.pieces)
    assert case.judge(case.pieces, [bytes(52)] * len(case.pieces)) == [MISMATCH] * len(case.pieces)


def test_pieces_of_every_kind_are_judged_in_one_call(tmp_path: Path) -> None:
    both, alone = Case(True, tmp_path), Case(False, tmp_path)
    digests = [digest[:20] if index % 3 == 0 else digest for index, digest in enumerate(both.digests)]
    digests[1] = digests[1][20:]
    assert both.judge(both.pieces, digests) == [OK] * len(both.pieces)
    assert [digest[20:] for digest in both.digests] == alone.digests, "either kind of torrent has the same trees"


def test_a_worker_writes_what_is_right_and_says_what_is_not(case: Case, tmp_path: Path) -> None:
    with WorkerUnderTest() as worker:
        worker.order(case.order)
        jobs = {}
        for index, piece in enumerate(case.pieces):
            slot = worker.arena.allocate(len(piece), 0)
            assert slot is not None
            slot.write(0, spoiled(piece) if index == 2 else piece)
            jobs[worker.give(WRITE_PIECE, 1, index, slot, case.digests[index])] = index
        worker.wake()
        done = {jobs[completion.job]: completion.status for completion in worker.completions(len(jobs))}
    assert done == {index: MISMATCH if index == 2 else OK for index in range(len(case.pieces))}
    written = {path: (tmp_path / path).read_bytes() for path in case.made.files if (tmp_path / path).exists()}
    for path, data in case.made.contents().items():
        if path == "t/a":
            assert len(written[path]) == len(data)
            assert written[path][: 2 * PIECE] == data[: 2 * PIECE]
        elif data:
            assert written[path] == data


def test_a_job_of_a_torrent_that_is_closed_fails(case: Case) -> None:
    with WorkerUnderTest() as worker:
        worker.order(case.order)
        worker.order(CloseTorrent(1))
        slot = worker.arena.allocate(len(case.pieces[0]), 0)
        assert slot is not None
        slot.write(0, case.pieces[0])
        worker.give(WRITE_PIECE, 1, 0, slot, case.digests[0])
        worker.wake()
        (done,) = worker.completions(1)
    assert done.status not in (OK, MISMATCH)


def check(case: Case, digests: list[bytes] | None = None) -> list[int]:
    digests = digests or case.digests
    checker = Checker()
    try:
        return list(checker.check(case.layout, 0, b"".join(digests), len(digests[0])))
    finally:
        checker.close()


def test_data_on_disk_is_judged_by_the_same_hashes(case: Case, tmp_path: Path) -> None:
    case.made.lay_out(tmp_path)
    count = len(case.pieces)
    assert check(case) == [GOOD] * count
    with (tmp_path / "t" / "f").open("r+b") as file:
        file.seek(39_999)
        file.write(b"\0\0\0")
    (tmp_path / "t" / "d").unlink()
    assert check(case) == [GOOD] * 5 + [MISSING] + [GOOD] * 3 + [BAD]


def test_halves_that_disagree_are_seen_on_disk(tmp_path: Path) -> None:
    case = Case(True, tmp_path)
    case.made.lay_out(tmp_path)
    assert check(case, [bytes(20) + digest[20:] for digest in case.digests]) == [SPLIT] * len(case.pieces)
    assert check(case, [digest[:20] for digest in case.digests]) == [GOOD] * len(case.pieces)


def test_long_pieces_are_hashed_chunk_by_chunk(tmp_path: Path) -> None:
    for hybrid in (False, True):
        made = make_v2({"x": 3_000_001, "y": 1_100_000}, name="t", piece_length=1 << 20, hybrid=hybrid)
        torrent = Torrent.parse(made.torrent)
        made.lay_out(tmp_path)
        digests = [torrent.hashes.digest(index) for index in range(torrent.piece_count)]
        checker = Checker()
        layout = Layout(order_of(torrent, tmp_path))
        assert set(checker.check(layout, 0, b"".join(digests), len(digests[0]))) == {GOOD}
        checker.close()
