"""The final name: given only to what is complete and durable, taken back from what is not."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from disk_harness import Content

from btfast.storage.files import Files
from btfast.storage.finish import demote_file, finish_files, survey
from btfast.storage.identity import FINAL, pack, unpack
from btfast.storage.layout import Layout

TREE = Content({"t/a": 5000, "t/sub/b": 70_000, "t/empty": 0, "t/.pad": 10}, 16384, pads=("t/.pad",))


@pytest.fixture
def files() -> Iterator[Files]:
    table = Files(16)
    yield table
    table.close()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return TREE.layout(tmp_path)


def finish(files: Files, *wanted: tuple[Layout, int]) -> list[OSError | None]:
    """What was refused, None where nothing was."""
    outcomes = finish_files(files, wanted)
    return [outcome if isinstance(outcome, OSError) else None for outcome in outcomes]


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_finished_files_get_their_final_names(tmp_path: Path, files: Files, layout: Layout) -> None:
    TREE.put_on_disk(tmp_path, ".part")
    assert finish(files, (layout, 0), (layout, 1), (layout, 2)) == [None] * 3
    assert names(tmp_path) == ["t/a", "t/empty", "t/sub/b"]
    assert (tmp_path / "t/sub/b").read_bytes() == TREE.files["t/sub/b"]
    assert len(files) == 0


def test_a_file_without_a_byte_is_made(tmp_path: Path, files: Files, layout: Layout) -> None:
    assert finish(files, (layout, 2)) == [None]
    assert names(tmp_path) == ["t/empty"]


def test_what_is_too_long_is_cut(tmp_path: Path, files: Files, layout: Layout) -> None:
    TREE.put_on_disk(tmp_path, ".part")
    with (tmp_path / "t/a.part").open("ab") as file:
        file.write(b"left over from something else")
    assert finish(files, (layout, 0)) == [None]
    assert (tmp_path / "t/a").read_bytes() == TREE.files["t/a"]


def test_a_file_that_was_cut_short_while_it_was_written_is_not_finished_with_a_hole(
    tmp_path: Path, files: Files, layout: Layout
) -> None:
    fd = files.writable(layout, 0, direct=False)
    os.pwrite(fd, TREE.files["t/a"], 0)
    os.truncate(tmp_path / "t/a.part", 4999)
    (refusal,) = finish(files, (layout, 0))
    assert refusal is not None
    assert refusal.errno == errno.EIO
    assert names(tmp_path) == ["t/a.part"]


def test_the_data_is_durable_before_the_name_and_the_name_before_the_report(
    tmp_path: Path, files: Files, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    TREE.put_on_disk(tmp_path, ".part")
    done: list[tuple[str, str]] = []

    def target(fd: int) -> str:
        return Path(os.readlink(f"/proc/self/fd/{fd}")).name

    real = {name: getattr(os, name) for name in ("fdatasync", "fsync", "rename")}
    monkeypatch.setattr(os, "fdatasync", lambda fd: (done.append(("data", target(fd))), real["fdatasync"](fd)))
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append(("sync", target(fd))), real["fsync"](fd)))
    monkeypatch.setattr(
        os, "rename", lambda old, new, **at: (done.append(("name", new)), real["rename"](old, new, **at))
    )
    assert finish(files, (layout, 0), (layout, 1)) == [None, None]
    assert done == [
        ("data", "a.part"),
        ("data", "b.part"),
        ("name", "a"),
        ("name", "b"),
        ("sync", "t"),
        ("sync", "sub"),
    ]


def test_a_failed_sync_keeps_the_unfinished_name(
    tmp_path: Path, files: Files, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    TREE.put_on_disk(tmp_path, ".part")

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    (error,) = finish(files, (layout, 0))
    assert error is not None
    assert error.errno == errno.EIO
    assert "t/a.part" in names(tmp_path)


def test_one_that_fails_does_not_keep_the_others(tmp_path: Path, files: Files, layout: Layout) -> None:
    TREE.put_on_disk(tmp_path, ".part")
    (tmp_path / "t/a").mkdir()  # a directory stands where the name belongs
    outcomes = finish(files, (layout, 0), (layout, 1))
    assert isinstance(outcomes[0], IsADirectoryError)
    assert outcomes[1] is None
    assert names(tmp_path) == ["t/a.part", "t/empty.part", "t/sub/b"]


def test_what_vanished_is_not_reported_as_finished(tmp_path: Path, files: Files, layout: Layout) -> None:
    TREE.put_on_disk(tmp_path, ".part")
    (tmp_path / "t/a.part").unlink()
    (error,) = finish(files, (layout, 0))
    assert isinstance(error, FileNotFoundError)
    assert "t/a" not in names(tmp_path)


def test_what_was_replaced_meanwhile_is_not_reported_as_finished(tmp_path: Path, files: Files, layout: Layout) -> None:
    TREE.put_on_disk(tmp_path, ".part")
    files.writable(layout, 0, direct=False)
    (tmp_path / "t/a.part").unlink()
    (tmp_path / "t/a.part").write_bytes(b"something else")
    (error,) = finish(files, (layout, 0))
    assert isinstance(error, FileNotFoundError)
    assert (tmp_path / "t/a.part").read_bytes() == b"something else"


def test_which_file_it_was_is_told_as_it_was_before_anybody_else_could_change_it(
    tmp_path: Path, files: Files, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    TREE.put_on_disk(tmp_path, ".part")
    written = (tmp_path / "t/a.part").stat()
    real = os.fdatasync

    def change(fd: int) -> None:
        real(fd)
        with (tmp_path / "t/a.part").open("ab") as file:
            file.write(b"by another program, while it was made durable")

    monkeypatch.setattr(os, "fdatasync", change)
    (told,) = finish_files(files, [(layout, 0)])
    assert not isinstance(told, OSError)
    assert told[:4] == (FINAL, written.st_dev, written.st_ino, 5000)
    assert told.mtime_ns < written.st_mtime_ns, "a write in the same tick of the kernel's clock would look the same"
    assert unpack(pack(told)) == told


def test_in_place_files_keep_their_name(tmp_path: Path, files: Files) -> None:
    TREE.put_on_disk(tmp_path)
    layout = TREE.layout(tmp_path, in_place=True)
    assert finish(files, (layout, 0)) == [None]
    finished = (tmp_path / "t/a").stat().st_mtime_ns
    assert finish(files, (layout, 0)) == [None]
    assert (tmp_path / "t/a").stat().st_mtime_ns == finished, "each run would make it another file"
    demote_file(layout, 0)
    assert (tmp_path / "t/a").read_bytes() == TREE.files["t/a"]


def test_a_file_that_is_not_complete_loses_its_final_name(tmp_path: Path, layout: Layout) -> None:
    TREE.put_on_disk(tmp_path)
    demote_file(layout, 1)
    assert names(tmp_path) == ["t/a", "t/empty", "t/sub/b.part"]
    with pytest.raises(FileNotFoundError):
        demote_file(layout, 1)


def test_a_survey_tells_what_is_there_under_which_name(tmp_path: Path, layout: Layout) -> None:
    found = survey(layout)
    assert (found.unfinished, found.final, found.allocated, found.error) == ([], [], 0, "")
    assert found.free > 0
    TREE.put_on_disk(tmp_path)
    demote_file(layout, 1)
    found = survey(layout)
    assert (found.unfinished, found.final) == ([1], [0, 2])
    assert found.allocated >= 75_000


def test_an_unfinished_file_counts_before_a_final_one(tmp_path: Path, layout: Layout) -> None:
    TREE.put_on_disk(tmp_path)
    (tmp_path / "t/a.part").write_bytes(b"x")
    assert survey(layout).unfinished == [0]


@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
def test_what_is_no_file_makes_the_destination_unusable(tmp_path: Path, layout: Layout, kind: str) -> None:
    (tmp_path / "t").mkdir()
    place = tmp_path / "t/a.part"
    if kind == "link":
        place.symlink_to("/dev/null")
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.mkdir()
    found = survey(layout)
    assert "t/a.part is there and is not a regular file" in found.error
    assert found.errno == errno.EEXIST


def test_a_destination_that_is_a_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"")
    layout = Layout(TREE.order(tmp_path / "out"))
    found = survey(layout)
    assert found.errno == errno.ENOTDIR
    assert "a file, not a directory" in found.error


def test_a_destination_that_is_not_there_is_made(tmp_path: Path) -> None:
    assert survey(Layout(TREE.order(tmp_path / "new" / "out"))).error == ""
    assert (tmp_path / "new" / "out").is_dir()
