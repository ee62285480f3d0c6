"""A process that may open little: who fills it with connections is refused, and those who are there are served."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from pathlib import Path

from support.commands import LOCAL, PATIENCE, running
from support.torrents import make

from btfast.wire import messages
from btfast.wire.handshake import encode_handshake

MADE = make(300_000)
DESCRIPTORS = 72  # about 30 are open before anybody comes
BLOCK = 16384


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))


def greeted(port: int, number: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    sock.sendall(encode_handshake(MADE.info_hash, b"-XX0001-%012d" % number) + messages.HAVE_NONE + messages.INTERESTED)
    return sock


def read_until(sock: socket.socket, words: bytes) -> bytes:
    said = b""
    while words not in said:
        more = sock.recv(1 << 16)
        assert more, said[-100:]
        said += more
    return said


def admitted(port: int, number: int) -> socket.socket:
    """Who comes once there is room; before, it is refused like the others."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            sock = greeted(port, number)
            read_until(sock, messages.UNCHOKE)
            return sock
        except (OSError, AssertionError):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def served(sock: socket.socket, index: int) -> None:
    sock.sendall(messages.encode_request(index, 0, BLOCK))
    read_until(sock, messages.encode_piece(index, 0, MADE.block(index, 0, BLOCK)))


def test_it_serves_on_when_others_have_taken_all_descriptors(tmp_path: Path) -> None:
    MADE.lay_out(tmp_path / "data")
    torrent = MADE.save(tmp_path)
    words = ("seed", torrent, "--data", tmp_path / "data", *LOCAL, "--workers", "1", "--max-peers", "1000", "--no-trackers")
    with contextlib.ExitStack() as stack:
        seed = stack.enter_context(running(tmp_path, *words, preexec_fn=limited))
        seed.until(seed.port, "it listens")
        port = seed.port()
        first = stack.enter_context(greeted(port, 0))
        read_until(first, messages.UNCHOKE)
        others = stack.enter_context(contextlib.ExitStack())
        for number in range(1, 150):
            with contextlib.suppress(OSError):
                others.enter_context(greeted(port, number))
        served(first, 0)
        served(first, 1)
        others.close()
        newcomer = stack.enter_context(admitted(port, 999))
        served(newcomer, 2)
        assert seed.process.poll() is None
