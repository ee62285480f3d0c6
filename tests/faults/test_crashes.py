"""Everything is killed at random moments of a download; each time the next run goes on, and fetches little twice.

`BTFAST_CRASHES=100` kills that many downloads, each of them larger; else it is a dozen times one of them. `BTFAST_SEED`
chooses other moments.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from pathlib import Path

import psutil
import pytest
from support.commands import PROMISED, alive, get, run, running
from support.scripted_peer import ScriptedPeer
from support.torrents import assert_arrived, make

ROUNDS = int(os.environ.get("BTFAST_CRASHES", "0"))
SEED = os.environ.get("BTFAST_SEED", "12")
TWICE = 64 << 20  # bytes that a crash may cost at most
BLOCK = 16384


def kill_all(command: object) -> None:
    """The command and all that it has started, at once."""
    processes = [psutil.Process(command.process.pid), *command.family]  # type: ignore[attr-defined]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    deadline = time.monotonic() + PROMISED
    while any(alive(process) for process in processes[1:]):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_killed_at_random_moments_of_one_download(tmp_path: Path) -> None:
    """A dozen crashes one after the other; what is fetched twice is counted over all of them."""
    rng = random.Random(SEED)
    made = make({f"{number}.bin": 1_500_001 for number in range(12)}, name="tree", piece_length=1 << 18)
    share = len(made.data) // BLOCK // 13
    with ScriptedPeer(made, rate=12_000_000) as peer:
        words = get(made.save(tmp_path), peers=(peer.address,), workers=2)
        for _ in range(12):
            before = peer.blocks_sent
            with running(tmp_path, *words) as command:
                if rng.random() < 0.25:
                    time.sleep(rng.random() * 0.4)  # perhaps before anything was asked for
                else:
                    enough = before + rng.randint(1, 2 * share)
                    command.until(lambda n=enough: peer.blocks_sent >= n, "some blocks were sent")  # type: ignore[misc]
                kill_all(command)
        peer.rate = 0
        done = run(tmp_path, *words)
        assert (done.code, done.err) == (0, "")
        assert_arrived(made, tmp_path / "out")
        # Twelve times what was in flight and in memory: pieces under way, their blocks, the socket's buffers.
        assert peer.blocks_sent * BLOCK - len(made.data) < 12 * (4 << 20)


@pytest.mark.timeout(300 + 60 * ROUNDS)
def test_a_crash_costs_little(tmp_path: Path) -> None:
    """Downloads that take long enough for anything to be under way, each killed once and then run to its end."""
    rounds = ROUNDS or 1
    rng = random.Random(SEED)
    size = 160 << 20 if ROUNDS else 24 << 20
    made = make({"big.bin": size, "small/a.bin": 300_000, "small/b.bin": 1}, name="tree", piece_length=1 << 20)
    blocks = len(made.data) // BLOCK
    for number in range(rounds):
        home = tmp_path / str(number)
        home.mkdir()
        enough = rng.randint(1, blocks * 9 // 10)
        with ScriptedPeer(made, holds=enough, drip=size // 100) as peer:
            words = get(made.save(home), peers=(peer.address,), workers=2)
            with running(home, *words) as command:
                command.until(lambda n=enough, at=peer: at.blocks_sent >= n, "blocks were sent")  # type: ignore[misc]
                kill_all(command)
            peer.go_on()
            done = run(home, *words)
            assert (done.code, done.err) == (0, "")
            assert_arrived(made, home / "out")
            twice = peer.blocks_sent * BLOCK - len(made.data)
            print(f"killed after {enough} of {blocks} blocks: {twice / 2**20:.1f} MiB were fetched twice")
            assert twice < TWICE
        for path in sorted(home.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
