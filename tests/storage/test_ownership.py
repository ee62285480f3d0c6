"""Whose a file is that stands in a torrent's place; and a name for it that nobody has."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
import pytest
from disk_harness import Content

from btfast.storage.layout import MARK, Layout
from btfast.storage.ownership import owner_of, set_aside

TREE = Content({"t/a": 5000, "t/b": 5000}, 16384)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "t").mkdir()
    return Layout(msgspec.structs.replace(TREE.order(tmp_path), mark=b"0123456789abcdef"))


def test_what_was_made_here_is_known_by_its_mark(tmp_path: Path, layout: Layout) -> None:
    fd = layout.open_for_writing(0, direct=False)
    assert owner_of(layout, 0, ".part") == "nobody's"
    os.pwrite(fd, b"data", 0)
    assert owner_of(layout, 0, ".part") == "ours"
    os.setxattr(fd, MARK, b"fedcba9876543210")
    assert owner_of(layout, 0, ".part") == "another torrent's"
    assert owner_of(layout, 0, ".part", recorded=True) == "another torrent's"
    os.removexattr(fd, MARK)
    assert owner_of(layout, 0, ".part") == "unknown"
    assert owner_of(layout, 0, ".part", recorded=True) == "unknown", "this disk would have kept the mark"
    os.close(fd)
    with pytest.raises(FileNotFoundError):
        owner_of(layout, 1, ".part")


def test_where_no_marks_are_kept_the_record_decides(
    tmp_path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*words: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(os, "setxattr", refuse)
    monkeypatch.setattr(os, "getxattr", refuse)
    fd = layout.open_for_writing(0, direct=False)
    os.pwrite(fd, b"data", 0)
    os.close(fd)
    assert owner_of(layout, 0, ".part") == "unknown"
    assert owner_of(layout, 0, ".part", recorded=True) == "ours"


def test_a_name_that_nobody_has(tmp_path: Path, layout: Layout) -> None:
    for name in ("a", "a.old", "a.old.2"):
        (tmp_path / "t" / name).write_text(name)
    assert set_aside(layout, [(0, "")]) == [(f"{tmp_path}/t/a", "a.old.3")]
    assert (tmp_path / "t/a.old.3").read_text() == "a"
    assert sorted(os.listdir(tmp_path / "t")) == ["a.old", "a.old.2", "a.old.3"]


def test_a_long_name_is_cut(tmp_path: Path) -> None:
    content = Content({"\u00e9" * 125: 5000}, 16384)
    layout = Layout(content.order(tmp_path))
    content.put_on_disk(tmp_path, ".part")
    ((_, name),) = set_aside(layout, [(0, ".part")])
    assert os.listdir(tmp_path) == [name]
    assert len(name.encode()) <= 255
    assert name.endswith(".old")
