"""Connection attempts at a seed: how many a second it deals with, and what memory and CPU they cost.

    python -m bench.attempts [seconds]

Each attempt sends the first 20 bytes of a handshake, and nothing more; at most 5,000 are held open, the oldest go first.
"""

from __future__ import annotations

import collections
import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

HELD = 5000
MIB = 1 << 20
BTFAST = (sys.executable, "-m", "btfast")
GREETING = b"\x13BitTorrent protocol"


def figures(seconds: float) -> dict[str, float]:
    """Attempts a second, and the network process's most and last resident memory (MiB) and CPU (seconds an attempt)."""
    with tempfile.TemporaryDirectory(prefix="btfast-attempts-") as name:
        folder = Path(name)
        (folder / "data").write_bytes(bytes(MIB))
        subprocess.run(
            [*BTFAST, "create", "data", "-o", "data.torrent", "-q"], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
        command = [*BTFAST, "seed", "data.torrent", "--data", ".", "--json", "--bind", "127.0.0.1"]
        command += ["--port", "0", "--no-dht", "--no-lsd", "--no-trackers"]
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                while json.loads(process.stdout.readline()).get("state") != "seeding":
                    pass
                engine, port = _engine(process.pid)
                return _attempt(engine, port, seconds)
            finally:
                process.terminate()


def _engine(pid: int) -> tuple[psutil.Process, int]:
    for child in psutil.Process(pid).children(recursive=True):
        for connection in child.net_connections():
            if connection.status == "LISTEN":
                return child, connection.laddr.port
    raise RuntimeError("the seed does not listen")


def _attempt(engine: psutil.Process, port: int, seconds: float) -> dict[str, float]:
    held: collections.deque[socket.socket] = collections.deque()
    before = engine.memory_info().rss
    cpu = sum(engine.cpu_times()[:2])
    most, made, refused = before, 0, 0
    start = time.monotonic()
    while (now := time.monotonic()) < start + seconds:
        for _ in range(100):
            try:
                sock = socket.create_connection(("127.0.0.1", port), timeout=1)
                sock.sendall(GREETING)
            except OSError:
                refused += 1
                continue
            made += 1
            held.append(sock)
            if len(held) > HELD:
                held.popleft().close()
        most = max(most, engine.memory_info().rss)
    elapsed = now - start
    spent = sum(engine.cpu_times()[:2]) - cpu
    for sock in held:
        sock.close()
    time.sleep(2)
    return {
        "attempts_a_second": made / elapsed, "refused": refused, "grown_most_mib": (most - before) / MIB,
        "grown_at_end_mib": (engine.memory_info().rss - before) / MIB, "cpu_us_an_attempt": 1e6 * spent / max(made, 1),
    }  # fmt: skip


if __name__ == "__main__":
    for name, value in figures(float(sys.argv[1]) if len(sys.argv) > 1 else 10.0).items():
        print(f"{name}: {value:.1f}")
