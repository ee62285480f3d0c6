"""Many files that are finished at once: their file systems are made durable as a whole, and each file's errors are seen."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from disk_harness import Content
from support.disks import small_disk
from support.preloaded import compile_library
from worker_harness import WorkerUnderTest
from workshop import Workshop

from btfast import _disk
from btfast.storage import messages, syncing
from btfast.storage.files import Files
from btfast.storage.finish import finish_files
from btfast.storage.identity import UNFINISHED
from btfast.storage.layout import Layout
from btfast.storage.messages import FINISH_FILE, OK, FileSeen, Record, Row
from btfast.storage.recorder import Recorder

COUNT = 3 * syncing.MANY
SMALL = Content({f"t/{number % 3}/{number}": 100 + number for number in range(COUNT)}, 16384)
ALL = range(COUNT)


@pytest.fixture
def files() -> Iterator[Files]:
    table = Files(256)
    yield table
    table.close()


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nobody else on this machine writes anything, as far as btfast sees."""
    memory = tmp_path / "meminfo"
    memory.write_text("MemTotal: 1 kB\nDirty:     8 kB\nWriteback:   0 kB\n")
    monkeypatch.setattr(syncing, "_MEMORY", str(memory))
    return memory


@pytest.fixture
def two_disks(tmp_path: Path) -> Iterator[Path]:
    """A destination with all unfinished files in it, some of them on a disk of their own."""
    out = tmp_path / "out"
    (out / "t/1").mkdir(parents=True)
    with small_disk(out / "t/1", "size=1m"):
        SMALL.put_on_disk(out, ".part")
        yield out


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    """What was asked of the disk, in order: syncs of file systems by their devices, renames by the new names."""
    seen: list[tuple[str, object]] = []

    def note(kind: str, target: Callable[..., object], real: Callable[..., object]) -> Callable[..., object]:
        def call(*words: object, **more: object) -> object:
            seen.append((kind, target(*words)))
            return real(*words, **more)

        return call

    monkeypatch.setattr(_disk, "sync_file_system", note("all", lambda fd: os.fstat(fd).st_dev, _disk.sync_file_system))
    monkeypatch.setattr(os, "rename", note("name", lambda old, new: new, os.rename))
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, note("one", lambda fd: os.readlink(f"/proc/self/fd/{fd}"), getattr(os, name)))
    return seen


def finish(files: Files, layout: Layout) -> list[int | None]:
    """What was refused, None where nothing was."""
    outcomes = finish_files(files, [(layout, file) for file in ALL])
    return [outcome.errno if isinstance(outcome, OSError) else None for outcome in outcomes]


def on_disk(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_all_data_is_durable_before_a_name_and_all_names_before_the_report(
    tmp_path: Path, files: Files, done: list[tuple[str, object]]
) -> None:
    out = tmp_path / "out"
    SMALL.put_on_disk(out, ".part")
    assert finish(files, SMALL.layout(out)) == [None] * COUNT
    device = tmp_path.stat().st_dev
    assert done == [("all", device), *(("name", str(number)) for number in ALL), ("all", device)]
    assert on_disk(out) == SMALL.files
    assert len(files) == 0


def test_where_much_is_under_way_to_the_disk_nobody_waits_for_it(
    tmp_path: Path, files: Files, done: list[tuple[str, object]], quiet: Path
) -> None:
    quiet.write_text("Dirty: 900000 kB\n")
    SMALL.put_on_disk(tmp_path / "out", ".part")
    assert finish(files, SMALL.layout(tmp_path / "out")) == [None] * COUNT
    assert sorted({kind for kind, _ in done}) == ["name", "one"]
    assert on_disk(tmp_path / "out") == SMALL.files


def test_a_file_system_below_the_destination_is_made_durable_too(
    two_disks: Path, files: Files, done: list[tuple[str, object]]
) -> None:
    out = two_disks
    assert finish(files, SMALL.layout(out)) == [None] * COUNT
    devices = {out.stat().st_dev, (out / "t/1").stat().st_dev}
    assert len(devices) == 2
    assert {target for _, target in done[:2]} == {target for _, target in done[-2:]} == devices
    assert on_disk(out) == SMALL.files


def test_a_record_makes_each_file_system_durable_that_its_files_are_on(
    tmp_path: Path, two_disks: Path, files: Files, done: list[tuple[str, object]]
) -> None:
    answers: list[messages.Answer] = []
    recorder = Recorder(answers.append, files)
    seen = [FileSeen(file, f"{path}.part", UNFINISHED, True) for file, path in enumerate(SMALL.files)]
    row = Row(
        torrent=0, key=b"k" * 32, directory=str(two_disks), count=COUNT, complete=False, have=b"\x80", files=seen,
        partial=[], uploaded=0, downloaded=0, peers=b"", trackers=[], used=1,
    )  # fmt: skip
    recorder.handle(Record(1, str(tmp_path / "resume.db"), [row]))
    while recorder.busy:
        recorder.step()
    recorder.close()
    assert answers == [messages.Recorded(1)]
    devices = {two_disks.stat().st_dev, (two_disks / "t/1").stat().st_dev}
    assert {target for kind, target in done if kind == "all"} == devices


def test_when_the_whole_cannot_be_made_durable_each_file_is(
    tmp_path: Path, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    SMALL.put_on_disk(tmp_path / "out", ".part")

    def refuse(fd: int) -> bool:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    real = os.fsync

    def one_is_lost(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("/7.part"):
            refuse(fd)
        real(fd)

    monkeypatch.setattr(_disk, "sync_file_system", refuse)
    monkeypatch.setattr(os, "fsync", one_is_lost)
    assert finish(files, SMALL.layout(tmp_path / "out")) == [errno.EIO if file == 7 else None for file in ALL]


def test_a_file_whose_data_was_lost_on_the_way_is_not_finished_and_the_others_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a real worker above a disk that lost the data of one file, and told so of that file alone."""
    out = tmp_path / "out"
    SMALL.put_on_disk(out, ".part")
    flag = tmp_path / "flag"
    flag.write_text(f"{errno.EIO} sync:/7.part")
    monkeypatch.setenv("LD_PRELOAD", str(compile_library("failing_disk", tmp_path)))
    monkeypatch.setenv("FAILING_DISK_FLAG", str(flag))
    monkeypatch.setenv("FAILING_DISK_ROOT", str(out))
    with WorkerUnderTest() as worker:
        worker.order(SMALL.order(out))
        for file in ALL:
            worker.give(FINISH_FILE, 0, file)
        worker.wake()
        found = {done.index: done.detail for done in worker.completions(COUNT) if done.status != OK}
    assert found == {7: errno.EIO}
    expected = {f"{path}.part" if path.endswith("/7") else path for path in SMALL.files}
    assert set(on_disk(out)) == expected


def test_a_worker_finishes_all_that_waits_and_writes_what_comes_behind_it(
    tmp_path: Path, done: list[tuple[str, object]]
) -> None:
    out = tmp_path / "out"
    SMALL.put_on_disk(out, ".part")
    other = Content({"other": 5000}, 16384)
    workshop = Workshop()
    slot = other.slot(workshop.arena, 0)
    for order in (SMALL.order(out), other.order(out, number=1)):
        workshop.control.sendall(messages.encode(order))
    for file in ALL:
        workshop.jobs.put(FINISH_FILE, file, 0, file, 0, 0, b"")
    workshop.jobs.put(messages.WRITE_PIECE, 999, 1, 0, slot.offset, slot.length, other.hashes())
    assert workshop.completed(COUNT + 1) == [*ALL, 999]
    workshop.close()
    assert [kind for kind, _ in done].count("all") == 2
    assert on_disk(out) == SMALL.files | {"other.part": other.data}
