from __future__ import annotations

import asyncio
from typing import Any

from engine_parts import small_context, until

from btfast.engine.peer_set import PeerSet
from btfast.engine.resolve import Address
from btfast.errors import RemoteError
from btfast.metainfo.addresses import PeerAddress


class Resolver:
    """Knows one name, and answers when the test lets it."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def resolve(self, host: str, what: str) -> tuple[Address, ...]:
        await self.go.wait()
        if host != "seed.example":
            raise RemoteError(f"{what}: host name {host!r} cannot be resolved: check it")
        return Address(2, "192.0.2.7"), Address(10, "2001:db8::7")


class Dialer:
    """Notes who would be dialed."""

    room = 10

    def __init__(self) -> None:
        self.dialed: list[PeerAddress] = []

    def dial(self, address: PeerAddress, done: Any) -> None:
        self.dialed.append(address)


async def test_names_of_peers_become_addresses_beside_the_loop() -> None:
    context = small_context()
    context.resolver = Resolver()
    dialer = Dialer()
    warnings: list[str] = []
    peers = PeerSet(context, dialer, lambda *_: None)  # type: ignore[arg-type]
    peers.add_named([("192.0.2.1", 1), ("seed.example", 2), ("::1", 3), ("nobody.example", 4)], warnings.append)
    assert dialer.dialed == [("192.0.2.1", 1), ("::1", 3)]
    assert peers.resolving
    context.resolver.go.set()
    await until(lambda: not peers.resolving, "all names were looked up")
    assert dialer.dialed[2:] == [("192.0.2.7", 2), ("2001:db8::7", 2)]
    (warning,) = warnings
    assert "nobody.example" in warning


async def test_nobody_is_dialed_after_the_end() -> None:
    context = small_context()
    context.resolver = Resolver()
    dialer = Dialer()
    peers = PeerSet(context, dialer, lambda *_: None)  # type: ignore[arg-type]
    peers.add_named([("seed.example", 2)], lambda _: None)
    peers.close("over")
    context.resolver.go.set()
    await until(lambda: not peers.resolving, "the question was dropped")
    assert dialer.dialed == []
