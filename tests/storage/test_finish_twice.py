"""What a worker did before it died is done: the same job, given again, says so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from disk_harness import Content
from worker_harness import WorkerUnderTest

from btfast.storage.files import Files
from btfast.storage.finish import demote_file, finish_files
from btfast.storage.layout import Layout
from btfast.storage.messages import DEMOTE_FILE, FAILED, FINISH_FILE, OK

TREE = Content({"t/a": 5000, "t/sub/b": 70_000, "t/empty": 0}, 16384)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    TREE.put_on_disk(tmp_path, ".part")
    return TREE.layout(tmp_path)


def finish(layout: Layout, *, repeated: bool) -> list[OSError | None]:
    """As a worker does that has just been started."""
    files = Files(16)
    try:
        outcomes = finish_files(files, [(layout, file) for file in range(3)], range(3) if repeated else ())
        return [outcome if isinstance(outcome, OSError) else None for outcome in outcomes]
    finally:
        files.close()


def test_a_repeated_finish_is_as_good_as_the_first(
    tmp_path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert finish(layout, repeated=False) == [None] * 3
    synced: list[str] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd))[1])
    assert finish(TREE.layout(tmp_path), repeated=True) == [None] * 3
    assert {str(tmp_path / "t"), str(tmp_path / "t/sub")} <= set(synced), "the names may not have been durable yet"
    assert {str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == TREE.files


def test_a_first_finish_needs_the_unfinished_file(tmp_path: Path, layout: Layout) -> None:
    assert finish(layout, repeated=False) == [None] * 3
    outcomes = finish(TREE.layout(tmp_path), repeated=False)
    assert [type(outcome) for outcome in outcomes] == [FileNotFoundError, FileNotFoundError, type(None)]


@pytest.mark.parametrize("what", ["nothing", "short", "link", "directory"])
def test_a_repeated_finish_takes_nothing_else_for_the_file(tmp_path: Path, layout: Layout, what: str) -> None:
    (tmp_path / "t/a.part").unlink()
    if what == "short":
        (tmp_path / "t/a").write_bytes(b"x")
    elif what == "link":
        (tmp_path / "elsewhere").write_bytes(TREE.files["t/a"])
        (tmp_path / "t/a").symlink_to(tmp_path / "elsewhere")
    elif what == "directory":
        (tmp_path / "t/a").mkdir()
    outcomes = finish(layout, repeated=True)
    assert [type(outcome) for outcome in outcomes] == [FileNotFoundError, type(None), type(None)]


def test_a_repeated_demotion_is_as_good_as_the_first(tmp_path: Path) -> None:
    TREE.put_on_disk(tmp_path)
    layout = TREE.layout(tmp_path)
    demote_file(layout, 0)
    demote_file(layout, 0, repeated=True)
    assert (tmp_path / "t/a.part").read_bytes() == TREE.files["t/a"]
    (tmp_path / "t/a.part").unlink()
    with pytest.raises(FileNotFoundError):
        demote_file(layout, 0, repeated=True)


def test_a_fresh_worker_is_given_what_another_had_done(tmp_path: Path) -> None:
    TREE.put_on_disk(tmp_path, ".part")
    for attempt, statuses in ((0, [OK, OK]), (0, [FAILED, FAILED]), (1, [OK, OK])):
        with WorkerUnderTest() as worker:
            worker.order(TREE.order(tmp_path))
            if attempt == 0 and statuses[0] == OK:
                (tmp_path / "t/sub/b.part").rename(tmp_path / "t/sub/b")
            worker.give(FINISH_FILE, 0, 0, attempt=attempt)
            worker.give(DEMOTE_FILE, 0, 1, attempt=attempt)
            worker.wake()
            assert [record.status for record in worker.completions(2)] == statuses
    assert (tmp_path / "t/a").read_bytes() == TREE.files["t/a"]
    assert (tmp_path / "t/sub/b.part").read_bytes() == TREE.files["t/sub/b"]
