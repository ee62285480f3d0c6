"""Connections in: who is let through to which torrent, and what garbage and silence cost."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from real_sockets import closed, connect, until

from btfast.config import Settings
from btfast.engine import listening
from btfast.engine.connection import PeerConnection
from btfast.engine.listening import Listener
from btfast.engine.places import Places
from btfast.errors import InputError
from btfast.wire.handshake import encode_handshake

KNOWN = b"k" * 20


class Torrent:
    """Takes connections over."""

    def __init__(self) -> None:
        self.peers: list[PeerConnection] = []
        self.events: list[list[tuple[Any, ...]]] = []

    def handle_incoming(self, peer: PeerConnection, events: list[tuple[Any, ...]], now: float) -> None:
        self.peers.append(peer)
        self.events.append(events)
        peer.owner = self  # type: ignore[assignment]

    def handle_events(self, peer: PeerConnection, events: list[tuple[Any, ...]], now: float) -> None:
        self.events[self.peers.index(peer)] += events

    def handle_closed(self, peer: PeerConnection, reason: str) -> None:
        """Nothing to do."""


MakeListener = Callable[..., Listener]


@pytest.fixture
def torrent() -> Torrent:
    return Torrent()


@pytest_asyncio.fixture
async def listen(torrent: Torrent) -> AsyncIterator[MakeListener]:
    listeners: list[Listener] = []

    def make(bind: str = "127.0.0.1", port: int = 0) -> Listener:
        context = SimpleNamespace(loop=asyncio.get_running_loop(), settings=Settings(bind=bind, port=port), places=Places(2000))
        find: Any = {KNOWN: torrent}.get
        listeners.append(Listener(context, find))  # type: ignore[arg-type]
        return listeners[-1]

    yield make
    for listener in listeners:
        listener.close()
    for peer in torrent.peers:
        peer.close("the test is over")


async def test_a_handshake_leads_to_its_torrent(listen: MakeListener, torrent: Torrent) -> None:
    listener = listen()
    with connect(listener.port) as peer:
        peer.send(encode_handshake(KNOWN, b"p" * 20))
        await until(lambda: any(torrent.events))
        assert torrent.peers[0].address == peer.getsockname()
        assert not torrent.peers[0].outgoing


async def test_the_info_hash_is_enough_to_be_let_through(listen: MakeListener, torrent: Torrent) -> None:
    """A tracker that checks whether we can be reached may send no more than the first 48 bytes."""
    listener = listen()
    with connect(listener.port) as peer:
        whole = encode_handshake(KNOWN, b"p" * 20)
        for byte in whole[:47]:
            peer.send(bytes([byte]))
        await asyncio.sleep(0.02)
        assert torrent.peers == []
        peer.send(whole[47:48])
        await until(lambda: torrent.peers)


@pytest.mark.parametrize(
    "sent",
    [
        random.Random(1).randbytes(1000),
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n" * 2,
        encode_handshake(b"u" * 20, b"p" * 20),
        encode_handshake(KNOWN, b"p" * 20)[1:],
        b"\xff" * 96,
    ],
    ids=["noise", "HTTP", "unknown torrent", "shifted", "ones"],
)
async def test_who_asks_for_nothing_that_is_here_is_shown_out(
    listen: MakeListener, torrent: Torrent, sent: bytes
) -> None:
    listener = listen()
    with connect(listener.port) as peer:
        peer.send(sent)
        assert await closed(peer) == b""
    assert torrent.peers == []


async def test_who_leaves_before_saying_anything_is_forgotten(listen: MakeListener) -> None:
    listener = listen()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        connect(listener.port).close()
    await asyncio.sleep(0.05)
    await until(lambda: len(os.listdir("/proc/self/fd")) == before)


async def test_who_stays_silent_is_closed_after_a_while(listen: MakeListener, torrent: Torrent) -> None:
    listener = listen()
    before = asyncio.get_running_loop().time()
    with connect(listener.port) as silent, connect(listener.port) as slow:
        slow.send(encode_handshake(KNOWN, b"p" * 20)[:30])
        await until(lambda: len(listener._pending) == 2)
        listener.tick(before + 5)
        slow.send(encode_handshake(KNOWN, b"p" * 20)[30:])
        await until(lambda: torrent.peers)
        listener.tick(asyncio.get_running_loop().time() + 15)
        assert await closed(silent) == b""
        assert not torrent.peers[0].closed, "it has named its torrent: its torrent decides now"


async def test_a_crowd_of_the_silent_is_bounded(listen: MakeListener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "PENDING", 3)
    listener = listen()
    peers = [connect(listener.port) for _ in range(5)]
    try:
        for late in peers[3:]:
            assert await closed(late) == b""
        for early in peers[:3]:
            with pytest.raises(BlockingIOError):
                early.recv(1)
    finally:
        for peer in peers:
            peer.close()


async def test_a_port_that_is_taken_gives_way_to_a_free_one(listen: MakeListener) -> None:
    first = listen()
    second = listen(port=first.port)
    assert second.port not in (0, first.port)
    connect(second.port).close()


async def test_both_address_families_share_a_port(listen: MakeListener, torrent: Torrent) -> None:
    listener = listen(bind="")
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error.strerror}")
    for count, host in enumerate(("127.0.0.1", "::1"), 1):
        with connect(listener.port, host) as peer:
            peer.send(encode_handshake(KNOWN, b"p" * 20))
            await until(lambda count=count: len(torrent.peers) == count)
            assert torrent.peers[-1].address.host == host


async def test_an_address_that_is_not_ours_is_an_error_that_says_what_to_do(listen: MakeListener) -> None:
    with pytest.raises(InputError, match=r"192\.0\.2\.1.*choose another --bind"):
        listen(bind="192.0.2.1")


async def test_closing_leaves_nothing_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    context = SimpleNamespace(loop=asyncio.get_running_loop(), settings=Settings(bind="127.0.0.1", port=0), places=Places(2000))
    listener = Listener(context, lambda info_hash: None)  # type: ignore[arg-type]
    with connect(listener.port) as peer:
        await asyncio.sleep(0.02)
        listener.close()
        assert await closed(peer) == b""
    assert len(os.listdir("/proc/self/fd")) == before
