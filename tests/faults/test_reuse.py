"""`--reuse`: files that are on this machine already are copied, verified, and not fetched."""

from __future__ import annotations

import os
import random
from pathlib import Path

from support.commands import get, run
from support.libtorrent_peer import Libtorrent
from support.scripted_peer import ScriptedPeer
from support.torrents import assert_arrived, make, tree

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
