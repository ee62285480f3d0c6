"""A hybrid is sought and announced by both of its hashes; whoever is found goes into one set of peers."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from engine_parts import small_context, until

from btfast.discovery.announce import AnnounceRequest, AnnounceResponse
from btfast.engine.by_hash import ByHash
from btfast.engine.swarm_names import SwarmNames
from btfast.engine.swarms import Swarms
from btfast.metainfo.addresses import PeerAddress
from btfast.swarm.peers import Source

V1, V2 = b"1" * 20, b"2" * 20
URL = "http://127.0.0.1:1/announce"
IN_V1, IN_V2 = PeerAddress("8.8.8.1", 6881), PeerAddress("8.8.8.2", 6882)


class Trackers:
    """Knows one peer in each swarm."""

    def __init__(self) -> None:
        self.heard: list[tuple[bytes, str | None]] = []

    async def announce(self, url: str, request: AnnounceRequest, *, patience: float | None = None) -> AnnounceResponse:
        self.heard.append((request.info_hash, request.event))
        return AnnounceResponse(interval=1800, peers=(IN_V1 if request.info_hash == V1 else IN_V2,))


class Item:
    private = False

    def __init__(self) -> None:
        self.found: list[tuple[PeerAddress, Source]] = []

    def announce_request(self, event: str | None) -> AnnounceRequest:
        return AnnounceRequest(info_hash=b"?" * 20, peer_id=bytes(20), port=1, left=1, event=event)

    def handle_peers(self, addresses: list[PeerAddress], source: Source, sender: str = "") -> None:
        self.found += [(address, source) for address in addresses]

    def drop_peers(self, reason: str, keep: Container[Source]) -> None: ...

    def handle_tracker_warning(self, message: str) -> None: ...


def parts(hashes: tuple[bytes, ...], *, v2: bool) -> tuple[Any, Trackers, SwarmNames, Item]:
    context: Any = small_context(lsd=False)
    trackers = context.trackers = Trackers()
    return context, trackers, SwarmNames(hashes, v2=v2), Item()


async def test_a_hybrid_is_announced_in_both_swarms_and_their_peers_are_told_apart() -> None:
    context, trackers, names, item = parts((V1, V2), v2=True)
    swarms = Swarms(context, item, names, [[URL]], named=[("8.8.8.9", 9)])
    await until(lambda: len(item.found) == 3, "both have answered")
    assert sorted(trackers.heard) == [(V1, "started"), (V2, "started")]
    assert sorted(item.found) == sorted(
        [(PeerAddress("8.8.8.9", 9), Source.OPTION), (IN_V1, Source.TRACKER), (IN_V2, Source.TRACKER)]
    )
    assert (names.hash_for(IN_V1), names.hash_for(IN_V2)) == (V1, V2)
    swarms.completed()
    await until(lambda: len(trackers.heard) == 4, "both are told")
    await swarms.stop()
    assert sorted(trackers.heard[2:]) == [(V1, "completed"), (V1, "stopped"), (V2, "completed"), (V2, "stopped")]


async def test_what_turns_out_a_hybrid_joins_its_other_swarm() -> None:
    context, trackers, names, item = parts((V1,), v2=False)
    swarms = Swarms(context, item, names, [[URL]], together=True)
    await until(lambda: item.found, "the v1 swarm has answered")
    torrent, both = Item(), SwarmNames((V1, V2), v2=True)
    swarms.hand_over(torrent, both, [[URL]])
    await until(lambda: torrent.found, "the v2 swarm has answered")
    assert torrent.found == [(IN_V2, Source.TRACKER)]
    assert both.hash_for(IN_V2) == V2
    assert trackers.heard == [(V1, "started"), (V2, "started")]
    assert not swarms.exhausted
    assert swarms.last_error is None
    await swarms.stop()


def test_one_torrent_is_found_by_all_its_hashes_and_another_is_never_forgotten_with_it() -> None:
    by_hash: ByHash[str] = ByHash()
    by_hash.name((V1,), "magnet")
    by_hash.name((V1, V2), "hybrid")
    assert (by_hash[V1], by_hash[V2]) == ("magnet", "hybrid")
    assert by_hash.first((V2, V1)) == "hybrid"
    by_hash.forget((V1, V2), "hybrid")
    assert dict(by_hash) == {V1: "magnet"}
    by_hash.forget((V1,), "magnet")
    assert by_hash.first((V1, V2)) is None
