"""Files: hashing what lies on disk, serving blocks from it, and the system calls that the standard library lacks.

Run: pytest --benchmark-only bench/micro/test_files_bench.py
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from btfast._disk import direct_alignment, preallocate
from btfast._peer_stream import PeerStream
from btfast._plan import Plan
from btfast._served import ServedFile
from btfast._sweep import Sweep

SIZE = 256 << 20
PIECE = 1 << 20
RUN = 1 << 20  # bytes that one call sends, in blocks of 16 KiB


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In the page cache."""
    target = tmp_path_factory.mktemp("files") / "data"
    target.write_bytes(os.urandom(1 << 20) * (SIZE >> 20))
    return target


@pytest.mark.parametrize("version", ["v1", "v2", "hybrid"])
def test_hashing_what_lies_on_disk(benchmark: Any, path: Path, version: str) -> None:
    root = os.open(path.parent, os.O_RDONLY)
    plan = Plan(root, PIECE, [b"data"], [SIZE], [SIZE], sha1=version != "v2", sha256=version != "v1", keep=True)
    os.close(root)

    def sweep() -> int:
        one = Sweep(plan)
        one.pieces(0, SIZE // PIECE)
        one.close()
        return one.bytes_read

    assert benchmark.pedantic(sweep, rounds=5, warmup_rounds=1) == SIZE
    benchmark.extra_info["gib_per_s"] = SIZE / benchmark.stats.stats.median / 2**30


@pytest.fixture
def reader() -> Iterator[socket.socket]:
    """Our end of a connection of which the other end is read, and thrown away, as fast as it comes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()

    def read() -> None:
        room = bytearray(1 << 20)
        while theirs.recv_into(room):
            pass
        theirs.close()

    thread = threading.Thread(target=read)
    thread.start()
    ours.setblocking(False)
    yield ours
    ours.shutdown(socket.SHUT_RDWR)
    thread.join()
    ours.close()


def test_serving_a_file(benchmark: Any, path: Path, reader: socket.socket) -> None:
    stream = PeerStream(reader.fileno())
    file = ServedFile(os.open(path, os.O_RDONLY))

    def serve() -> None:
        for offset in range(0, SIZE, RUN):
            stream.send_blocks(0, 0, RUN, [(file, file.fd, offset, RUN)])
            while not stream.flush():
                reader_ready(reader)

    benchmark.pedantic(serve, rounds=5, warmup_rounds=1)
    assert stream.payload_sent == 6 * SIZE
    benchmark.extra_info["gib_per_s"] = SIZE / benchmark.stats.stats.median / 2**30


def reader_ready(sock: socket.socket) -> None:
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    poll.poll()


@pytest.mark.parametrize("call", ["preallocate", "direct_alignment"])
def test_a_system_call(benchmark: Any, tmp_path: Path, call: str) -> None:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    if call == "preallocate":
        preallocate(fd, PIECE)  # from then on there is nothing left to do
        benchmark(preallocate, fd, PIECE)
    else:
        benchmark(direct_alignment, fd)
    os.close(fd)
