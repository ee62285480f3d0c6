"""`--reuse`: files that are on this machine already are copied, verified, and not fetched."""

from __future__ import annotations

import os
import random
import shutil
from hashlib import sha1
from pathlib import Path

from support.commands import Running, get, run
from support.disks import sharing_disk
from support.libtorrent_peer import Libtorrent
from support.scripted_peer import ScriptedPeer
from support.torrents import Made, assert_arrived, make, tree

from btfast._bencode import decode, encode
from btfast.metainfo.torrent import Torrent

FILES = {"notes": 900, "deep/big": 700_001, "deep/other": 300_000, "empty": 0}


def test_what_is_there_under_any_name_is_copied_and_nothing_is_fetched(tmp_path: Path) -> None:
    made = make(FILES, name="set")
    old = tmp_path / "old" / "attic"
    old.mkdir(parents=True)
    for path, content in made.contents().items():
        kept = path.split("/")[-1] if path.endswith("notes") else f"renamed {len(content)}"
        (old / kept).write_bytes(content)
    (old / "same size").write_bytes(b"x" * 700_001)
    (old / "loop").symlink_to("..")
    done = run(tmp_path, *get(made.save(tmp_path), "--reuse", tmp_path / "old"))
    assert (done.code, done.err) == (0, "")
    assert_arrived(made, tmp_path / "out")
    complete = done.one("complete")
    assert (complete["downloaded"], complete["reused"]) == (0, 900 + 700_001 + 300_000)
    assert all(os.stat(path).st_nlink == 1 for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert sorted(path.name for path in old.iterdir()) == [
        "loop", "notes", "renamed 0", "renamed 300000", "renamed 700001", "same size",
    ]  # fmt: skip


def test_what_differs_is_fetched_and_the_original_stays_as_it_is(tmp_path: Path) -> None:
    made = make(800_000)
    (tmp_path / "old").mkdir()
    stale = bytearray(made.data)
    stale[200_000] ^= 1
    (tmp_path / "old" / "data.bin").write_bytes(stale)
    with ScriptedPeer(made) as peer:
        command = get(made.save(tmp_path), "--reuse", tmp_path / "old", "--reuse", tmp_path / "gone", peers=(peer.address,))
        done = run(tmp_path, *command)
    assert done.code == 0
    assert_arrived(made, tmp_path / "out")
    assert done.one("complete")["downloaded"] == made.piece_length
    assert (tmp_path / "old" / "data.bin").read_bytes() == stale
    assert [text for text in done.warnings if "gone" in text] == done.warnings != []


def test_what_has_begun_already_is_left_alone(tmp_path: Path) -> None:
    made = make(400_000)
    for folder in ("old", "out"):
        (tmp_path / folder).mkdir()
    (tmp_path / "old" / "data.bin").write_bytes(made.data)
    (tmp_path / "out" / "data.bin.part").write_bytes(made.data[: 2 * made.piece_length])
    with ScriptedPeer(made) as peer:
        done = run(tmp_path, *get(made.save(tmp_path), "--reuse", tmp_path / "old", peers=(peer.address,)))
    assert done.code == 0
    assert_arrived(made, tmp_path / "out")
    assert done.one("complete")["reused"] == 0
    assert done.one("complete")["downloaded"] == 400_000 - 2 * made.piece_length


def test_a_file_that_two_torrents_of_a_run_share_is_fetched_once(tmp_path: Path) -> None:
    """Their trees (BEP 52) say that it is the same file, whatever its name."""
    shared = random.Random(7).randbytes(700_000)
    torrents = []
    folders = {"first": {"big": shared, "one": b"1" * 9000}, "second": {"other name": shared, "two": b"2" * 9000}}
    for name, files in folders.items():
        for path, content in files.items():
            (tmp_path / "seed" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "seed" / name / path).write_bytes(content)
        torrent = Torrent.create(tmp_path / "seed" / name, version="hybrid", piece_length=65536)
        (tmp_path / f"{name}.torrent").write_bytes(torrent.raw)
        torrents.append(torrent)
    with Libtorrent() as peer:
        for torrent in torrents:
            peer.add(torrent.raw, tmp_path / "seed", seed=True)
        done = run(tmp_path, *get("first.torrent", "second.torrent", "-j", "1", peers=(peer.address,)))
    assert (done.code, done.err) == (0, "")
    assert tree(tmp_path / "out") == tree(tmp_path / "seed")
    first, second = done.all("complete")
    assert (first["reused"], second["reused"]) == (0, 700_000)
    assert second["downloaded"] <= 65536  # the piece of the other file, with the zeros behind it
    assert all(path.stat().st_nlink == 1 for path in (tmp_path / "out").rglob("*") if path.is_file())


def test_torrents_that_run_at_once_fetch_the_file_that_they_share_once(tmp_path: Path) -> None:
    shared = random.Random(7).randbytes(700_000)
    one, two = _of({"big": shared, "one": b"1" * 9000}, "one"), _of({"b/i/g": shared, "two": b"2" * 9000}, "two")
    with ScriptedPeer(one, rate=2 << 20) as first, ScriptedPeer(two, rate=2 << 20) as second:
        done = run(tmp_path, *get(one.save(tmp_path), two.save(tmp_path), peers=(first.address, second.address)))
    assert (done.code, done.err) == (0, "")
    assert tree(tmp_path / "out") == one.contents() | two.contents()
    complete = done.all("complete")
    assert sorted(event["reused"] for event in complete) == [0, 700_000]
    # The waiting one fetches its other file, and the piece that has bytes of both.
    assert sum(event["downloaded"] for event in complete) <= 709_000 + 9000 + 65536


def test_a_torrent_goes_on_by_itself_when_the_one_that_it_waits_for_fails(tmp_path: Path) -> None:
    shared = random.Random(7).randbytes(700_000)
    one, two = _of({"big": shared, "one": b"1" * 9000}, "one"), _of({"big": shared, "two": b"2" * 9000}, "two")
    with ScriptedPeer(one, have={0}) as first, ScriptedPeer(two) as second:
        running = Running(
            tmp_path, *get(one.save(tmp_path), two.save(tmp_path), "--peer-timeout", "3", peers=(first.address, second.address))
        )
        done = running.end()
    assert done.code == 3
    assert tree(tmp_path / "out").items() >= two.contents().items()
    assert done.one("complete")["name"] == "two"


def test_a_v1_file_of_a_completed_torrent_is_copied_by_its_name_and_size(tmp_path: Path) -> None:
    """Its pieces begin elsewhere, so that only hashing what was copied tells."""
    shared = random.Random(7).randbytes(700_000)
    one, two = _of({"big": shared}, "one"), _of({"two": b"2" * 9000, "below/big": shared}, "two")
    with ScriptedPeer(one) as first, ScriptedPeer(two) as second:
        addresses = (first.address, second.address)
        done = run(tmp_path, *get(one.save(tmp_path), two.save(tmp_path), "-j", "1", peers=addresses))
    assert done.code == 0
    assert tree(tmp_path / "out").items() >= two.contents().items()
    assert [event["reused"] for event in done.all("complete")] == [0, 700_000]
    assert done.all("complete")[1]["downloaded"] == 65536


def _of(files: dict[str, bytes], name: str) -> Made:
    """A v1 torrent of these very files."""
    made = make({path: len(content) for path, content in files.items()}, name=name)
    data = b"".join(files.values())
    hashes = [sha1(data[at : at + made.piece_length]).digest() for at in range(0, len(data), made.piece_length)]
    info = decode(made.torrent)[b"info"] | {b"pieces": b"".join(hashes)}
    return made._replace(torrent=encode({"info": info}), info_hash=sha1(encode(info)).digest(), data=data)


def test_where_the_disk_can_a_copy_shares_its_blocks_with_the_original(tmp_path: Path) -> None:
    """There is no room for it twice; and a piece that is put right leaves the original as it was."""
    made = make(180_000_000, piece_length=1 << 20)
    with sharing_disk(tmp_path / "disk") as disk:
        (disk / "old").mkdir()
        stale = bytearray(made.data)
        stale[50_000_000] ^= 1
        (disk / "old" / "data.bin").write_bytes(stale)
        os.sync()
        before = shutil.disk_usage(disk).free
        with ScriptedPeer(made) as peer:
            words = get(made.save(tmp_path), "--reuse", str(disk / "old"), "-o", str(disk / "out"), peers=(peer.address,))
            done = run(tmp_path, *words)
        assert (done.code, done.err) == (0, "")
        assert done.one("complete")["downloaded"] == made.piece_length
        assert_arrived(made, disk / "out")
        assert (disk / "old" / "data.bin").read_bytes() == stale
        os.sync()
        assert before - shutil.disk_usage(disk).free < 20_000_000
