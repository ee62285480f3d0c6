"""Verified pieces onto a real disk: every way they can lie, and every way writing can go wrong."""

from __future__ import annotations

import errno
import os
import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from disk_harness import PAGE, Content, on_disk, verified
from hypothesis import given, settings
from hypothesis import strategies as st

from btfast._arena import Arena
from btfast.storage.files import Files
from btfast.storage.layout import Layout
from btfast.storage.writer import write_pieces

PIECE = 64 << 10
ONE_FILE = Content({"one": 10 * PIECE + 777}, PIECE)
ODD_FILES = Content({"a": 100_001, "b": 1, "c/d": 0, "c/e": 4096, "c/f": 250_003, "g": 33}, PIECE)
PADDED = Content(
    {"a": 70_000, ".pad/0": 2 * PIECE - 70_000, "b": 3 * PIECE, "c": 5, ".pad/1": PIECE - 5, "d": 20_000},
    PIECE,
    pads=(".pad/0", ".pad/1"),
)
TINY_FILES = Content({f"{n // 50}/{n}": n % 7 * 100 for n in range(400)}, PIECE)


@pytest.fixture
def arena() -> Arena:
    return Arena.create(32 << 20)


@pytest.fixture
def files() -> Iterator[Files]:
    table = Files(16)
    yield table
    table.close()


class Calls:
    """Every pwritev: (direct, offset, buffers, bytes). `most` bytes are written at a time; `errors` by call number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[bool, int, int, int]] = []
        self.most: int | None = None
        self.errors: dict[int, int] = {}
        self.refuse_direct = False
        self._real = os.pwritev
        monkeypatch.setattr(os, "pwritev", self._pwritev)

    def _pwritev(self, fd: int, views: Sequence[memoryview], offset: int) -> int:
        import fcntl

        direct = bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT)
        self.seen.append((direct, offset, len(views), sum(map(len, views))))
        code = self.errors.get(len(self.seen) - 1, errno.EINVAL if direct and self.refuse_direct else 0)
        if code:
            raise OSError(code, os.strerror(code))
        if self.most is None:
            return self._real(fd, views, offset)
        return self._real(fd, [memoryview(b"".join(views))[: self.most]], offset)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


def write_all(content: Content, layout: Layout, files: Files, arena: Arena, *, batch: int = 16, **kind: bool) -> None:
    """Writes every piece, in a random order, so many at a time."""
    order = list(range(content.count))
    random.Random(1).shuffle(order)
    for start in range(0, len(order), batch):
        pieces = [verified(index, content.slot(arena, index, **kind)) for index in order[start : start + batch]]
        assert write_pieces(files, layout, pieces) == {}


def expected(content: Content) -> dict[str, bytes]:
    """What lies on disk before empty files are made: those that have no byte were never opened."""
    named = enumerate(content.files.items())
    return {path: data for number, (path, data) in named if number not in content.pads and data}


@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize("io", ["auto", "direct", "buffered"])
@pytest.mark.parametrize("misaligned", [False, True])
@pytest.mark.parametrize("content", [ONE_FILE, ODD_FILES, PADDED, TINY_FILES], ids=["one", "odd", "padded", "tiny"])
def test_every_byte_arrives_where_it_belongs(
    tmp_path: Path, files: Files, arena: Arena, content: Content, io: str, misaligned: bool, batch: int
) -> None:
    write_all(content, content.layout(tmp_path, io=io), files, arena, batch=batch, misaligned=misaligned)
    assert on_disk(tmp_path) == expected(content)


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 60_000), min_size=1, max_size=8).filter(any),
    piece_length=st.integers(1, 40_000),
    pads=st.sets(st.integers(0, 7)),
    misaligned=st.booleans(),
    budget=st.integers(1, 4),
)
def test_any_torrent_arrives(
    lengths: list[int], piece_length: int, pads: set[int], misaligned: bool, budget: int
) -> None:
    content = Content(
        {f"{n}": length for n, length in enumerate(lengths)},
        max(piece_length, sum(lengths) // 64 + 1),
        tuple(map(str, pads)),
    )
    files = Files(budget)
    with tempfile.TemporaryDirectory() as folder:
        write_all(content, content.layout(Path(folder)), files, Arena.create(8 << 20), misaligned=misaligned)
        files.close()
        assert on_disk(Path(folder)) == expected(content)


def test_a_congruent_piece_goes_around_the_page_cache(tmp_path: Path, files: Files, arena: Arena, calls: Calls) -> None:
    write_pieces(files, ONE_FILE.layout(tmp_path), [verified(3, ONE_FILE.slot(arena, 3))])
    assert calls.seen == [(True, 3 * PIECE, 1, PIECE)]


def test_head_and_tail_that_are_no_whole_page_go_through_it(
    tmp_path: Path, files: Files, arena: Arena, calls: Calls
) -> None:
    content = Content({"before": 1000, "file": 2 * PIECE}, PIECE)
    write_pieces(files, content.layout(tmp_path), [verified(1, content.slot(arena, 1))])
    begin = PIECE - 1000
    head = -begin % PAGE
    inside = (PIECE - head) // PAGE * PAGE
    assert calls.seen == [
        (True, begin + head, 1, inside),
        (False, begin, 1, head),
        (False, begin + head + inside, 1, PIECE - head - inside),
    ]


def test_a_slot_that_is_not_congruent_goes_through_the_page_cache(
    tmp_path: Path, files: Files, arena: Arena, calls: Calls
) -> None:
    write_pieces(files, ONE_FILE.layout(tmp_path), [verified(0, ONE_FILE.slot(arena, 0, misaligned=True))])
    assert calls.seen == [(False, 0, 1, PIECE)]


def test_pieces_that_follow_one_another_are_written_in_one_call(
    tmp_path: Path, files: Files, arena: Arena, calls: Calls
) -> None:
    pieces = [verified(index, ONE_FILE.slot(arena, index)) for index in (2, 3, 4, 7)]
    assert write_pieces(files, ONE_FILE.layout(tmp_path), pieces) == {}
    assert calls.seen == [(True, 2 * PIECE, 3, 3 * PIECE), (True, 7 * PIECE, 1, PIECE)]


def test_short_writes_are_gone_on_with(tmp_path: Path, files: Files, arena: Arena, calls: Calls) -> None:
    calls.most = 12_345
    layout = ODD_FILES.layout(tmp_path, io="buffered")
    write_all(ODD_FILES, layout, files, arena)
    assert on_disk(tmp_path) == expected(ODD_FILES)


def test_a_refusal_of_direct_writes_falls_back_for_good(
    tmp_path: Path, files: Files, arena: Arena, calls: Calls
) -> None:
    calls.refuse_direct = True
    layout = ONE_FILE.layout(tmp_path)
    write_all(ONE_FILE, layout, files, arena, batch=4)
    assert on_disk(tmp_path) == expected(ONE_FILE)
    assert not layout.direct
    assert [call[0] for call in calls.seen].count(True) == 1


def test_a_refusal_is_an_error_where_direct_writes_were_asked_for(
    tmp_path: Path, files: Files, arena: Arena, calls: Calls
) -> None:
    calls.refuse_direct = True
    pieces = [verified(index, ONE_FILE.slot(arena, index)) for index in range(3)]
    failed = write_pieces(files, ONE_FILE.layout(tmp_path, io="direct"), pieces)
    assert sorted(failed) == [0, 1, 2]
    assert {file for file, _ in failed.values()} == {0}
    assert all("--io auto" in str(error) for _, error in failed.values())


@pytest.mark.parametrize("answer", [(0, 0), (8192, 512), (512, 65536)])
def test_a_file_system_with_other_needs_is_written_through_the_page_cache(
    tmp_path: Path, files: Files, arena: Arena, calls: Calls, monkeypatch: pytest.MonkeyPatch, answer: tuple[int, int]
) -> None:
    from btfast.storage import layout as module

    monkeypatch.setattr(module._disk, "direct_alignment", lambda fd: answer)
    write_all(ONE_FILE, ONE_FILE.layout(tmp_path), files, arena)
    assert on_disk(tmp_path) == expected(ONE_FILE)
    assert not any(call[0] for call in calls.seen)


def test_a_kernel_that_does_not_tell_its_needs_is_tried(
    tmp_path: Path, files: Files, arena: Arena, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    from btfast.storage import layout as module

    monkeypatch.setattr(module._disk, "direct_alignment", lambda fd: None)
    write_all(ONE_FILE, ONE_FILE.layout(tmp_path), files, arena)
    assert any(call[0] for call in calls.seen)


@pytest.mark.parametrize("io", ["direct", "buffered"])
def test_a_full_disk_fails_the_piece_it_met_and_no_other(
    tmp_path: Path, files: Files, arena: Arena, calls: Calls, io: str
) -> None:
    calls.errors = {0: errno.ENOSPC}
    pieces = [verified(index, ONE_FILE.slot(arena, index)) for index in (1, 5)]
    failed = write_pieces(files, ONE_FILE.layout(tmp_path, io=io), pieces)
    assert list(failed) == [1]
    file, error = failed[1]
    assert (file, error.errno) == (0, errno.ENOSPC)
    assert on_disk(tmp_path)["one"][5 * PIECE : 6 * PIECE] == ONE_FILE.piece(5)


def test_pieces_written_together_fail_together(tmp_path: Path, files: Files, arena: Arena, calls: Calls) -> None:
    calls.errors = {0: errno.EIO}
    pieces = [verified(index, ONE_FILE.slot(arena, index)) for index in (1, 2, 3)]
    failed = write_pieces(files, ONE_FILE.layout(tmp_path), pieces)
    assert sorted(failed) == [1, 2, 3]


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path, files: Files, arena: Arena) -> None:
    layout = ODD_FILES.layout(tmp_path)
    (tmp_path / "c").write_bytes(b"a file where a directory belongs")
    pieces = [verified(index, ODD_FILES.slot(arena, index)) for index in range(ODD_FILES.count)]
    failed = write_pieces(files, layout, pieces)
    assert sorted(failed) == [1, 2, 3, 4, 5]
    assert {file for file, _ in failed.values()} <= {3, 4}
    assert all(error.errno == errno.ENOTDIR for _, error in failed.values())


def test_a_file_that_was_removed_meanwhile_is_noticed(tmp_path: Path, files: Files, arena: Arena) -> None:
    layout = ONE_FILE.layout(tmp_path)
    assert write_pieces(files, layout, [verified(0, ONE_FILE.slot(arena, 0))]) == {}
    (tmp_path / "one.part").unlink()
    failed = write_pieces(files, layout, [verified(1, ONE_FILE.slot(arena, 1))])
    assert failed[1][1].errno == errno.ENOENT


def test_each_write_tells_which_pieces_it_made_whole(tmp_path: Path, files: Files, arena: Arena, calls: Calls) -> None:
    content = Content({"before": 1000, "file": 6 * PIECE}, PIECE)
    pieces = [verified(index, content.slot(arena, index)) for index in (1, 2, 4)]
    told: list[tuple[int, list[int]]] = []
    calls.errors = {1: errno.EIO}  # the direct part of piece 2, which does not lie where piece 1 ends
    failed = write_pieces(files, content.layout(tmp_path), pieces, lambda whole: told.append((len(calls.seen), whole)))
    assert list(failed) == [2]
    assert [direct for direct, *_ in calls.seen] == [True] * 3 + [False] * (len(calls.seen) - 3)
    assert told[:2] == [(1, []), (3, [])], "head and tail are still missing"
    assert sorted(index for _, whole in told for index in whole) == [1, 4]


def test_a_piece_is_told_once_when_direct_writes_are_given_up(
    tmp_path: Path, files: Files, arena: Arena, calls: Calls
) -> None:
    calls.refuse_direct = True
    content = Content({"before": 1000, "file": 2 * PIECE}, PIECE)
    told: list[int] = []
    assert write_pieces(files, content.layout(tmp_path), [verified(1, content.slot(arena, 1))], told.extend) == {}
    assert told == [1]


def test_what_goes_wrong_in_who_is_told_is_no_error_of_the_disk(tmp_path: Path, files: Files, arena: Arena) -> None:
    def refuse(whole: list[int]) -> None:
        raise OSError(errno.EINVAL, "not the disk")

    layout = ONE_FILE.layout(tmp_path)
    with pytest.raises(OSError, match="not the disk"):
        write_pieces(files, layout, [verified(3, ONE_FILE.slot(arena, 3))], refuse)
    assert layout.direct
