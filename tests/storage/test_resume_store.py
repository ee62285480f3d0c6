"""The database by itself: what was saved is found, and nothing that was damaged is believed or deleted."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from pathlib import Path

import msgspec
import pytest

from btfast.storage.resume_store import VERSION, Entry, ResumeStore


def entry(number: int, **changes: object) -> Entry:
    made = Entry(
        key=hashlib.sha256(str(number).encode()).digest(), place="/data", complete=False, have=b"\xf0", files=bytes(40),
        partial=b"p", uploaded=3, downloaded=4, peers=b"six666", trackers="http://a/\nhttp://b/", used=number,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def ask(store: ResumeStore, *entries: Entry) -> list[Entry | None]:
    return store.load([(found.key, found.place) for found in entries])


def saved(path: Path, *entries: Entry) -> None:
    store = ResumeStore(str(path))
    store.save(entries)
    store.close()


def test_what_was_saved_is_found_by_another(tmp_path: Path) -> None:
    path = tmp_path / "state" / "resume.db"
    saved(path, entry(1), entry(2, complete=True))
    store = ResumeStore(str(path))
    unknown = entry(1, place="/elsewhere")
    assert ask(store, entry(2), unknown, entry(1)) == [
        entry(2, complete=True, used=0), None, entry(1, used=0),
    ]  # fmt: skip
    store.save([entry(1, have=b"\xff")])
    store.close()
    assert ask(ResumeStore(str(path)), entry(1)) == [entry(1, have=b"\xff", used=0)]
    assert path.stat().st_mode & 0o077 == 0


def test_looking_makes_no_database(tmp_path: Path) -> None:
    store = ResumeStore(str(tmp_path / "state" / "resume.db"))
    assert ask(store, entry(1)) == [None]
    assert list(tmp_path.iterdir()) == []


def test_the_oldest_make_room(tmp_path: Path) -> None:
    path = tmp_path / "resume.db"
    saved(path, *map(entry, range(100)))
    store = ResumeStore(str(path), most=50)
    store.save([entry(100)])
    left = [number for number in range(101) if ask(store, entry(number)) != [None]]
    assert left == list(range(55, 101))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: b"no database at all " * 500, id="foreign"),
        pytest.param(lambda data: data[:100] + bytes(len(data) - 100), id="zeroed"),
        pytest.param(lambda data: data[:16] + b"\xff" * 4000 + data[4016:], id="overwritten"),
        pytest.param(lambda data: data[: len(data) // 2], id="cut"),
    ],
)
def test_a_damaged_database_is_moved_aside(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "resume.db"
    saved(path, *map(entry, range(200)))
    damaged = damage(path.read_bytes())  # type: ignore[operator]
    path.write_bytes(damaged)
    store = ResumeStore(str(path))
    ask(store, *map(entry, range(200)))
    store.save([entry(7)])
    (message,) = store.messages
    assert message.count("\n") == 0
    assert f"{path}: it is damaged" in message
    assert "moved aside to resume.db.damaged" in message
    assert (tmp_path / "resume.db.damaged").stat().st_size >= len(damaged) // 2
    store.close()
    assert ask(ResumeStore(str(path)), entry(7)) == [entry(7, used=0)]


def test_damage_after_damage_is_kept_too(tmp_path: Path) -> None:
    path = tmp_path / "resume.db"
    for number in range(3):
        path.write_bytes(b"nonsense %d" % number * 100)
        store = ResumeStore(str(path))
        store.save([entry(1)])
        store.close()
    kept = [tmp_path / name for name in ("resume.db.damaged", "resume.db.damaged-2", "resume.db.damaged-3")]
    assert [found.read_bytes()[9:10] for found in kept] == [b"0", b"1", b"2"]


def test_another_ones_tables_are_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "resume.db"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE torrent (title TEXT)")
    database.execute(f"PRAGMA user_version = {VERSION}")
    database.commit()
    database.close()
    store = ResumeStore(str(path))
    assert ask(store, entry(1)) == [None]
    store.save([entry(1)])
    assert ask(store, entry(1)) == [entry(1, used=0)]
    assert len(store.messages) == 1


@pytest.mark.parametrize(("version", "lacks"), [(1, ("volume", "parts", "taken")), (2, ("taken",))])
def test_a_database_of_an_older_version_gets_what_is_new(version: int, lacks: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "resume.db"
    old = entry(1)
    saved(path, old)
    database = sqlite3.connect(path)
    for column in lacks:
        database.execute(f"ALTER TABLE torrent DROP COLUMN {column}")
    database.execute(f"PRAGMA user_version = {version}")
    database.close()
    store = ResumeStore(str(path))
    assert ask(store, old) == [entry(1, used=0)]
    new = entry(2, volume="7 /mnt", parts=b"p", taken=b"t")
    store.save([new])
    store.close()
    assert ask(ResumeStore(str(path)), old, new) == [entry(1, used=0), msgspec.structs.replace(new, used=0)]


def test_a_newer_version_is_moved_aside_whole(tmp_path: Path) -> None:
    path = tmp_path / "resume.db"
    saved(path, entry(1))
    database = sqlite3.connect(path, isolation_level=None)
    database.execute(f"PRAGMA user_version = {VERSION + 1}")
    database.close()
    store = ResumeStore(str(path))
    assert ask(store, entry(1)) == [None]
    store.save([entry(2)])
    assert "written by a newer btfast" in store.messages[0]
    assert len(store.messages) == 1
    moved = sqlite3.connect(tmp_path / f"resume.db.version-{VERSION + 1}")
    assert moved.execute("SELECT count(*) FROM torrent").fetchone() == (1,)
    moved.close()


@pytest.mark.parametrize("column", ["have", "files", "partial", "complete", "taken"])
def test_a_claim_that_changed_on_its_way_is_not_believed(tmp_path: Path, column: str) -> None:
    path = tmp_path / "resume.db"
    saved(path, entry(1))
    database = sqlite3.connect(path, isolation_level=None)
    database.execute(f"UPDATE torrent SET {column} = ?", (1 if column == "complete" else b"\xff",))
    database.close()
    assert ask(ResumeStore(str(path)), entry(1)) == [None]


def test_values_of_wrong_types_are_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "resume.db"
    saved(path, entry(1))
    for column in ("have", "uploaded", "peers", "trackers", "checksum"):
        database = sqlite3.connect(path, isolation_level=None)
        database.execute(f"UPDATE torrent SET {column} = ?", ("text" if column != "trackers" else b"bytes",))
        database.close()
        assert ask(ResumeStore(str(path)), entry(1)) == [None]


def test_several_write_at_the_same_time(tmp_path: Path) -> None:
    path = str(tmp_path / "resume.db")
    errors: list[Exception] = []

    def write(first: int) -> None:
        try:
            store = ResumeStore(path)
            for number in range(first, first + 20):
                store.save([entry(number)])
            store.close()
        except Exception as error:  # noqa: BLE001 - told to the test
            errors.append(error)

    threads = [threading.Thread(target=write, args=(20 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    store = ResumeStore(path)
    assert None not in ask(store, *map(entry, range(80)))
    assert store.messages == []


def test_a_locked_database_is_an_error_and_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("btfast.storage.resume_store.BUSY", 0.05)
    path = tmp_path / "resume.db"
    saved(path, entry(1))
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    store = ResumeStore(str(path))
    assert ask(store, entry(1)) == [entry(1, used=0)]
    with pytest.raises(OSError, match="locked"):
        store.save([entry(2)])
    holder.execute("ROLLBACK")
    holder.close()
    store.save([entry(2)])
    assert store.messages == []


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    store = ResumeStore(str(tmp_path / "file" / "resume.db"))
    with pytest.raises(OSError, match="File exists"):
        store.save([entry(1)])
    assert os.listdir(tmp_path) == ["file"]
