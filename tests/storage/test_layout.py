"""Where files go, and that no link ever leads out of there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from disk_harness import Content

TREE = Content({"t/a.bin": 10_000, "t/sub/deep/b.bin": 5000, "t/empty": 0}, 16384)
OUTSIDE = b"nobody may touch this"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "b.bin.part").write_bytes(OUTSIDE)
    return tmp_path / "outside"


def test_a_file_is_created_under_its_unfinished_name_at_full_size(tmp_path: Path) -> None:
    layout = TREE.layout(tmp_path / "out")
    for file, path in enumerate(TREE.lengths):
        os.close(layout.open_for_writing(file, direct=False))
        assert (tmp_path / "out" / f"{path}.part").stat().st_size == TREE.lengths[path]


def test_in_place_means_the_final_name(tmp_path: Path) -> None:
    layout = TREE.layout(tmp_path / "out", in_place=True)
    os.close(layout.open_for_writing(0, direct=False))
    assert [path.name for path in (tmp_path / "out" / "t").iterdir()] == ["a.bin"]


def test_what_is_in_a_file_stays_when_it_is_opened_again(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "a.bin.part").write_bytes(b"kept")
    fd = TREE.layout(tmp_path).open_for_writing(0, direct=False)
    assert os.pread(fd, 4, 0) == b"kept"
    assert os.fstat(fd).st_size == 10_000
    os.close(fd)


def test_descriptors_do_not_reach_other_programs(tmp_path: Path) -> None:
    layout = TREE.layout(tmp_path)
    fd = layout.open_for_writing(0, direct=False)
    assert not os.get_inheritable(fd)
    os.close(fd)


def test_an_unfinished_file_is_read_before_a_final_one(tmp_path: Path) -> None:
    layout = TREE.layout(tmp_path)
    with pytest.raises(FileNotFoundError):
        layout.open_for_reading(0)
    TREE.put_on_disk(tmp_path)
    (tmp_path / "t" / "a.bin.part").write_bytes(b"unfinished")
    for expected in (b"unfinished", TREE.files["t/a.bin"][:10]):
        fd = layout.open_for_reading(0)
        assert os.read(fd, 10) == expected
        os.close(fd)
        (tmp_path / "t" / "a.bin.part").unlink(missing_ok=True)


@pytest.mark.parametrize("element", ["t", "t/sub", "t/sub/deep"])
def test_a_link_to_a_directory_is_not_followed(tmp_path: Path, outside: Path, element: str) -> None:
    out = tmp_path / "out"
    layout = TREE.layout(out)
    (out / element).parent.mkdir(parents=True, exist_ok=True)
    (out / element).symlink_to(outside)
    before = sorted(outside.rglob("*"))
    for attempt in (lambda: layout.open_for_writing(1, direct=False), lambda: layout.open_for_reading(1)):
        with pytest.raises(OSError, match="link") as caught:
            attempt()
        assert caught.value.errno == errno.ENOTDIR
    assert sorted(outside.rglob("*")) == before


@pytest.mark.parametrize("target", ["outside/b.bin.part", "outside/new", "/dev/null"])
def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path: Path, outside: Path, target: str) -> None:
    folder = tmp_path / "out" / "t" / "sub" / "deep"
    folder.mkdir(parents=True)
    (folder / "b.bin.part").symlink_to(tmp_path / target)
    layout = TREE.layout(tmp_path / "out")
    for attempt in (lambda: layout.open_for_writing(1, direct=False), lambda: layout.open_for_reading(1)):
        with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
            attempt()
    assert (outside / "b.bin.part").read_bytes() == OUTSIDE
    assert not (outside / "new").exists()


def test_a_file_in_the_place_of_a_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        TREE.layout(tmp_path).open_for_writing(0, direct=False)


def test_a_pipe_in_the_place_of_a_file_does_not_block(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    os.mkfifo(tmp_path / "t" / "a.bin.part")
    os.close(TREE.layout(tmp_path).open_for_reading(0))


def test_the_destination_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    layout = TREE.layout(tmp_path / "out")
    os.close(layout.open_for_writing(0, direct=False))
    assert (tmp_path / "real" / "t" / "a.bin.part").exists()


def test_a_file_that_vanished_is_not_created_a_second_time(tmp_path: Path) -> None:
    layout = TREE.layout(tmp_path)
    os.close(layout.open_for_writing(0, direct=False))
    (tmp_path / "t" / "a.bin.part").unlink()
    with pytest.raises(FileNotFoundError):
        layout.open_for_writing(0, direct=False)
    assert list((tmp_path / "t").iterdir()) == []


def test_a_failed_open_leaves_no_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from btfast.storage import layout as module

    def full(fd: int, size: int) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module._disk, "preallocate", full)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="No space"):
        TREE.layout(tmp_path).open_for_writing(0, direct=False)
    assert os.listdir("/proc/self/fd") == before


def test_a_file_system_without_preallocation_gets_a_sparse_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from btfast.storage import layout as module

    monkeypatch.setattr(module._disk, "preallocate", lambda fd, size: False)
    os.close(TREE.layout(tmp_path).open_for_writing(0, direct=False))
    assert (tmp_path / "t" / "a.bin.part").stat().st_size == 10_000
