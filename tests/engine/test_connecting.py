"""Connections out: the kind that is tried, the other kind after it, and one reason for each way in which a peer stalls."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from real_sockets import late, until, watched

from btfast.config import Settings
from btfast.engine.connecting import Connecting
from btfast.engine.dialing import Dialer
from btfast.engine.places import Places
from btfast.metainfo.addresses import PeerAddress
from btfast.wire.handshake import encode_handshake
from btfast.wire.mse import PLAIN, RC4, Responder, Secured, skey_hash

INFO_HASH = b"h" * 20
FIRST = encode_handshake(INFO_HASH, b"p" * 20)

Life = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Torrent:
    """Notes what becomes of its connections."""

    def __init__(self) -> None:
        self.connected: list[tuple[socket.socket, Secured | None]] = []
        self.failed: list[str] = []

    def handshake(self, address: PeerAddress) -> bytes:
        return FIRST

    def handle_connected(self, address: PeerAddress, sock: socket.socket, secured: Secured | None) -> None:
        self.connected.append((sock, secured))

    def handle_failed(self, address: PeerAddress, why: str) -> None:
        self.failed.append(why)


class Swarm:
    """A torrent's connections out, and peers that live as they are told, one connection after another."""

    def __init__(self, policy: str) -> None:
        context: Any = SimpleNamespace(
            loop=asyncio.get_running_loop(),
            settings=Settings(bind="127.0.0.1", encryption=policy),  # type: ignore[arg-type]
            places=Places(400),
        )
        self.torrent = Torrent()
        self.dialer = Dialer(context)
        self.connecting = Connecting(context, self.dialer, self.torrent)
        self.met = 0
        self._servers: list[asyncio.Server] = []
        self._lives: set[Life] = set()

    async def peer(self, *lives: Life) -> PeerAddress:
        async def live(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            life = lives[min(self.met, len(lives) - 1)]
            self.met += 1
            self._lives.add(life)
            try:
                await life(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                self._lives.discard(life)
                writer.close()

        server = await asyncio.start_server(live, "127.0.0.1", 0)
        self._servers.append(server)
        return PeerAddress(*server.sockets[0].getsockname()[:2])

    async def close(self) -> None:
        self.connecting.close()
        self.dialer.close()
        for sock, _ in self.torrent.connected:
            sock.close()
        for server in self._servers:
            server.close()
            await server.wait_closed()
        await until(lambda: not self._lives)


@pytest_asyncio.fixture
async def swarms() -> AsyncIterator[Callable[[str], Swarm]]:
    found: list[Swarm] = []

    def make(policy: str) -> Swarm:
        found.append(Swarm(policy))
        return found[-1]

    yield make
    for swarm in found:
        await swarm.close()


def find(hashed: bytes) -> bytes | None:
    return INFO_HASH if hashed == skey_hash(INFO_HASH) else None


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)


async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Closes at once."""


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(4096):
        pass


async def noise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(random.Random(1).randbytes(2000))
    await silence(reader, writer)


async def web_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" * 10)
    await silence(reader, writer)


def responds(accept: int, *, until_byte: int | None = None, then: Life = silence, slow: bool = False) -> Life:
    """A right responder, of whose bytes only so many leave."""

    async def life(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        side, sent = Responder(find, lambda n: bytes(n) if n == 2 else os.urandom(n), accept), 0
        while side.secured is None:
            said = side.handle_bytes(await reader.read(4096))
            for byte in said if until_byte is None else said[: until_byte - sent]:
                writer.write(bytes([byte]))
                if slow:
                    await asyncio.sleep(0)
            sent += len(said)
            if until_byte is not None and sent > until_byte:
                break
        await then(reader, writer)

    return life


async def ends(swarm: Swarm, count: int = 1) -> None:
    await until(lambda: len(swarm.torrent.failed) + len(swarm.torrent.connected) >= count)


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("accept", [RC4, PLAIN | RC4])
async def test_where_it_is_required_only_rc4_is_spoken(swarms: Callable[[str], Swarm], accept: int, slow: bool) -> None:
    swarm = swarms("require")
    swarm.connecting.dial(await swarm.peer(responds(accept, slow=slow)))
    await ends(swarm)
    _, secured = swarm.torrent.connected[0]
    assert secured is not None
    assert secured.incoming is not None
    assert swarm.met == 1


@pytest.mark.parametrize("policy", ["off", "allow"])
async def test_plain_comes_first_where_it_may(swarms: Callable[[str], Swarm], policy: str) -> None:
    swarm = swarms(policy)
    swarm.connecting.dial(await swarm.peer(silence))
    await ends(swarm)
    assert swarm.torrent.connected[0][1] is None


async def test_who_hangs_up_on_plain_text_is_tried_encrypted_at_once(swarms: Callable[[str], Swarm]) -> None:
    swarm = swarms("allow")
    address = await swarm.peer(hang_up, responds(PLAIN | RC4))
    swarm.connecting.dial(address)
    await ends(swarm)
    swarm.dialer.answered(address, None)
    swarm.connecting.failed(address, "closed by the peer", encrypted=False, silent=True)
    await ends(swarm, 2)
    assert swarm.torrent.failed == []
    secured = swarm.torrent.connected[1][1]
    assert secured is not None
    assert secured.incoming is None, "the peer leaves the choice, and we let it be plain"
    swarm.connecting.worked(address, encrypted=True)
    swarm.connecting.dial(address)
    await ends(swarm, 3)
    assert swarm.torrent.connected[2][1] is not None, "the next time encryption comes first"


async def test_who_takes_encryption_no_more_is_tried_in_plain_text(swarms: Callable[[str], Swarm]) -> None:
    swarm = swarms("allow")
    address = await swarm.peer(hang_up, silence)
    swarm.connecting.worked(address, encrypted=True)
    swarm.connecting.dial(address)
    await ends(swarm)
    assert swarm.torrent.connected[0][1] is None
    assert swarm.torrent.failed == []
    swarm.connecting.failed(address, "no handshake came", encrypted=False, silent=True)
    assert swarm.torrent.failed == ["no handshake came"], "both kinds have been tried"


KEY, ANSWER, CHOICE = "the other side's key", "the answer to our key", "its choice"
STALLS = [
    (silence, KEY),
    (responds(RC4, until_byte=50), KEY),
    (responds(RC4, until_byte=96), ANSWER),
    (responds(RC4, until_byte=100), ANSWER),
    (responds(RC4, until_byte=104), CHOICE),
    (responds(RC4, until_byte=109), CHOICE),
]


@pytest.mark.parametrize(("life", "step"), STALLS)
async def test_a_stall_at_each_step_has_its_reason(
    swarms: Callable[[str], Swarm], monkeypatch: pytest.MonkeyPatch, life: Life, step: str
) -> None:
    under_way = watched(monkeypatch)
    swarm = swarms("require")
    swarm.connecting.dial(await swarm.peer(life))
    await until(lambda: under_way and under_way[0]._side.step == step)
    late(under_way[0])
    assert swarm.torrent.failed == [f"encryption: {step} did not come in 8 s"]
    await until(lambda: swarm.met == 1)


@pytest.mark.parametrize("cut", [0, 50, 96, 100, 104, 109])
async def test_an_end_at_each_step_has_its_reason(swarms: Callable[[str], Swarm], cut: int) -> None:
    swarm = swarms("require")
    life = hang_up if cut == 0 else responds(RC4, until_byte=cut, then=leave)
    swarm.connecting.dial(await swarm.peer(life))
    await ends(swarm)
    (why,) = swarm.torrent.failed
    assert why.startswith("encryption: ")
    assert "closed by the peer while we waited for" in why or "reset by peer" in why


@pytest.mark.parametrize("life", [noise, web_server])
async def test_garbage_has_its_reason(swarms: Callable[[str], Swarm], life: Life) -> None:
    swarm = swarms("require")
    swarm.connecting.dial(await swarm.peer(life))
    await ends(swarm)
    (why,) = swarm.torrent.failed
    assert why == "encryption: the answer to our key did not come: it speaks another protocol, or another torrent"


async def test_a_peer_that_drips_is_let_go_at_the_step_it_is_in(
    swarms: Callable[[str], Swarm], monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way = watched(monkeypatch)
    dripped = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number in range(90):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0)
            if number == 50:
                dripped.set()
        await silence(reader, writer)

    swarm = swarms("require")
    swarm.connecting.dial(await swarm.peer(drip))
    await until(lambda: under_way)
    timer = under_way[0]._timer
    await dripped.wait()
    assert under_way[0]._timer is timer, "a byte gives no more time"
    late(under_way[0])
    assert swarm.torrent.failed == [f"encryption: {KEY} did not come in 8 s"]


async def test_closing_calls_nobody_and_leaves_nothing(swarms: Callable[[str], Swarm]) -> None:
    swarm = swarms("require")
    swarm.connecting.dial(await swarm.peer(silence))
    await until(lambda: swarm.met)
    swarm.connecting.close()
    await asyncio.sleep(0.01)
    assert swarm.torrent.failed == swarm.torrent.connected == []
