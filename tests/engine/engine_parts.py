"""Parts of the network process for tests that drive one of them: a clock to set, connections over TCP, a small context."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from btfast.config import Settings
from btfast.engine.connection import PeerConnection
from btfast.engine.dht import Dht
from btfast.engine.lsd import LocalDiscovery
from btfast.engine.places import Places
from btfast.engine.resolve import Resolver
from btfast.engine.udp import UdpSockets
from btfast.metainfo.addresses import PeerAddress
from btfast.swarm.external import ExternalAddress
from btfast.wire.handshake import encode_handshake

INFO_HASH = b"h" * 20


class Clock:
    """The running loop, `ahead` seconds later than it is."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.ahead = 0.0

    def time(self) -> float:
        return self._loop.time() + self.ahead

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


class Owner:
    """Notes what a connection tells its owner."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.closed: list[str] = []

    def greet(self, peer: PeerConnection) -> None: ...

    def handle_events(self, peer: PeerConnection, events: list[tuple[Any, ...]], now: float) -> None:
        self.events += events

    def handle_closed(self, peer: PeerConnection, reason: str) -> None:
        self.closed.append(reason)


def small_context(**settings: Any) -> Any:
    """What the parts that deal with peers need of a Context."""
    settings = {"bind": "127.0.0.1", "port": 0, "dht": False} | settings
    context = SimpleNamespace(
        loop=Clock(), settings=Settings(**settings), peer_id=b"-XX0001-usususususus",
        port=0, warnings=[], rng=random.Random(1), resolver=Resolver(asyncio.get_running_loop()), external=ExternalAddress(),
        places=Places(256),
    )  # fmt: skip
    context.udp = UdpSockets(context)
    context.dht = Dht(context, context.warnings.append, moved=context.external.handle_agreed)
    context.lsd = LocalDiscovery(context)
    return context


def handshake(peer_id: bytes = b"-XX0001-themthemthem") -> bytes:
    return encode_handshake(INFO_HASH, peer_id)


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of one TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    return one, other


def connected(
    context: Any, owner: Any, *, host: str = "127.0.0.1", port: int = 5000
) -> tuple[PeerConnection, socket.socket]:
    """An incoming connection that seems to come from `host`, and the peer's end of it."""
    ours, theirs = tcp_pair()
    theirs.settimeout(60)
    return PeerConnection(context.loop, ours, PeerAddress(host, port), owner, outgoing=False), theirs


async def until(condition: Callable[[], object], what: str) -> None:
    """Lets the loop run until the condition is true, for 60 s at most."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)
    assert condition(), what
