"""The peer stream: pieces of a peer process into their slots, and small messages into events.

Run: pytest -s --benchmark-only bench/micro/test_peer_stream_bench.py
With `-s` a line says GiB/s and the CPU seconds that a GiB costs on the reading side. The floor reads the same bytes with
`recv_into` one buffer.
"""

from __future__ import annotations

import os
import select
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from btfast._arena import Arena, Slot
from btfast._peer_stream import PeerStream

BLOCK = 16384
PIECE = 1 << 20
PIECES = 64
ROUNDS = 11
BUFFER = 4 << 20

# Writes the handshake once, and for each byte of its standard input the whole stream.
SENDER = """
import os, socket, struct, sys
sock, order = socket.socket(fileno=int(sys.argv[1])), sys.argv[2]
body, out = os.urandom(16384), bytearray()
for index in range(64):
    blocks = list(range(64))
    if order == "swapped":
        blocks = [b for pair in zip(blocks[1::2], blocks[::2]) for b in pair]
    for block in blocks:
        if order == "haves":
            out += struct.pack(">IBI", 5, 4, index)
        out += struct.pack(">IBII", 9 + 16384, 7, index, block * 16384) + body
sock.sendall(bytes(68))
while os.read(0, 1):
    sock.sendall(out)
"""


class Sender:
    """A peer in a process of its own."""

    def __init__(self, order: str) -> None:
        self.socket, theirs = socket.socketpair()
        for end in (self.socket, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        arguments = [sys.executable, "-c", SENDER, str(theirs.fileno()), order]
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, pass_fds=[theirs.fileno()])
        theirs.close()
        self.socket.setblocking(False)
        self.poll = select.poll()
        self.poll.register(self.socket, select.POLLIN)

    def go(self) -> None:
        assert self.process.stdin is not None
        os.write(self.process.stdin.fileno(), b"x")

    def close(self) -> None:
        self.socket.close()
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def sender(request: pytest.FixtureRequest) -> Iterator[Sender]:
    found = Sender(request.param)
    yield found
    found.close()


def measure(benchmark, name: str, setup: Callable[[], None], receive: Callable[[], None]) -> None:
    walls: list[float] = []
    cpus: list[float] = []

    def one_round() -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        receive()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)

    benchmark.pedantic(one_round, setup=setup, rounds=ROUNDS, warmup_rounds=2)
    gib = PIECES * PIECE / 2**30
    rate, cost = gib / statistics.median(walls), statistics.median(cpus) / gib
    benchmark.extra_info.update(gib_per_s=rate, cpu_s_per_gib=cost)
    print(f"\n{name}: {rate:.2f} GiB/s, {cost:.3f} CPU s/GiB")


@pytest.mark.parametrize("sender", ["in order", "haves", "swapped"], indirect=True)
def test_pieces_into_slots(benchmark, sender: Sender, request: pytest.FixtureRequest) -> None:
    arena = Arena.create(PIECES * PIECE)
    slots: list[Slot] = []
    for _ in range(PIECES):
        slot = arena.allocate(PIECE)
        assert slot is not None
        slot.write(0, bytes(PIECE))
        slots.append(slot)
    stream = PeerStream(sender.socket.fileno())

    def setup() -> None:
        for index, slot in enumerate(slots):
            stream.request(index, 0, PIECE, slot)
        sender.go()

    def receive() -> None:
        goal = stream.payload + PIECES * PIECE
        while stream.payload < goal:
            sender.poll.poll()
            stream.handle_readable()
        assert stream.error is None

    measure(benchmark, request.node.name, setup, receive)


@pytest.mark.parametrize("sender", ["in order"], indirect=True)
def test_floor_recv_into_one_buffer(benchmark, sender: Sender, request: pytest.FixtureRequest) -> None:
    buffer = bytearray(512 << 10)
    left = 68

    def setup() -> None:
        nonlocal left
        left += PIECES * (PIECE + PIECE // BLOCK * 13)
        sender.go()

    def receive() -> None:
        nonlocal left
        while left:
            sender.poll.poll()
            left -= sender.socket.recv_into(buffer)

    measure(benchmark, request.node.name, setup, receive)


@pytest.mark.parametrize("message", ["have", "request", "extended"])
def test_messages_into_events(benchmark, message: str) -> None:
    data = {
        "have": struct.pack(">IBI", 5, 4, 7) * 1000,
        "request": struct.pack(">IBIII", 13, 6, 7, 0, BLOCK) * 1000,
        "extended": struct.pack(">IBB", 52, 20, 1) * 1 + bytes(50),
    }[message]
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stream = PeerStream(ours.fileno())
    theirs.sendall(bytes(68))
    stream.handle_readable()
    benchmark.pedantic(stream.handle_readable, setup=lambda: theirs.sendall(data), rounds=500)
    assert stream.error is None
    ours.close()
    theirs.close()


def test_requests_for_a_piece(benchmark) -> None:
    arena = Arena.create(PIECE)
    slot = arena.allocate(PIECE)
    assert slot is not None
    ours, theirs = socket.socketpair()
    stream = PeerStream(ours.fileno())

    def ask() -> None:
        stream.request(1, 0, PIECE, slot)
        stream.flush()

    def forget() -> None:
        stream.drop_requests()
        if stream.sent:
            theirs.recv(1 << 20)

    benchmark.pedantic(ask, setup=forget, rounds=2000)
    ours.close()
    theirs.close()


def test_blocks_out_of_a_file(benchmark, tmp_path) -> None:
    path = tmp_path / "served"
    path.write_bytes(bytes(PIECE))
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    stream = PeerStream(ours.fileno())
    with path.open("rb") as file:

        def queue() -> None:
            if stream.sent:
                left = 16 * (BLOCK + 13)
                while left:
                    left -= len(theirs.recv(left))
            for block in range(16):
                stream.send_block(0, block * BLOCK, BLOCK, [(file, file.fileno(), block * BLOCK, BLOCK)])

        benchmark.pedantic(stream.flush, setup=queue, rounds=300)
        assert stream.error is None
    ours.close()
    theirs.close()
