"""The worker's part in resuming, on real files: what is recorded, what is believed of it, and what is not."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from errno import ELOOP, ENOENT
from pathlib import Path

import msgspec
import pytest

from btfast.storage import syncing
from btfast.storage.files import Files
from btfast.storage.identity import ABSENT, CHANGED, FINAL, UNFINISHED, Identities, identity_of
from btfast.storage.messages import (
    Answer,
    FileSeen,
    Known,
    PartialPiece,
    PartsSeen,
    Recall,
    Recalled,
    Record,
    Recorded,
    Row,
    Wanted,
)
from btfast.storage.recorder import Recorder
from btfast.storage.resume_store import ResumeStore
from btfast.storage.volumes import Volume, Volumes

KEY = hashlib.sha256(b"info").digest()


class Desk:
    """A recorder and a directory with files a and b."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "data"
        self.folder.mkdir()
        self.store = str(folder / "state" / "resume.db")
        self.answers: list[Answer] = []
        self.recorder = Recorder(self.answers.append, Files(16))
        (self.folder / "a").write_bytes(b"a" * 100)
        (self.folder / "b.part").write_bytes(b"b" * 50)

    def _ask(self, order: Recall | Record) -> Answer:
        self.recorder.handle(order)
        while self.recorder.busy:
            self.recorder.step()
        return self.answers.pop()

    def record(self, *files: FileSeen, **changes: object) -> Recorded:
        answer = self._ask(Record(1, self.store, [row(self, *files, **changes)]))
        assert isinstance(answer, Recorded)
        return answer

    def recall(self, paths: tuple[str, ...] = ("a", "b"), key: bytes = KEY) -> Known | None:
        answer = self._ask(Recall(2, self.store, [Wanted(key, str(self.folder), list(paths), [], ".part", ".parts")]))
        assert isinstance(answer, Recalled)
        assert (answer.messages, answer.error) == ([], "")
        return answer.known[0]


A = FileSeen(0, "a", FINAL, False)
B = FileSeen(1, "b.part", UNFINISHED, True)


def row(desk: Desk, *files: FileSeen, **changes: object) -> Row:
    made = Row(
        torrent=0, key=KEY, directory=str(desk.folder), count=2, complete=False, have=b"\xc0", files=list(files), partial=[],
        uploaded=1, downloaded=2, peers=b"", trackers=["http://one/", "http://two/"], used=7,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_files_that_are_the_same_are_recognised(desk: Desk) -> None:
    assert desk.recall() is None
    assert desk.record(A, B) == Recorded(1)
    known = desk.recall()
    assert known is not None
    assert (known.have, known.names, known.complete) == (b"\xc0", bytes([FINAL, UNFINISHED]), False)
    assert (known.uploaded, known.downloaded, known.trackers) == (1, 2, ["http://one/", "http://two/"])
    assert desk.recall(key=bytes(32)) is None


def test_rows_say_only_what_changed(desk: Desk) -> None:
    desk.record(A, B)
    (desk.folder / "b.part").rename(desk.folder / "b")
    desk.record(FileSeen(1, "b", FINAL, False), complete=True)
    known = desk.recall()
    assert known is not None
    assert (known.names, known.complete) == (bytes([FINAL, FINAL]), True)
    desk.record(FileSeen(0, "", ABSENT, False))
    known = desk.recall()
    assert known is not None
    assert (known.names, known.complete) == (bytes([ABSENT, FINAL]), False)


def test_rows_of_one_torrent_in_one_order_add_up(desk: Desk) -> None:
    desk._ask(Record(1, desk.store, [row(desk, A), row(desk, B)]))
    known = desk.recall()
    assert known is not None
    assert known.names == bytes([FINAL, UNFINISHED])


def _rewrite(path: Path) -> None:
    path.write_bytes(b"c" * path.stat().st_size)


def _replace_with_its_time(path: Path) -> None:
    before = path.stat()
    path.rename(path.with_name("kept"))
    path.write_bytes(bytes(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (_rewrite, CHANGED),
        (_link, ABSENT),
        (lambda path: path.unlink(), ABSENT),
        (lambda path: os.truncate(path, 10), CHANGED),
        (lambda path: os.utime(path), CHANGED),
        (lambda path: path.rename(path.with_name("other")), ABSENT),
    ],
)
def test_files_that_changed_are_not(desk: Desk, change: Callable[[Path], None], name: int) -> None:
    desk.record(A, B)
    change(desk.folder / "a")
    known = desk.recall()
    assert known is not None
    assert (known.names, known.elsewhere) == (bytes([name, UNFINISHED]), False)


def test_a_file_that_is_being_written_is_not_recognised_later(desk: Desk) -> None:
    desk.record(A, msgspec.structs.replace(B, moving=True))
    known = desk.recall()
    assert known is not None
    assert known.names == bytes([FINAL, CHANGED])


@pytest.mark.parametrize("change", [_rewrite, _replace_with_its_time, lambda path: path.unlink()])
@pytest.mark.parametrize("at", [0, 1])
def test_a_file_that_changed_between_its_check_or_its_finish_and_the_record_is_not_recognised_later(
    desk: Desk, at: int, change: Callable[[Path], None]
) -> None:
    seen = [
        msgspec.structs.replace(file, identity=identity_of((desk.folder / file.path).stat(), file.name)) for file in (A, B)
    ]
    change(desk.folder / seen[at].path)
    desk.record(*seen)
    known = desk.recall()
    assert known is not None
    names = [FINAL, UNFINISHED]
    names[at] = CHANGED if change is _rewrite else ABSENT
    assert known.names == bytes(names)


def test_what_cannot_be_made_durable_is_not_recorded(desk: Desk) -> None:
    desk.record(A, B)
    (desk.folder / "link.part").symlink_to("a")
    answer = desk.record(FileSeen(1, "link.part", UNFINISHED, True), have=b"\xff")
    assert answer.failed == [(0, 1, ELOOP)]
    known = desk.recall()
    assert known is not None
    assert known.have == b"\xc0"


@pytest.mark.parametrize("gone", [FileSeen(0, "a", FINAL, False), FileSeen(0, "a.part", UNFINISHED, True)])
def test_of_a_file_that_has_gone_nothing_is_claimed_and_all_of_the_others(desk: Desk, gone: FileSeen) -> None:
    desk.record(A)
    (desk.folder / "a").unlink()
    assert desk.record(gone, B, have=b"\x40", uploaded=9).failed == [(0, 0, ENOENT)]
    known = desk.recall()
    assert known is not None
    assert (known.names, known.have, known.uploaded) == (bytes([ABSENT, UNFINISHED]), b"\x40", 9)


def test_of_a_directory_that_has_gone_nothing_is_claimed(desk: Desk) -> None:
    desk.folder.rename(desk.folder.with_name("moved"))
    assert {errno for _, _, errno in desk.record(A, B).failed} == {ENOENT}


def test_many_files_are_made_durable_at_once(desk: Desk) -> None:
    count = 2 * syncing.MANY
    names = [f"f{number}.part" for number in range(count)]
    for name in names:
        (desk.folder / name).write_text(name)
    files = [FileSeen(number, name, UNFINISHED, True) for number, name in enumerate(names)]
    assert desk.record(*files, count=count) == Recorded(1)
    known = desk.recall(tuple(name.removesuffix(".part") for name in names))
    assert known is not None
    assert known.names == bytes([UNFINISHED]) * count


def test_a_record_of_another_number_of_files_is_not_believed(desk: Desk) -> None:
    desk.record(A, B)
    assert desk.recall(("a", "b", "c")) is None
    assert desk.recall(("a",)) is None


def test_partial_pieces_come_back(desk: Desk) -> None:
    partial = [PartialPiece(0, b"\x03", bytes(16))]
    desk.record(A, B, partial=partial)
    known = desk.recall()
    assert known is not None
    assert known.partial == partial


def test_partial_pieces_that_make_no_sense_are_not_believed(desk: Desk) -> None:
    desk.record(A, B)
    store = ResumeStore(desk.store)
    (entry,) = store.load([(KEY, str(desk.folder))])
    assert entry is not None
    store.save([msgspec.structs.replace(entry, partial=b"nonsense")])
    store.close()
    assert desk.recall() is None


def test_who_begins_comes_before_what_is_recorded(desk: Desk) -> None:
    desk.record(A)
    desk.recorder.handle(Record(1, desk.store, [row(desk, B)]))
    desk.recorder.handle(Recall(2, desk.store, [Wanted(KEY, str(desk.folder), ["a", "b"], [], ".part")]))
    while desk.recorder.busy:
        desk.recorder.step()
    assert [type(answer) for answer in desk.answers] == [Recalled, Recorded]


def test_a_store_that_cannot_be_written_is_told(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("mine")
    assert "File exists" in desk.record(A).error
    assert desk.recall() is None


def change_entry(desk: Desk, device: int, volume: Volume) -> None:
    """As if the files had been found on that device."""
    store = ResumeStore(desk.store)
    (entry,) = store.load([(KEY, str(desk.folder))])
    assert entry is not None
    files = Identities(2, entry.files)
    for number in range(2):
        files[number] = files[number]._replace(device=device)
    store.save([msgspec.structs.replace(entry, files=files.to_bytes(), volume=volume.pack())])
    store.close()


@pytest.mark.parametrize(
    ("device", "left", "elsewhere"),
    [
        (os.makedev(7, 200), [], True),
        (os.makedev(7, 200), None, True),
        (os.makedev(7, 200), ["other"], False),
        (os.makedev(0, 200), [], False),
    ],
)
def test_what_was_on_another_disk(desk: Desk, device: int, left: list[str] | None, *, elsewhere: bool) -> None:
    desk.record(A, B)
    change_entry(desk, device, Volume())
    for name in ("a", "b.part"):
        (desk.folder / name).unlink()
    for name in left or []:
        (desk.folder / name).touch()
    if left is None:
        desk.folder.rmdir()
    known = desk.recall()
    assert known is not None
    assert known.elsewhere is elsewhere


def test_what_was_on_a_volume_that_is_not_mounted(desk: Desk) -> None:
    desk.record(A, B)
    change_entry(desk, os.makedev(0, 200), Volume(str(desk.folder), 7))
    known = desk.recall()
    assert known is not None
    assert not known.elsewhere, "something of it is there"
    for name in ("a", "b.part"):
        (desk.folder / name).unlink()
    known = desk.recall()
    assert known is not None
    assert known.elsewhere


def test_what_was_removed_is_on_no_other_volume(desk: Desk) -> None:
    desk.record(A, B)
    for name in ("a", "b.part"):
        (desk.folder / name).unlink()
    known = desk.recall()
    assert known is not None
    assert not known.elsewhere


def test_a_disk_with_another_number_is_the_same_by_its_id(desk: Desk) -> None:
    desk.record(A, B)
    here = Volumes().of(str(desk.folder))
    for volume, names in (
        (here._replace(id=here.id + 1), [ABSENT, ABSENT]),
        (Volume(), [ABSENT, ABSENT]),
        (here._replace(id=here.id), [FINAL, UNFINISHED] if here.id else [ABSENT, ABSENT]),
    ):
        change_entry(desk, os.makedev(7, 200), volume)
        known = desk.recall()
        assert known is not None
        assert known.names == bytes(names)


PARTS = FileSeen(2, ".parts", FINAL, True)
SEEN = PartsSeen(b"\x40", b"\x80")


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda path: None, SEEN),
        (_rewrite, None),
        (lambda path: path.unlink(), None),
    ],
)
def test_the_parts_file_is_recognised(desk: Desk, change: Callable[[Path], object], parts: PartsSeen | None) -> None:
    (desk.folder / ".parts").write_bytes(b"p" * 10)
    desk.record(A, PARTS, parts=SEEN)
    desk.record(B, parts=SEEN)  # says nothing of the parts file itself
    change(desk.folder / ".parts")
    known = desk.recall()
    assert known is not None
    assert (known.parts, known.names) == (parts, bytes([FINAL, UNFINISHED]))


def test_a_parts_file_that_is_needed_no_more_is_forgotten(desk: Desk) -> None:
    (desk.folder / ".parts").write_bytes(b"p" * 10)
    desk.record(A, PARTS, parts=SEEN)
    desk.record(A)
    known = desk.recall()
    assert known is not None
    assert known.parts is None
    desk.record(A, parts=SEEN)
    known = desk.recall()
    assert known is not None
    assert known.parts is None, "nobody has looked at the file"


def test_identities_are_bytes_and_back() -> None:
    some = Identities(3)
    some[1] = some[0]._replace(name=FINAL, device=1 << 63, inode=2**64 - 1, size=5, mtime_ns=-7)
    again = Identities(3, some.to_bytes())
    assert again[1] == (FINAL, 1 << 63, 2**64 - 1, 5, -7)
    assert again[0].name == again[2].name == ABSENT
    assert len(again) == 3
    with pytest.raises(ValueError, match="do not fit"):
        Identities(2, some.to_bytes())
