"""One at a time to a place: in this process, and between processes."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from disk_harness import Content

import btfast
from btfast.storage import lock
from btfast.storage.layout import Layout
from btfast.storage.lock import PlaceLock

SINGLE = Content({"data.bin": 5000}, 16384)
TREE = Content({"t/a": 10, "t/b": 20}, 16384)
TREE_2 = Content({"t/b": 20, "t/c": 30}, 16384)
TREE_3 = Content({"t/c": 30}, 16384)

ELSEWHERE = """
import sys
from btfast.storage.layout import Layout
from btfast.storage.lock import PlaceLock
from btfast.storage.messages import OpenTorrent

directory, path = sys.argv[1:]
layout = Layout(OpenTorrent(torrent=0, directory=directory, paths=[path], lengths=[1], pads=[], piece_length=16384,
                            in_place=False, io="auto"))
lock = PlaceLock(layout)
print(lock.acquire(), flush=True)
sys.stdin.read()
"""


class Elsewhere:
    """Another process that tries to take a place, and keeps it until the block ends."""

    def __init__(self, directory: Path, path: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", ELSEWHERE, str(directory), path],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": str(Path(btfast.__file__).resolve().parents[1])},
        )  # fmt: skip

    def __enter__(self) -> bool:
        assert self._process.stdout is not None
        return self._process.stdout.readline() == "True\n"

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()


def take(content: Content, directory: Path) -> tuple[PlaceLock, bool]:
    found = PlaceLock(content.layout(directory))
    return found, found.acquire()


def test_a_place_is_taken_once_and_free_again_afterwards(tmp_path: Path) -> None:
    first, held = take(SINGLE, tmp_path)
    assert held
    assert not take(SINGLE, tmp_path)[1]
    other, held = take(SINGLE, tmp_path / "other")
    assert held
    first.release()
    first.release()
    again, held = take(SINGLE, tmp_path)
    assert held
    again.release()
    other.release()
    assert list(tmp_path.iterdir()) == [tmp_path / "other"], "no file is left, and none was ever needed"


def test_a_directory_is_the_same_by_any_of_its_names(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    first, held = take(SINGLE, tmp_path)
    assert held
    assert not PlaceLock(Layout(SINGLE.order(tmp_path / "link"))).acquire()
    first.release()


def test_torrents_of_one_run_share_a_folder_but_no_file(tmp_path: Path) -> None:
    first, held = take(TREE, tmp_path)
    assert held
    assert not take(TREE_2, tmp_path)[1]
    third, held = take(TREE_3, tmp_path)
    assert held
    first.release()
    with Elsewhere(tmp_path, "t/z") as theirs:
        assert not theirs, "the folder is still ours"
    assert not take(TREE_2, tmp_path)[1]
    third.release()
    second, held = take(TREE_2, tmp_path)
    assert held
    second.release()


def test_another_process_is_kept_out_until_the_place_is_released(tmp_path: Path) -> None:
    mine, _ = take(SINGLE, tmp_path)
    with Elsewhere(tmp_path, "data.bin") as theirs:
        assert not theirs
    with Elsewhere(tmp_path, "other.bin") as theirs:
        assert theirs
    mine.release()
    with Elsewhere(tmp_path, "data.bin") as theirs:
        assert theirs
        assert not take(SINGLE, tmp_path)[1]
    mine, held = take(SINGLE, tmp_path)
    assert held, "a place is free when its holder was killed"
    mine.release()


def test_files_that_cannot_be_locked_are_no_reason_to_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on NFS, where what is open for reading cannot be locked, and on SMB, where a lock keeps all writers out."""
    SINGLE.put_on_disk(tmp_path, ".part")

    def refuse(fd: int, *words: object) -> None:
        assert not os.readlink(f"/proc/self/fd/{fd}").startswith(str(tmp_path))

    monkeypatch.setattr(fcntl, "flock", refuse)
    mine, held = take(SINGLE, tmp_path)
    assert held
    assert os.access(tmp_path / "data.bin.part", os.R_OK)
    mine.release()


def test_without_a_place_for_locks_a_process_knows_of_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_DIRECTORY", str(tmp_path / "nowhere"))
    mine, held = take(SINGLE, tmp_path)
    assert held
    assert not take(SINGLE, tmp_path)[1]
    mine.release()


def test_a_directory_that_is_not_there_cannot_be_held(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        PlaceLock(Layout(SINGLE.order(tmp_path / "nowhere"))).acquire()


def test_many_places_need_one_descriptor(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    held = [take(Content({f"{n}": 1}, 16384), tmp_path) for n in range(100)]
    assert all(taken for _, taken in held)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    for place, _ in held:
        place.release()
    assert len(os.listdir("/proc/self/fd")) == before
