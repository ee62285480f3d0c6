"""The bounded table of open files."""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from disk_harness import Content

from btfast.storage.files import WINDOW, Files, descriptor_budget
from btfast.storage.layout import Layout

MANY = Content({f"{n}.bin": 100 + n for n in range(300)}, 16384)


@pytest.fixture
def files() -> Iterator[Files]:
    table = Files(16)
    yield table
    table.close()
    assert len(table) == 0


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return MANY.layout(tmp_path)


def open_now(folder: Path) -> set[str]:
    """Names of the files below `folder` that this process has open."""
    links = [Path(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    return {
        link.readlink().name for link in links if link.is_symlink() and str(link.readlink()).startswith(str(folder))
    }


def test_300_files_need_no_more_than_the_budget(tmp_path: Path, files: Files, layout: Layout) -> None:
    for file in range(300):
        os.pwrite(files.writable(layout, file, direct=False), b"%d" % file, 0)
        assert len(files) <= 16
        assert len(open_now(tmp_path)) <= 16
    for file in range(300):
        assert os.pread(files.writable(layout, file, direct=False), len(str(file)), 0) == b"%d" % file


def test_the_one_that_was_not_used_for_longest_is_closed(tmp_path: Path, files: Files, layout: Layout) -> None:
    for file in range(16):
        files.writable(layout, file, direct=False)
    files.writable(layout, 0, direct=False)
    files.writable(layout, 16, direct=False)
    assert open_now(tmp_path) == {f"{n}.bin.part" for n in range(17) if n != 1}


def test_a_file_has_one_descriptor_for_each_way_of_writing(files: Files, layout: Layout) -> None:
    buffered = files.writable(layout, 0, direct=False)
    direct = files.writable(layout, 0, direct=True)
    assert buffered != direct
    assert files.writable(layout, 0, direct=False) == buffered
    assert len(files) == 2


def test_forgetting_a_file_closes_it_and_no_other(tmp_path: Path, files: Files, layout: Layout) -> None:
    for file in range(3):
        files.writable(layout, file, direct=False)
        files.writable(layout, file, direct=True)
    files.forget(layout.torrent, 1)
    assert open_now(tmp_path) == {"0.bin.part", "2.bin.part"}
    files.forget(layout.torrent, 1)
    files.forget(layout.torrent + 1)
    assert len(files) == 4
    files.forget(layout.torrent)
    assert open_now(tmp_path) == set()


def test_what_cannot_be_opened_takes_no_place(files: Files, layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "0.bin.part").mkdir()
    with pytest.raises(IsADirectoryError):
        files.writable(layout, 0, direct=False)
    assert len(files) == 0


@pytest.mark.parametrize(
    ("soft", "hard", "budget"),
    [(1024, 4096, 1024), (1024, 1024, 256), (20, 20, 16), (1024, resource.RLIM_INFINITY, 16384), (10**6, 10**6, 16384)],
)
def test_the_budget_follows_the_limit(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, budget: int) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: asked.append(limits))
    assert descriptor_budget() == budget
    assert all(limits[1] == hard for limits in asked), "the hard limit is never touched"


def test_a_limit_that_cannot_be_raised_is_lived_with(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(which: int, limits: tuple[int, int]) -> None:
        raise ValueError("not allowed")

    monkeypatch.setattr(resource, "getrlimit", lambda which: (400, 4096))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert descriptor_budget() == 100


def resident(path: Path) -> int:
    """Bytes of a file that are in the page cache."""
    size = path.stat().st_size
    with path.open("r+b") as file, mmap.mmap(file.fileno(), size) as view:
        pages = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
        address = ctypes.addressof(ctypes.c_char.from_buffer(view))
        assert ctypes.CDLL(None, use_errno=True).mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), pages) == 0
        return sum(page & 1 for page in pages) * mmap.PAGESIZE


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system takes no advice on its page cache")
def test_what_has_reached_the_disk_leaves_the_page_cache(tmp_path: Path, files: Files) -> None:
    layout = Content({"large.bin": 3 * WINDOW}, 1 << 20).layout(tmp_path)
    fd = files.writable(layout, 0, direct=False)
    path = tmp_path / "large.bin.part"
    os.pwrite(fd, b"\1" * WINDOW, 0)
    os.fdatasync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    if resident(path) > WINDOW // 2:
        pytest.skip("the files of this file system live in memory")
    for number in range(3):
        os.pwrite(fd, b"\2" * WINDOW, number * WINDOW)
        os.fdatasync(fd)
        files.wrote(fd, WINDOW - 1)
        assert resident(path) >= WINDOW  # less than a window: nothing is to be done yet
        files.wrote(fd, 1)
        assert resident(path) < WINDOW // 2
    assert path.read_bytes() == b"\2" * 3 * WINDOW
