"""Hashing what is on disk: good, bad or missing, piece by piece."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from disk_harness import Content

from btfast.storage.check import Checker
from btfast.storage.messages import BAD, GOOD, MISSING

PIECE = 32 << 10
TREE = Content({"t/a": 5 * PIECE + 100, "t/b": 1, "t/c": 0, "t/d": 4 * PIECE}, PIECE)
LONG = Content({"one": 3 * (700 << 10) + 5}, 700 << 10)  # pieces of several chunks, the last one short
PADDED = Content({"a": 40_000, ".pad/1": 2 * PIECE - 40_000, "b": 10}, PIECE, pads=(".pad/1",))
MANY = Content({f"{n}": 3000 for n in range(200)}, PIECE)


@pytest.fixture
def checker() -> Iterator[Checker]:
    found = Checker()
    yield found
    found.close()


def states(checker: Checker, content: Content, folder: Path) -> list[int]:
    return list(checker.check(content.layout(folder), 0, content.hashes()))


@pytest.mark.parametrize("suffix", ["", ".part"])
@pytest.mark.parametrize("content", [TREE, LONG, PADDED, MANY], ids=["tree", "long", "padded", "many"])
def test_complete_data_is_good(tmp_path: Path, checker: Checker, content: Content, suffix: str) -> None:
    content.put_on_disk(tmp_path, suffix)
    assert states(checker, content, tmp_path) == [GOOD] * content.count


def test_files_under_either_name_count_together(tmp_path: Path, checker: Checker) -> None:
    TREE.put_on_disk(tmp_path, ".part")
    (tmp_path / "t" / "a.part").rename(tmp_path / "t" / "a")
    assert states(checker, TREE, tmp_path) == [GOOD] * TREE.count


@pytest.mark.parametrize("content", [TREE, LONG], ids=["tree", "long"])
def test_one_wrong_byte_spoils_its_piece_alone(tmp_path: Path, checker: Checker, content: Content) -> None:
    content.put_on_disk(tmp_path)
    for index in range(content.count):
        last = content.geometry.piece_spans(index)[-1]
        path = tmp_path / list(content.files)[last.file]
        at = last.offset + last.length - 1
        with path.open("r+b") as file:
            whole = file.read()
            file.seek(at)
            file.write(bytes([whole[at] ^ 1]))
        expected = [GOOD] * content.count
        expected[index] = BAD
        assert states(checker, content, tmp_path) == expected
        path.write_bytes(whole)


def test_any_part_of_the_torrent_can_be_asked_for(tmp_path: Path, checker: Checker) -> None:
    TREE.put_on_disk(tmp_path)
    for first in range(TREE.count):
        assert checker.check(TREE.layout(tmp_path), first, TREE.hashes(first, 1)) == bytes([GOOD])
    assert checker.check(TREE.layout(tmp_path), 3, b"") == b""
    assert checker.check(TREE.layout(tmp_path), 0, TREE.hashes(1, 1)) == bytes([BAD])


def test_a_missing_file_makes_its_pieces_missing(tmp_path: Path, checker: Checker) -> None:
    TREE.put_on_disk(tmp_path)
    (tmp_path / "t" / "b").unlink()
    assert states(checker, TREE, tmp_path) == [GOOD] * 5 + [MISSING] + [GOOD] * 4


def test_a_short_file_makes_the_rest_missing(tmp_path: Path, checker: Checker) -> None:
    TREE.put_on_disk(tmp_path)
    os.truncate(tmp_path / "t" / "a", 3 * PIECE + 5)
    assert states(checker, TREE, tmp_path) == [GOOD] * 3 + [MISSING] * 3 + [GOOD] * 4


def test_holes_are_bad_and_not_good(tmp_path: Path, checker: Checker) -> None:
    TREE.put_on_disk(tmp_path)
    path = tmp_path / "t" / "d"
    os.truncate(path, 0)
    os.truncate(path, 4 * PIECE)
    assert states(checker, TREE, tmp_path)[6:] == [BAD] * 4


def test_what_cannot_be_read_is_missing(tmp_path: Path, checker: Checker) -> None:
    TREE.put_on_disk(tmp_path)
    (tmp_path / "t" / "a").unlink()
    (tmp_path / "t" / "a").mkdir()
    (tmp_path / "t" / "d").unlink()
    (tmp_path / "t" / "d").symlink_to("/dev/zero")
    assert states(checker, TREE, tmp_path) == [MISSING] * TREE.count


def test_a_longer_file_is_judged_by_what_belongs_to_it(tmp_path: Path, checker: Checker) -> None:
    TREE.put_on_disk(tmp_path)
    with (tmp_path / "t" / "a").open("ab") as file:
        file.write(b"more")
    assert states(checker, TREE, tmp_path) == [GOOD] * TREE.count


def test_files_are_closed_when_a_check_is_over(tmp_path: Path, checker: Checker) -> None:
    MANY.put_on_disk(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    states(checker, MANY, tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_nothing_is_written(tmp_path: Path, checker: Checker) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    assert states(checker, TREE, folder) == [MISSING] * TREE.count
    assert list(folder.iterdir()) == []
