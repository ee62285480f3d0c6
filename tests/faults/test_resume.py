"""A later run believes what an earlier one has recorded, as long as the files are the same; else it looks again."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import msgspec
import pytest
from support.commands import Outcome, get, run, running
from support.disks import small_disk
from support.scripted_peer import ScriptedPeer
from support.scripted_tracker import Exchange, ScriptedTracker
from support.torrents import Made, assert_arrived, make, some_written

from btfast.engine.recording import key_of
from btfast.metainfo.torrent import Torrent
from btfast.storage.identity import Identities
from btfast.storage.resume_store import Entry, ResumeStore

TREE = make({"a.bin": 1_000_000, "sub/b.bin": 1_000_001, "sub/c.bin": 1_000_002, "empty": 0}, name="tree")
SINGLE = make(3_000_001)
A_PIECE = 200_000  # somewhere in the first file


def fetch(root: Path, made: Made, *words: str) -> Outcome:
    with ScriptedPeer(made) as peer:
        return run(root, *get(made.save(root), *words, peers=(peer.address,)))


def complete(done: Outcome) -> int:
    """Bytes that were fetched by a run that went well and said nothing."""
    assert (done.code, done.err) == (0, "")
    found: int = done.one("complete")["downloaded"]
    return found


def alone(root: Path, made: Made, *words: str) -> Outcome:
    """A run with nobody to fetch from."""
    return run(root, *get(made.save(root), "--peer-timeout", "0.3", *words))


def spoil(path: Path, at: int = A_PIECE) -> None:
    """Wrong bytes, in a way that neither the size nor the times of the file tell."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"wrong")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def done(tmp_path: Path) -> Path:
    """A destination in which TREE is complete, and recorded."""
    assert complete(fetch(tmp_path, TREE, "--state", "state")) == len(TREE.data)
    return tmp_path / "out"


def again(root: Path, *words: str) -> Outcome:
    return fetch(root, TREE, "--state", "state", *words)


def test_a_finished_job_is_not_hashed_again(tmp_path: Path, done: Path) -> None:
    spoil(done / "tree" / "a.bin")
    after = alone(tmp_path, TREE, "--state", "state")
    assert complete(after) == 0
    event = after.one("complete")
    assert sorted(event["files"]) == sorted(TREE.contents())
    assert (event["bytes"], event["limited_by"]) == (len(TREE.data), "nothing to do")
    assert after.one("metadata")["files"] == 4


def test_check_believes_nothing(tmp_path: Path, done: Path) -> None:
    spoil(done / "tree" / "a.bin")
    assert complete(again(tmp_path, "--check")) == TREE.piece_length
    assert_arrived(TREE, done)
    assert complete(alone(tmp_path, TREE, "--state", "state")) == 0


def _touch(folder: Path) -> int:
    """Content changed, and the time with it."""
    spoil(folder / "a.bin")
    os.utime(folder / "a.bin")
    return TREE.piece_length


def _truncate(folder: Path) -> int:
    os.truncate(folder / "a.bin", 10 * TREE.piece_length)
    return 6 * TREE.piece_length


def _replace(folder: Path) -> int:
    """By a copy with the same size and times, so that only the inode tells."""
    before = (folder / "a.bin").stat()
    shutil.copyfile(folder / "a.bin", folder / "copy")
    spoil(folder / "copy")
    os.replace(folder / "copy", folder / "a.bin")
    os.utime(folder / "a.bin", ns=(before.st_atime_ns, before.st_mtime_ns))
    return TREE.piece_length


def _remove(folder: Path) -> int:
    (folder / "a.bin").unlink()
    return 16 * TREE.piece_length


def _move(folder: Path) -> int:
    (folder / "a.bin").rename(folder / "elsewhere.bin")
    return 16 * TREE.piece_length


def test_what_changed_is_noticed_and_only_that_is_hashed(tmp_path: Path, done: Path) -> None:
    spoil(done / "tree" / "sub" / "c.bin")  # where nobody looks
    content = TREE.contents()
    for change in (_touch, _truncate, _replace, _remove, _move):
        expected = change(done / "tree")
        assert complete(again(tmp_path)) == expected, change
        assert (done / "tree" / "a.bin").read_bytes() == content["tree/a.bin"]
        assert (done / "tree" / "sub" / "b.bin").read_bytes() == content["tree/sub/b.bin"]
        assert (done / "tree" / "sub" / "c.bin").read_bytes() != content["tree/sub/c.bin"]
    assert complete(alone(tmp_path, TREE, "--state", "state")) == 0


def test_what_another_program_changes_as_soon_as_a_file_is_finished_is_noticed(tmp_path: Path) -> None:
    first = tmp_path / "out" / "tree" / "a.bin"
    with ScriptedPeer(TREE, holds=72) as peer:
        words = get(TREE.save(tmp_path), "--sequential", "--state", "state", peers=(peer.address,))
        with running(tmp_path, *words) as command:
            command.until(first.exists, "the first file is finished")
            spoil(first)
            os.utime(first)
            peer.go_on()
            assert complete(command.end()) == len(TREE.data)
    assert complete(again(tmp_path)) == TREE.piece_length
    assert_arrived(TREE, tmp_path / "out")


def test_an_interrupted_download_goes_on_without_hashing(tmp_path: Path) -> None:
    with ScriptedPeer(SINGLE, holds=64) as peer:
        with running(tmp_path, *get(SINGLE.save(tmp_path), peers=(peer.address,))) as command:
            command.until(lambda: some_written(SINGLE, tmp_path / "out" / "data.bin.part"), "some pieces are there")
            command.signal(signal.SIGINT)
            kept = command.end().one("failed")["done"]
    assert 0 < kept < len(SINGLE.data)
    part = tmp_path / "out" / "data.bin.part"
    before = part.read_bytes()
    length = SINGLE.piece_length
    first = next(at for at in range(0, len(before), length) if before[at : at + length] == SINGLE.data[at : at + length])
    spoil(part, first)
    after = fetch(tmp_path, SINGLE)
    assert complete(after) <= len(SINGLE.data) - kept
    assert (tmp_path / "out" / "data.bin").read_bytes()[first:][:5] == b"wrong"


def test_the_record_does_not_wait_for_trackers(tmp_path: Path) -> None:
    recorded: list[bool] = []

    def answer(exchange: Exchange) -> None:
        if exchange.query.get("event") == "stopped":
            while True:
                waits = exchange.waits()
                if _entry(tmp_path, made) is not None or not waits:
                    break
                time.sleep(0.01)
            recorded.append(waits)
        exchange.peers(peer.address)

    with ScriptedTracker(answer) as tracker:
        made = make(3_000_001, announce=[[tracker.url]])
        with ScriptedPeer(made, holds=64) as peer:
            words = get(made.save(tmp_path), "--state", "state", trackers=True)
            with running(tmp_path, *words) as command:
                command.until(lambda: some_written(made, tmp_path / "out" / "data.bin.part"), "some pieces are there")
                command.signal(signal.SIGINT)
                assert command.end().one("failed")["done"] > 0
    assert recorded == [True]


def _entry(root: Path, made: Made) -> Entry | None:
    store = ResumeStore(str(root / "state" / "resume.db"))
    (entry,) = store.load([(key_of(Torrent.parse(made.torrent)), str(root / "out"))])
    store.close()
    return entry


def test_a_seed_need_not_hash_again(tmp_path: Path, done: Path) -> None:
    spoil(done / "tree" / "a.bin")
    words = ["seed", "--json", "--bind", "127.0.0.1", "--port", "0", "--no-trackers", "--no-dht", "--seed-time", "0.1"]
    after = run(tmp_path, *words, "--data", "out", "--state", "state", TREE.save(tmp_path))
    assert complete(after) == 0


def test_the_same_torrent_in_two_places(tmp_path: Path, done: Path) -> None:
    assert complete(again(tmp_path, "-o", "other")) == len(TREE.data)
    assert_arrived(TREE, tmp_path / "other")
    assert complete(alone(tmp_path, TREE, "--state", "state", "-o", "other")) == 0
    assert complete(alone(tmp_path, TREE, "--state", "state")) == 0


def test_a_disk_that_is_not_mounted_is_not_filled_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert complete(fetch(tmp_path, TREE, "--state", "state")) == len(TREE.data)
    shutil.rmtree(out)
    out.mkdir()
    _say_that_it_was_on(os.makedev(7, 200), tmp_path)
    line = again(tmp_path).error(6)
    assert f"{out}: what was fetched into it is on another disk" in line
    assert list(out.iterdir()) == []
    assert complete(again(tmp_path, "--check")) == len(TREE.data)
    assert complete(alone(tmp_path, TREE, "--state", "state")) == 0


def test_a_file_system_that_is_another_at_each_mount_is_missed_while_it_is_not_mounted(tmp_path: Path) -> None:
    out = tmp_path / "disk" / "out"
    words = ("--state", "state", "-o", str(out))
    with small_disk(tmp_path / "disk", "size=16m"):
        assert complete(fetch(tmp_path, TREE, *words)) == len(TREE.data)
    assert f"{out}: what was fetched into it is on another disk" in fetch(tmp_path, TREE, *words).error(6)
    assert not out.exists()
    with small_disk(tmp_path / "disk", "size=16m"):  # a new one, as after a boot
        assert complete(fetch(tmp_path, TREE, *words)) == len(TREE.data)


def _say_that_it_was_on(device: int, path: Path) -> None:
    """As if what the store knows in that place had been found on another disk."""
    entry = _entry(path, TREE)
    assert entry is not None
    store = ResumeStore(str(path / "state" / "resume.db"))
    files = Identities(len(entry.files) // 40, entry.files)
    for number in range(len(files)):
        files[number] = files[number]._replace(device=device)
    store.save([msgspec.structs.replace(entry, files=files.to_bytes(), volume="")])
    store.close()


def test_a_damaged_database_costs_a_look_at_the_files(tmp_path: Path, done: Path) -> None:
    database = tmp_path / "state" / "resume.db"
    database.write_bytes(b"x" * 5000)
    after = alone(tmp_path, TREE, "--state", "state")
    assert after.code == 0
    assert after.one("complete")["downloaded"] == 0
    (line,) = after.err.splitlines()
    assert line.startswith(f"btfast: warning: resume state {database}: it is damaged")
    assert (tmp_path / "state" / "resume.db.damaged").read_bytes() == b"x" * 5000
    assert complete(alone(tmp_path, TREE, "--state", "state")) == 0


def test_a_state_directory_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("mine")
    after = fetch(tmp_path, TREE, "--state", "state")
    assert after.code == 0
    assert_arrived(TREE, tmp_path / "out")
    (line,) = after.err.splitlines()
    assert line.startswith("btfast: warning: resume state is not kept: ")
    assert "--state" in line


def test_two_at_once_share_a_state_directory(tmp_path: Path) -> None:
    with ScriptedPeer(SINGLE) as peer:
        words = get(SINGLE.save(tmp_path), peers=(peer.address,))
        with running(tmp_path, *words) as one, running(tmp_path, *words, "-o", "other") as two:
            assert [complete(one.end()), complete(two.end())] == [len(SINGLE.data)] * 2
    assert complete(alone(tmp_path, SINGLE)) == 0
    assert complete(alone(tmp_path, SINGLE, "-o", "other")) == 0
