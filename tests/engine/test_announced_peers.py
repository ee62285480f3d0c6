from __future__ import annotations

import asyncio
from typing import Any

import pytest
from engine_parts import small_context, until

from btfast.discovery.announce import AnnounceRequest, AnnounceResponse
from btfast.discovery.schedule import TrackerSchedule
from btfast.engine.announcing import Announcing, host_of
from btfast.engine.families import Families
from btfast.engine.resolve import Address
from btfast.metainfo.addresses import PeerAddress

PUBLIC = [PeerAddress("8.8.8.8", 1024), PeerAddress("8.8.8.8", 80)]
LOCAL = [PeerAddress(host, 6881) for host in ("10.1.2.3", "192.168.0.1", "169.254.1.1", "fe80::1", "fd00::1")]
LOOPBACK = [PeerAddress(host, 6881) for host in ("127.0.0.1", "::1")]
NEVER = [PeerAddress("8.8.8.8", 25), PeerAddress("127.0.0.1", 22), PeerAddress("224.0.0.1", 6881)]
NAMES = {
    "public.example": ["8.8.4.4"],
    "one.public.example": ["8.8.4.4"],
    "two.public.example": ["8.8.4.5"],
    "three.public.example": ["8.8.4.6"],
    "local.example": ["192.168.0.2", "fd00::2"],
    "both.example": ["8.8.4.4", "127.0.0.1"],
}


class Trackers:
    """Answers every announce with the same peers, and sees us at one address."""

    async def announce(self, url: str, request: AnnounceRequest, *, patience: float | None = None) -> AnnounceResponse:
        return AnnounceResponse(peers=(*LOOPBACK, *NEVER, *LOCAL, *PUBLIC), external_ip="81.2.69.142")


class Resolver:
    async def resolve(self, host: str, what: str) -> tuple[Address, ...]:
        return tuple(Address(0, found) for found in NAMES.get(host, [host]))


class Torrent:
    """Who is announced."""

    def __init__(self) -> None:
        self.peers: list[PeerAddress] = []
        self.trackers: set[str] = set()

    def announce_request(self, event: str | None) -> AnnounceRequest:
        return AnnounceRequest(info_hash=bytes(20), peer_id=bytes(20), port=1, left=1)

    def handle_answered(self, url: str) -> None: ...

    def handle_peers(self, addresses: list[PeerAddress], tracker: str) -> None:
        self.peers += addresses
        self.trackers.add(tracker)

    def handle_tracker_warning(self, message: str) -> None:
        raise AssertionError(message)


@pytest.mark.parametrize(
    ("host", "trusted"),
    [
        ("8.8.4.4", PUBLIC), ("[2001:4860:4860::8888]", PUBLIC), ("public.example", PUBLIC), ("both.example", PUBLIC),
        ("user:secret@public.example", PUBLIC), ("local.example", LOCAL + PUBLIC), ("10.0.0.1", LOCAL + PUBLIC),
        ("127.0.0.1", LOOPBACK + LOCAL + PUBLIC), ("[::1]", LOOPBACK + LOCAL + PUBLIC),
    ],
)  # fmt: skip
async def test_a_tracker_names_only_what_it_can_reach_itself(host: str, trusted: list[PeerAddress]) -> None:
    context: Any = small_context()
    context.trackers, context.resolver = Trackers(), Resolver()
    schedule = TrackerSchedule([[f"http://{host}:6969/announce?key=1"]], context.rng, context.loop.time())
    torrent = Torrent()
    announcing = Announcing(context, schedule, torrent)
    await until(lambda: torrent.peers, "a tracker has answered")
    await announcing.stop()
    assert torrent.peers == trusted
    assert torrent.trackers == {host_of(f"http://{host}")}


def test_the_host_of_a_url() -> None:
    assert host_of("https://tracker.example/announce") == "tracker.example"
    assert host_of("udp://[fe80::1]:80") == "fe80::1"
    assert host_of("nonsense") == ""


async def test_where_trackers_of_several_owners_see_us_is_our_address() -> None:
    context: Any = small_context()
    context.trackers, context.resolver = Trackers(), Resolver()

    async def announce_to(*hosts: str) -> None:
        for host in hosts:
            schedule = TrackerSchedule([[f"http://{host}:6969/announce"]], context.rng, context.loop.time())
            torrent = Torrent()
            announcing = Announcing(context, schedule, torrent)
            await until(lambda torrent=torrent: torrent.peers, "a tracker has answered")  # type: ignore[misc]
            await announcing.stop()

    await announce_to("8.8.4.4", "one.public.example", "two.public.example", "three.public.example")
    assert context.external.host(v6=False) == ""
    await announce_to("9.9.9.9")
    assert context.external.host(v6=False) == "81.2.69.142"


async def test_one_family_is_asked_straight_once_it_is_known_to_be_the_only_one() -> None:
    families = Families(asyncio.get_running_loop())

    async def found(*numbers: int) -> list[int]:
        return list(numbers)

    async def ask(family: int) -> AnnounceResponse:
        return AnnounceResponse()

    assert families.only("one") is None
    await families.announce("one", lambda: found(2), ask)
    await families.announce("both", lambda: found(2, 10), ask)
    await families.announce("none", lambda: found(), ask)
    assert [families.only(name) for name in ("one", "both", "none")] == [2, None, None]
