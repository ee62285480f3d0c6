"""Whatever a power cut leaves of what was written: nothing is claimed that is not there, and the next run goes on."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import time
from pathlib import Path

import psutil
import pytest
from support.commands import get, run, running
from support.power_cut import PowerCut
from support.scripted_peer import ScriptedPeer
from support.torrents import Made, assert_arrived, make

from btfast._bitfield import Bitfield
from btfast.metainfo.geometry import Geometry
from btfast.metainfo.torrent import Torrent
from btfast.storage.resume_store import ResumeStore

CUTS = int(os.environ.get("BTFAST_CRASHES", "0")) or 2
MADE = make({"big.bin": 5_000_000, "small.bin": 200_000, "sub/c.bin": 1_000_001}, name="tree")


def claimed(root: Path, made: Made) -> int:
    """How many pieces the store claims; each of them must be on disk."""
    torrent = Torrent.parse(made.torrent)
    store = ResumeStore(str(root / "state" / "resume.db"))
    (entry,) = store.load([(hashlib.sha256(torrent.info_raw).digest(), str(root / "out"))])
    store.close()
    assert store.messages == []
    if entry is None:
        return 0
    geometry = Geometry(made.piece_length, list(made.files.values()))
    names = list(made.files)
    indexes = Bitfield(geometry.piece_count, entry.have).indices()
    for index in indexes:
        found = b""
        for file, offset, length in geometry.piece_spans(index):
            path = root / "out" / names[file]
            if not path.exists():
                path = path.with_name(f"{path.name}.part")
            if path.exists():
                with path.open("rb") as data:
                    data.seek(offset)
                    found += data.read(length)
        assert found == made.block(index, 0, made.piece_length), f"piece {index} is claimed and is not there"
    return len(indexes)


def goes_on(root: Path, made: Made) -> int:
    with ScriptedPeer(made) as peer:
        done = run(root, *get(made.save(root), "--state", "state", peers=(peer.address,)))
    assert (done.code, done.err) == (0, "")
    assert_arrived(made, root / "out")
    fetched: int = done.one("complete")["downloaded"]
    return fetched


@pytest.mark.parametrize("round_number", range(CUTS))
@pytest.mark.parametrize("io", ["auto", "buffered"])
def test_a_cut_after_an_interrupt_loses_nothing_that_was_recorded(tmp_path: Path, round_number: int, io: str) -> None:
    rng = random.Random(f"{round_number} {io}")
    cut = PowerCut(tmp_path, tmp_path.parent)
    enough = rng.randint(20, 350)
    with ScriptedPeer(MADE, rate=5_000_000) as peer:
        words = get(MADE.save(tmp_path), "--state", "state", "--io", io, peers=(peer.address,), workers=2)
        with running(tmp_path, *words, variables=cut.environment) as command:
            command.until(lambda: peer.blocks_sent >= enough, "some blocks were sent")
            command.signal(signal.SIGINT)
            kept = command.end().one("failed")["done"]
    cut.happen(rng, kept=rng.choice([0.0, 0.5, 0.9]))
    claimed(tmp_path, MADE)
    # The database itself may be behind: its last commits are not forced out. What it lost is hashed, not fetched.
    assert goes_on(tmp_path, MADE) <= len(MADE.data) - kept


@pytest.mark.parametrize("round_number", range(max(1, CUTS // 3)))
def test_a_cut_at_any_moment_leaves_no_false_claim(tmp_path: Path, round_number: int) -> None:
    rng = random.Random(round_number)
    cut = PowerCut(tmp_path, tmp_path.parent)
    with ScriptedPeer(MADE, rate=700_000) as peer:
        words = get(MADE.save(tmp_path), "--state", "state", peers=(peer.address,), workers=2)
        with running(tmp_path, *words, variables=cut.environment) as command:
            command.until(lambda: (tmp_path / "state" / "resume.db").exists(), "something was recorded")
            time.sleep(rng.random() * 0.8)  # any moment is one
            for process in [psutil.Process(command.process.pid), *command.family]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
    cut.happen(rng, kept=rng.choice([0.0, 0.5, 0.9]))
    claimed(tmp_path, MADE)
    goes_on(tmp_path, MADE)
