"""opentracker and bittorrent-tracker, over HTTP and UDP: they bring our seeder and our leecher together."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from drivers.libtorrent import LibtorrentDriver
from drivers.trackers import BittorrentTracker, OpenTracker, OtherTracker
from real_peers import needs_ipv6
from support.commands import LOCAL, PATIENCE, get, run, running
from support.torrents import Made, assert_arrived, make

from btfast.config import Settings
from btfast.discovery.announce import AnnounceRequest, ScrapedSwarm
from btfast.engine.resolve import Resolver
from btfast.engine.trackers import Trackers
from btfast.engine.udp import UdpSockets

TRACKERS = pytest.mark.parametrize("kind", [OpenTracker, BittorrentTracker], ids=lambda kind: kind.name)
SCHEMES = pytest.mark.parametrize("scheme", ["http", "udp"])
SIZE = 300_001


@pytest_asyncio.fixture
async def trackers() -> AsyncIterator[Trackers]:
    loop = asyncio.get_running_loop()
    context: Any = SimpleNamespace(loop=loop, settings=Settings(), port=0)
    sockets = UdpSockets(context)
    found = Trackers(sockets, Resolver(loop))
    yield found
    await found.close()
    sockets.close()


async def until(condition: Callable[[], Any], what: str) -> None:
    """Polls what may be a coroutine function, with a deadline."""
    deadline = time.monotonic() + PATIENCE
    while True:
        met = condition()
        if asyncio.iscoroutine(met):
            met = await met
        if met:
            return
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


def tracked(made: Made, url: str) -> Made:
    """The same torrent with a tracker."""
    return made._replace(torrent=b"d8:announce%d:%s" % (len(url), url.encode()) + made.torrent[1:])


@TRACKERS
@SCHEMES
async def test_it_brings_seeder_and_leecher_together_and_hears_them_leave(
    kind: type[OtherTracker], scheme: str, tmp_path: Path, trackers: Trackers
) -> None:
    made = make(SIZE)
    made.lay_out(tmp_path / "source")
    with kind(tmp_path / "tracker", [made.info_hash]) as tracker:
        url = tracker.url(scheme)
        torrent = tracked(made, url).save(tmp_path)

        async def counts() -> tuple[int | None, int | None]:
            swarm = (await trackers.scrape(url, [made.info_hash])).get(made.info_hash, ScrapedSwarm(complete=0, incomplete=0))
            return swarm.complete, swarm.incomplete

        async def one_seed() -> bool:
            return await counts() == (1, 0)

        async def nobody() -> bool:
            return await counts() == (0, 0)

        with running(tmp_path, "seed", torrent, "--data", tmp_path / "source", *LOCAL) as seed:
            await until(one_seed, "the seeder is known")
            outcome = await asyncio.to_thread(run, tmp_path, *get(torrent, trackers=True))
            assert outcome.code == 0, outcome
            assert_arrived(made, tmp_path / "out")
            assert outcome.warnings == []
            await until(one_seed, "the leecher has left")
            seed.process.terminate()
            assert seed.process.wait(PATIENCE) == 7
        await until(nobody, "the seeder has left")
        if isinstance(tracker, BittorrentTracker):
            assert sorted(tracker.events()) == ["complete", "start", "start", "stop", "stop"]


@TRACKERS
@SCHEMES
def test_a_torrent_that_it_does_not_take_is_a_clear_error(kind: type[OtherTracker], scheme: str, tmp_path: Path) -> None:
    made = make(SIZE)
    with kind(tmp_path / "tracker", [b"o" * 20]) as tracker:
        torrent = tracked(made, tracker.url(scheme)).save(tmp_path)
        outcome = run(tmp_path, *get(torrent, "--peer-timeout", "4", trackers=True))
    error = outcome.error(3)
    assert re.search(r"tracker says: .*(not authorized|not on the list)|the answer is cut short.*not registered", error), error
    assert len(outcome.warnings) == 1


@TRACKERS
@SCHEMES
async def test_many_torrents_share_it(kind: type[OtherTracker], scheme: str, tmp_path: Path, trackers: Trackers) -> None:
    hashes = [b"%020d" % number for number in range(300)]
    with kind(tmp_path / "tracker", hashes) as tracker:
        url = tracker.url(scheme)

        async def announce(info_hash: bytes, event: str | None, port: int) -> int:
            request = AnnounceRequest(
                info_hash=info_hash, peer_id=b"-XX0001-%012d" % port, port=port, left=1, event=event, key="0000002a"
            )
            answer = await trackers.announce(url, request)
            assert answer.failure_reason is None
            return sum(peer.port != port for peer in answer.peers)

        for known, port in enumerate((4001, 4002)):
            found = await asyncio.gather(*[announce(info_hash, "started", port) for info_hash in hashes])
            assert found == [known] * 300
        await asyncio.gather(*[announce(info_hash, "stopped", 4001) for info_hash in hashes])
        assert (await trackers.scrape(url, hashes[:1]))[hashes[0]].incomplete == 1


@SCHEMES
def test_libtorrent_seeds_by_way_of_our_tracker(scheme: str, tmp_path: Path) -> None:
    made = make(SIZE)
    made.lay_out(tmp_path / "source")
    with running(tmp_path, "tracker", "--bind", "127.0.0.1", "--port", "0", "--json", "--interval", "5") as ours:
        assert ours.process.stdout is not None
        url = json.loads(ours.process.stdout.readline())["url" if scheme == "http" else "udp"]
        torrent = tracked(made, url).save(tmp_path)
        with LibtorrentDriver(tmp_path / "libtorrent", torrent, tmp_path / "source") as peer:
            peer.serves()
            outcome = run(tmp_path, *get(torrent, trackers=True))
        ours.process.terminate()
        ours.process.wait(PATIENCE)
    assert outcome.code == 0, outcome
    assert_arrived(made, tmp_path / "out")


@SCHEMES
def test_a_swarm_over_ipv6_alone(scheme: str, tmp_path: Path) -> None:
    needs_ipv6()
    made = make(SIZE)
    made.lay_out(tmp_path / "source")
    local = ("--bind", "::1", "--port", "0", "--json")
    with running(tmp_path, "tracker", *local) as ours:
        assert ours.process.stdout is not None
        url = json.loads(ours.process.stdout.readline())["url" if scheme == "http" else "udp"]
        torrent = tracked(made, url).save(tmp_path)
        with running(tmp_path, "seed", torrent, "--data", "source", *local) as seed:
            seed.until_state("seeding")
            outcome = run(tmp_path, "get", torrent, "-o", "out", "--workers", "1", *local)
    assert outcome.code == 0, outcome
    assert_arrived(made, tmp_path / "out")
    assert {event["address"].rpartition(":")[0] for event in outcome.all("peer")} == {"[::1]"}
