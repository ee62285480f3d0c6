from __future__ import annotations

import asyncio
from collections.abc import Container

from engine_parts import small_context, until

from btfast.discovery.announce import AnnounceRequest
from btfast.engine.finding import Finding
from btfast.engine.resolve import Address
from btfast.errors import RemoteError
from btfast.metainfo.addresses import PeerAddress
from btfast.swarm.peers import Source


class Resolver:
    """Knows one name, and answers when the test lets it."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def resolve(self, host: str, what: str) -> tuple[Address, ...]:
        await self.go.wait()
        if host != "seed.example":
            raise RemoteError(f"{what}: host name {host!r} cannot be resolved: check it")
        return Address(2, "192.0.2.7"), Address(10, "2001:db8::7")


class Item:
    """Who the peers are sought for."""

    info_hash = bytes(20)
    private = False

    def __init__(self) -> None:
        self.peers: list[PeerAddress] = []
        self.warnings: list[str] = []

    def announce_request(self, event: str | None) -> AnnounceRequest:
        raise AssertionError("there is no tracker")

    def handle_peers(self, addresses: list[PeerAddress], source: Source, sender: str = "") -> None:
        assert source is Source.OPTION
        self.peers += addresses

    def drop_peers(self, reason: str, keep: Container[Source]) -> None:
        raise AssertionError(reason)

    def handle_tracker_warning(self, message: str) -> None:
        self.warnings.append(message)


async def test_names_of_peers_become_addresses_beside_the_loop() -> None:
    context = small_context()
    context.resolver = Resolver()
    item = Item()
    named = [("192.0.2.1", 1), ("seed.example", 2), ("::1", 3), ("nobody.example", 4)]
    finding = Finding(context, item, (), named=named)
    assert item.peers == [("192.0.2.1", 1), ("::1", 3)]
    assert not finding.exhausted
    context.resolver.go.set()
    await until(lambda: finding.exhausted, "all names were looked up")
    assert item.peers[2:] == [("192.0.2.7", 2), ("2001:db8::7", 2)]
    (warning,) = item.warnings
    assert "nobody.example" in warning


async def test_nobody_is_named_after_the_end() -> None:
    context = small_context()
    context.resolver = Resolver()
    item = Item()
    finding = Finding(context, item, (), named=[("seed.example", 2)])
    await finding.stop()
    context.resolver.go.set()
    await until(lambda: finding.exhausted, "the question was dropped")
    assert item.peers == []


async def test_the_peers_go_to_who_took_over() -> None:
    context = small_context()
    context.resolver = Resolver()
    before, after = Item(), Item()
    finding = Finding(context, before, (), named=[("192.0.2.1", 1), ("seed.example", 2)])
    finding.hand_over(after)
    context.resolver.go.set()
    await until(lambda: finding.exhausted, "the name was looked up")
    assert [address.host for address in before.peers] == ["192.0.2.1"]
    assert [address.host for address in after.peers] == ["192.0.2.7", "2001:db8::7"]
