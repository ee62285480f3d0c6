"""Pieces under way when a run ends: their blocks are not fetched again, and none of them is believed unseen."""

from __future__ import annotations

import contextlib
import hashlib
import signal
from pathlib import Path

import msgspec
import psutil
import pytest
from support.commands import get, run, running
from support.scripted_peer import ScriptedPeer
from support.torrents import Made, assert_arrived, make

from btfast._bitfield import Bitfield
from btfast.metainfo.torrent import Torrent
from btfast.storage.messages import PartialPiece
from btfast.storage.resume_store import ResumeStore

BLOCK = 16384
BIG = make({"a.bin": 17 << 20, "b.bin": 3_000_001}, name="tree", piece_length=16 << 20)
TOTAL = -(-len(BIG.data) // BLOCK)


def recorded(root: Path, made: Made) -> int:
    """Blocks that the store says are there, of whole pieces and of others."""
    torrent = Torrent.parse(made.torrent)
    store = ResumeStore(str(root / "state" / "resume.db"))
    (entry,) = store.load([(hashlib.sha256(torrent.info_raw).digest(), str(root / "out"))])
    store.close()
    if entry is None:
        return 0
    whole = Bitfield(torrent.piece_count, entry.have).indices()
    partial = msgspec.msgpack.decode(entry.partial, type=list[PartialPiece]) if entry.partial else []
    kept = sum(int.from_bytes(piece.blocks, "little").bit_count() for piece in partial)
    assert all(len(piece.sums) == 8 * int.from_bytes(piece.blocks, "little").bit_count() for piece in partial)
    return kept + sum(-(-torrent.geometry.piece_size(index) // BLOCK) for index in whole)


def part_of(root: Path, made: Made, blocks: int, *words: str) -> int:
    """A run that is interrupted when so many blocks were sent; how many were kept."""
    with ScriptedPeer(made, holds=blocks) as peer:
        with running(root, *get(made.save(root), "--state", "state", *words, peers=(peer.address,))) as command:
            command.until(lambda: peer.blocks_sent >= blocks, "blocks were sent")
            command.signal(signal.SIGINT)
            assert command.end().code == 7
    return recorded(root, made)


def the_rest(root: Path, made: Made, *words: str) -> int:
    """Blocks that a run fetches which comes to the end."""
    with ScriptedPeer(made) as peer:
        done = run(root, *get(made.save(root), "--state", "state", *words, peers=(peer.address,)))
    assert (done.code, done.err) == (0, "")
    assert done.all("piece_failed") == []
    assert_arrived(made, root / "out")
    fetched: int = done.one("complete")["downloaded"]
    return -(-fetched // BLOCK)


@pytest.mark.parametrize("memory", ["256MiB", "32MiB"])
def test_blocks_of_a_big_piece_are_kept_over_several_runs(tmp_path: Path, memory: str) -> None:
    """Below four times the piece's size it is received part by part, and whole parts are kept."""
    first = part_of(tmp_path, BIG, 500, "--memory", memory)
    second = part_of(tmp_path, BIG, 600, "--memory", memory)
    assert 50 < first < second
    assert the_rest(tmp_path, BIG, "--memory", memory) == TOTAL - second


def test_blocks_that_changed_on_disk_are_fetched_again(tmp_path: Path) -> None:
    part_of(tmp_path, BIG, 700)
    part = tmp_path / "out" / "tree" / "a.bin.part"
    with part.open("r+b") as file:
        for at in range(0, 17 << 20, 64 * BLOCK):
            file.seek(at + 100)
            file.write(b"wrong")
    the_rest(tmp_path, BIG)


def test_a_file_that_vanished_takes_its_blocks_along(tmp_path: Path) -> None:
    part_of(tmp_path, BIG, 700)
    (tmp_path / "out" / "tree" / "a.bin.part").unlink()
    assert the_rest(tmp_path, BIG) >= (17 << 20) // BLOCK


def test_a_crash_costs_the_last_seconds_of_a_big_piece(tmp_path: Path) -> None:
    """What came of it is kept every few seconds."""
    with ScriptedPeer(BIG, rate=1_200_000) as peer:
        with running(tmp_path, *get(BIG.save(tmp_path), "--state", "state", peers=(peer.address,))) as command:
            database = tmp_path / "state" / "resume.db"
            command.until(lambda: database.exists() and recorded(tmp_path, BIG) > 100, "blocks are kept")
            for process in [psutil.Process(command.process.pid), *command.family]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
    kept = recorded(tmp_path, BIG)
    assert the_rest(tmp_path, BIG) <= TOTAL - kept
