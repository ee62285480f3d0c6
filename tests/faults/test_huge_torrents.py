"""A torrent of 100,000 files, of which few are wanted: what all processes together need for it."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import psutil
from support.commands import Running, get, running
from support.scripted_peer import ScriptedPeer
from support.torrents import make, tree

FILES = 100_000
BUDGET = 300 << 20  # bytes


def memory(command: Running) -> int:
    """What its processes occupy; what they share counts once."""
    total = 0
    for process in [psutil.Process(command.process.pid), *command.family]:
        with contextlib.suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total


def test_some_of_very_many_files(tmp_path: Path) -> None:
    made = make({f"{n // 1000}/a file of some name {n:06d}": n % 3 + 30 for n in range(FILES)}, name="many")
    most = 0
    with ScriptedPeer(made) as peer, running(
        tmp_path, *get(made.save(tmp_path), "--files", "5,50000,99999", peers=(peer.address,), workers=2)
    ) as command:
        while command.process.poll() is None:
            with contextlib.suppress(psutil.Error):
                most = max(most, memory(command))
            with contextlib.suppress(subprocess.TimeoutExpired):
                command.process.wait(0.02)
        done = command.end()
    assert (done.code, done.err) == (0, "")
    assert done.one("complete")["downloaded"] < 4 * made.piece_length
    names = [f"many/{n // 1000}/a file of some name {n:06d}" for n in (5, 50_000, 99_999)]
    assert [name for name in tree(tmp_path / "out") if not name.startswith(".")] == sorted(names)
    assert 0 < most < BUDGET
