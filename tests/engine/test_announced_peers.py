from __future__ import annotations

from typing import Any

import pytest
from engine_parts import small_context, until

from btfast.discovery.announce import AnnounceRequest, AnnounceResponse
from btfast.discovery.schedule import TrackerSchedule
from btfast.engine.announcing import Announcing, host_of
from btfast.engine.resolve import Address
from btfast.metainfo.addresses import PeerAddress

PUBLIC = PeerAddress("8.8.8.8", 1)
LOCAL = [
    PeerAddress(host, 1)
    for host in ("127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.1.1", "::1", "fe80::1", "fd00::1")
]
NAMES = {
    "public.example": ["8.8.4.4"],
    "local.example": ["192.168.0.2", "fd00::2"],
    "both.example": ["8.8.4.4", "127.0.0.1"],
}


class Trackers:
    """Answers every announce with the same peers."""

    async def announce(self, url: str, request: AnnounceRequest) -> AnnounceResponse:
        return AnnounceResponse(peers=(*LOCAL, PUBLIC))


class Resolver:
    async def resolve(self, host: str, what: str) -> tuple[Address, ...]:
        return tuple(Address(0, found) for found in NAMES.get(host, [host]))


class Torrent:
    """Who is announced."""

    def __init__(self) -> None:
        self.peers: list[PeerAddress] = []

    def announce_request(self, event: str | None) -> AnnounceRequest:
        return AnnounceRequest(info_hash=bytes(20), peer_id=bytes(20), port=1, left=1)

    def handle_peers(self, addresses: list[PeerAddress]) -> None:
        self.peers += addresses

    def handle_tracker_warning(self, message: str) -> None:
        raise AssertionError(message)


@pytest.mark.parametrize(
    ("host", "trusted"),
    [
        ("8.8.4.4", False), ("[2001:4860:4860::8888]", False), ("public.example", False), ("both.example", False),
        ("user:secret@public.example", False), ("127.0.0.1", True), ("[::1]", True), ("local.example", True),
    ],
)  # fmt: skip
async def test_only_a_local_tracker_may_name_local_peers(host: str, trusted: bool) -> None:
    context: Any = small_context()
    context.trackers, context.resolver = Trackers(), Resolver()
    schedule = TrackerSchedule([[f"http://{host}:6969/announce?key=1"]], context.rng, context.loop.time())
    torrent = Torrent()
    announcing = Announcing(context, schedule, torrent)
    await until(lambda: torrent.peers, "a tracker has answered")
    await announcing.stop()
    assert torrent.peers == ([*LOCAL, PUBLIC] if trusted else [PUBLIC])


def test_the_host_of_a_url() -> None:
    assert host_of("https://tracker.example/announce") == "tracker.example"
    assert host_of("udp://[fe80::1]:80") == "fe80::1"
    assert host_of("nonsense") == ""
