"""Connection attempts at a seed: how many a second it deals with, and what memory and CPU they cost.

    python -m bench.attempts [seconds] [plain|allow|require]

Plain: each attempt sends the first 20 bytes of a handshake, and nothing more. Otherwise each goes through a whole key
exchange (MSE, RC4) as soon as it gets its turn, of a seed that allows or requires encryption; with a secret exponent of 1
that costs the attacker nothing. At most 5,000 are held open, the oldest go first. Once a second somebody from another
address comes with a whole handshake, encrypted where that is required: how long it waits for ours is told.
"""

from __future__ import annotations

import collections
import json
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from btfast.metainfo.torrent import Torrent
from btfast.wire.handshake import encode_handshake
from btfast.wire.mse import RC4, Initiator

HELD = 5000
MIB = 1 << 20
BTFAST = (sys.executable, "-m", "btfast")
GREETING = b"\x13BitTorrent protocol"


class Attempts:
    """Connections from 127.0.0.1, and those who mean well from 127.0.0.9."""

    def __init__(self, port: int, info_hash: bytes, kind: str) -> None:
        self._port = port
        self._kind = kind
        self._info_hash = info_hash
        self._held: collections.deque[socket.socket] = collections.deque()
        self._open: dict[socket.socket, Initiator | None] = {}
        self._ready = selectors.DefaultSelector()
        self.made = self.refused = self.exchanges = 0
        self._visitor: socket.socket | None = None
        self._came = 0.0
        self.waited: list[float] = []

    def _side(self, random: object = os.urandom) -> Initiator:
        return Initiator(self._info_hash, encode_handshake(self._info_hash, os.urandom(20)), random, RC4)  # type: ignore[arg-type]

    def attempt(self) -> None:
        """Begins one; nobody is waited for."""
        plain = self._kind == "plain"
        self._begin("127.0.0.1", None if plain else self._side(lambda count: bytes(count - 1) + b"\1"))

    def visit(self) -> None:
        if self._visitor is None:
            self._came = time.monotonic()
            self._visitor = self._begin("127.0.0.9", self._side() if self._kind == "require" else None)

    def _begin(self, host: str, side: Initiator | None) -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        sock.bind((host, 0))
        sock.connect_ex(("127.0.0.1", self._port))
        self._open[sock] = side
        self._ready.register(sock, selectors.EVENT_WRITE)
        self._held.append(sock)
        if len(self._held) > HELD:
            self._drop(self._held.popleft())
        return sock

    def go_on(self) -> None:
        """With those who are connected, or have got an answer."""
        for key, events in self._ready.select(0):
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            visits, side = sock is self._visitor, self._open[sock]
            try:
                if events & selectors.EVENT_WRITE:
                    whole = encode_handshake(self._info_hash, os.urandom(20))
                    sock.sendall(side.begin() if side is not None else whole if visits else GREETING)
                    self.made += not visits
                    self._ready.modify(sock, selectors.EVENT_READ)
                    continue
                data = sock.recv(4096)
                if data and side is not None:
                    sock.sendall(side.handle_bytes(data))
            except OSError:
                data = b""
            done = data and (side is None or side.secured is not None)
            if done and visits:
                self.waited.append(time.monotonic() - self._came)
            elif done:
                self.exchanges += 1
            if not data:
                self.refused += not visits
            if done or not data:
                self._drop(sock)

    def _drop(self, sock: socket.socket) -> None:
        if self._open.pop(sock, self) is not self:
            self._ready.unregister(sock)
        if sock is self._visitor:
            self._visitor = None
        sock.close()

    def close(self) -> None:
        for sock in self._held:
            self._drop(sock)
        self._ready.close()


def figures(seconds: float, kind: str = "plain") -> dict[str, float]:
    """Attempts a second, and the network process's most and last resident memory (MiB) and CPU (seconds an attempt)."""
    with tempfile.TemporaryDirectory(prefix="btfast-attempts-") as name:
        folder = Path(name)
        (folder / "data").write_bytes(bytes(MIB))
        subprocess.run(
            [*BTFAST, "create", "data", "-o", "data.torrent", "-q"], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
        command = [*BTFAST, "seed", "data.torrent", "--data", ".", "--json", "--bind", "127.0.0.1"]
        command += ["--port", "0", "--no-dht", "--no-lsd", "--no-trackers"]
        command += ["--encryption", "require" if kind == "require" else "allow"]
        info_hash = Torrent.load(folder / "data.torrent").info_hash
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                while json.loads(process.stdout.readline()).get("state") != "seeding":
                    pass
                engine, port = _engine(process.pid)
                return _attempt(engine, Attempts(port, info_hash, kind), seconds)
            finally:
                process.terminate()


def _engine(pid: int) -> tuple[psutil.Process, int]:
    for child in psutil.Process(pid).children(recursive=True):
        for connection in child.net_connections():
            if connection.status == "LISTEN":
                return child, connection.laddr.port
    raise RuntimeError("the seed does not listen")


def _attempt(engine: psutil.Process, attempts: Attempts, seconds: float) -> dict[str, float]:
    before = most = engine.memory_info().rss
    cpu = sum(engine.cpu_times()[:2])
    start = time.monotonic()
    visits = 0
    while (now := time.monotonic()) < start + seconds:
        for _ in range(10):
            for _ in range(10):
                attempts.attempt()
            attempts.go_on()
        if now - start > visits:
            visits += 1
            attempts.visit()
        most = max(most, engine.memory_info().rss)
    elapsed = now - start
    spent = sum(engine.cpu_times()[:2]) - cpu
    attempts.close()
    time.sleep(2)
    return {
        "attempts_a_second": attempts.made / elapsed, "refused": attempts.refused,
        "key_exchanges_a_second": attempts.exchanges / elapsed, "visitors_served": len(attempts.waited), "visitors": visits,
        "longest_wait_of_one_ms": 1000 * max(attempts.waited, default=0.0), "grown_most_mib": (most - before) / MIB,
        "grown_at_end_mib": (engine.memory_info().rss - before) / MIB, "cpu_percent": 100 * spent / elapsed,
        "cpu_us_an_attempt": 1e6 * spent / max(attempts.made, 1),
    }  # fmt: skip


if __name__ == "__main__":
    words = [*sys.argv[1:], "10", "plain"] if len(sys.argv) < 3 else sys.argv[1:]
    duration, kind = (words[0], words[1]) if words[1] in ("plain", "allow", "require") else (words[0], "plain")
    for name, value in figures(float(duration), kind).items():
        print(f"{name}: {value:.1f}")
