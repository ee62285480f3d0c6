"""A final name promises the right length; what is only looked at is not touched."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from disk_harness import Content

from btfast.storage.finish import survey
from btfast.storage.layout import Layout

TREE = Content({"t/a": 5000, "t/sub/b": 70_000, "t/empty": 0, "u": 10}, 16384)


def test_a_final_file_of_another_length_is_told_apart(tmp_path: Path) -> None:
    TREE.put_on_disk(tmp_path)
    with (tmp_path / "t/a").open("ab") as file:
        file.write(b"garbage")
    os.truncate(tmp_path / "t/sub/b", 69_999)
    (tmp_path / "t/empty").write_bytes(b"not empty")
    found = survey(TREE.layout(tmp_path))
    assert (found.unfinished, found.final, found.wrong_size) == ([], [3], [0, 1, 2])


def test_an_empty_unfinished_file_makes_way_for_the_final_one(tmp_path: Path) -> None:
    TREE.put_on_disk(tmp_path)
    (tmp_path / "t/a.part").touch()
    (tmp_path / "t/empty.part").touch()
    layout = TREE.layout(tmp_path)
    found = survey(layout)
    assert (found.unfinished, found.final, found.wrong_size) == ([], [0, 1, 2, 3], [])
    fd = layout.open_for_reading(0)
    try:
        assert os.pread(fd, 5000, 0) == TREE.files["t/a"], "what was surveyed is what is read"
    finally:
        os.close(fd)
    assert list(tmp_path.rglob("*.part")) == []


def test_an_empty_unfinished_file_alone_is_nothing_yet(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t/a.part").touch()
    (tmp_path / "t/empty.part").touch()
    found = survey(TREE.layout(tmp_path))
    assert (found.unfinished, found.final) == ([2], [])
    assert (tmp_path / "t/a.part").exists()


def test_looking_for_data_to_serve_makes_no_directory(tmp_path: Path) -> None:
    found = survey(Layout(TREE.order(tmp_path / "nowhere", in_place=True)), writing=False)
    assert (found.error, found.unfinished, found.final) == ("", [], [])
    assert not (tmp_path / "nowhere").exists()


def test_data_to_serve_needs_no_permission_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    TREE.put_on_disk(tmp_path)
    monkeypatch.setattr(os, "access", lambda *words, **options: False)  # root may always
    layout = TREE.layout(tmp_path, in_place=True)
    assert survey(layout, writing=False).unfinished == [0, 1, 2, 3]
    assert survey(layout).errno == errno.EACCES


def test_files_of_several_directories_in_any_order(tmp_path: Path) -> None:
    mixed = Content({f"{n % 3}/{n % 2}/{n}": n + 1 for n in range(20)} | {"top": 7, "0/last": 3}, 16384)
    mixed.put_on_disk(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    found = survey(mixed.layout(tmp_path))
    assert (found.error, found.final) == ("", list(range(22)))
    (tmp_path / "1/1/1").unlink()
    (tmp_path / "1/1/7").unlink()
    (tmp_path / "1/1/13").unlink()
    (tmp_path / "1/1/19").unlink()
    (tmp_path / "1/1").rmdir()
    assert set(range(22)) - set(survey(mixed.layout(tmp_path)).final) == {1, 7, 13, 19}
    assert len(os.listdir("/proc/self/fd")) == before
