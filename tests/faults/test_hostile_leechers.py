"""Who connects to us may do what it likes: the others are served, memory stays small, and nothing piles up."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.commands import engines, get, run
from support.torrents import assert_arrived, make

from btfast import Session, Settings
from btfast.wire import messages
from btfast.wire.extensions import encode_extended_handshake
from btfast.wire.handshake import encode_handshake

MADE = make(2_000_001)
SETTINGS = Settings(bind="127.0.0.1", port=0, workers=1, memory="32MiB", trackers=False)
MEMORY = (32 + 100) << 20

GREETING = encode_handshake(MADE.info_hash, b"-XX0001-" + bytes(12))
ASK = messages.HAVE_NONE + messages.INTERESTED
WHOLE = b"".join(
    messages.encode_request(index, begin, 16384) for index in range(30) for begin in range(0, 65536, 16384)
)

BEHAVIOURS: dict[str, bytes] = {
    "noise": random.Random(1).randbytes(1 << 18),
    "web": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 50,
    "half a handshake": GREETING[:30],
    "another torrent": encode_handshake(bytes(20), bytes(20)),
    "nothing after the handshake": GREETING,
    "noise after the handshake": GREETING + random.Random(2).randbytes(1 << 18),
    "4 GiB message": GREETING + ASK + struct.pack("!IB", 0xFFFFFFFF, 20) + bytes(1 << 18),
    "4 GiB block": GREETING + ASK + struct.pack("!IB", 0xFFFFFFFF, 7) + bytes(1 << 18),
    "flood of requests": GREETING + ASK + WHOLE * 500,
    "flood of the same request": GREETING + ASK + messages.encode_request(0, 0, 16384) * 50_000,
    "request beyond the end": GREETING + ASK + messages.encode_request(9999, 0, 16384),
    "request over the piece": GREETING + ASK + messages.encode_request(0, 65530, 16384),
    "request of 4 GiB": GREETING + ASK + messages.encode_request(0, 0, 0xFFFFFFFF),
    "request of nothing": GREETING + ASK + messages.encode_request(0, 0, 0),
    "request while choked": GREETING + messages.HAVE_NONE + WHOLE,
    "cancels of what was never asked": GREETING + ASK + messages.encode_cancel(0, 0, 16384) * 20_000,
    "blocks nobody asked for": GREETING + ASK + messages.encode_piece(0, 0, bytes(16384)) * 50,
    "interest on and off": GREETING + (messages.INTERESTED + messages.NOT_INTERESTED) * 20_000,
    "two handshakes": GREETING * 2,
    "bad bitfield": GREETING + messages.encode_bitfield(b"\xff" * 100),
    "haves beyond the end": GREETING + messages.encode_haves([0xFFFFFFFF] * 100),
    "endless extension handshakes": GREETING + encode_extended_handshake(m={f"x{n}": n for n in range(200)}) * 500,
}


@contextlib.contextmanager
def connected(port: int, data: bytes) -> Iterator[socket.socket]:
    """Sends as much of `data` as is taken, reads nothing, and stays."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            while data:
                data = data[sock.send(data) :]
        yield sock


async def under(port: int, behaviours: list[bytes], work: Callable[[], None]) -> int:
    """Does `work` in a thread while all of them are connected; the most memory that the network process took."""
    most = 0
    (engine,) = engines()
    with contextlib.ExitStack() as stack:
        for data in behaviours:
            stack.enter_context(connected(port, data))
        task = asyncio.create_task(asyncio.to_thread(work))
        while not task.done():
            most = max(most, engine.memory_info().rss)
            await asyncio.sleep(0.02)
        await task
    return most


@pytest.mark.parametrize("copies", [1, 5])
async def test_others_are_served_and_memory_stays_small(tmp_path: Path, copies: int) -> None:
    MADE.lay_out(tmp_path / "data")
    torrent = MADE.save(tmp_path)
    async with Session(SETTINGS) as session:
        seeding = await session.add(torrent, tmp_path / "data", seed=True)
        port = await session.port()

        def fetch() -> None:
            done = run(tmp_path, *get(torrent, peers=(f"127.0.0.1:{port}",)))
            assert (done.code, done.err) == (0, "")

        most = await under(port, list(BEHAVIOURS.values()) * copies, fetch)
        seeding.cancel()
    assert_arrived(MADE, tmp_path / "out")
    assert most < MEMORY


@pytest.mark.parametrize("name", BEHAVIOURS)
async def test_one_of_them_does_not_end_the_session(tmp_path: Path, name: str) -> None:
    """A bug that one message could set off would end the network process: it is there afterwards, and it still talks."""
    MADE.lay_out(tmp_path)
    async with Session(SETTINGS) as session:
        seeding = await session.add(MADE.torrent, tmp_path, seed=True)
        port = await session.port()
        with connected(port, BEHAVIOURS[name]) as sock:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(GREETING)
            async with asyncio.timeout(60):
                greeting = await reader.readexactly(68)
            writer.close()
        assert greeting[28:48] == MADE.info_hash
        assert not seeding.done()
        seeding.cancel()


async def test_hundreds_of_connections_that_say_nothing(tmp_path: Path) -> None:
    MADE.lay_out(tmp_path / "data")
    torrent = MADE.save(tmp_path)
    async with Session(SETTINGS) as session:
        seeding = await session.add(torrent, tmp_path / "data", seed=True)
        port = await session.port()

        def fetch() -> None:
            assert run(tmp_path, *get(torrent, peers=(f"127.0.0.1:{port}",))).code == 0

        most = await under(port, [b""] * 400, fetch)
        seeding.cancel()
    assert_arrived(MADE, tmp_path / "out")
    assert most < MEMORY
