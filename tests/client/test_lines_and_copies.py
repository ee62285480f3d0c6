"""Between whole processes: what --max-up and --max-down let through, and how often a seed sends what others could pass on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest
from support.torrents import Made, assert_arrived, make

from btfast import Download, Session, Settings
from btfast.events import Peer, Progress

LOCAL = Settings(bind="127.0.0.1", port=0, workers=1, memory="32MiB", trackers=False, dht=False, lsd=False, pex=False)
MIB = 1 << 20
RATE = 2 * MIB
BURST = 0.1  # seconds of the rate that may pass at once


def settings(**changes: object) -> Settings:
    return msgspec.structs.replace(LOCAL, **changes)


async def fetch(session: Session, made: Made, folder: Path, *peers: str) -> float:
    """Seconds from the first connection to the end."""
    loop = asyncio.get_running_loop()
    download = await session.add(made.torrent, folder, peers=peers)
    began = None
    async for event in download.events():
        if isinstance(event, Peer) and began is None:
            began = loop.time()
    result = await download
    assert_arrived(made, folder)
    assert began is not None
    capped = session.settings.max_down or session.settings.max_down_torrent
    slower = result.rate < 0.4 * float(capped or 0)  # on a busy machine; of a global cap each has half
    assert (result.limited_by == "limit") == bool(capped) or slower
    return loop.time() - began


@pytest.mark.parametrize("cap", ["max_up", "max_down", "max_up_torrent", "max_down_torrent"])
async def test_no_more_passes_than_a_cap_says(tmp_path: Path, cap: str) -> None:
    """Of two torrents at once: a global cap is for both, one a torrent for each. A busy machine can only be slower."""
    both = [make(3 * MIB, name=name, seed=number) for number, name in enumerate(("one", "two"))]
    up = {cap: RATE} if "up" in cap else {}
    down = {cap: RATE} if "down" in cap else {}
    async with Session(settings(**up)) as seed, Session(settings(**down)) as leech:
        seeding = []
        for made in both:
            made.lay_out(tmp_path / "data")
            seeding.append(await seed.add(made.torrent, tmp_path / "data", seed=True))
        peer = f"127.0.0.1:{await seed.port()}"
        seconds = await asyncio.gather(*(fetch(leech, made, tmp_path / made.name, peer) for made in both))
        for one in seeding:
            one.cancel()
    passed = 3 * MIB if "torrent" in cap else 6 * MIB
    assert passed <= 1.02 * RATE * (max(seconds) + BURST)


async def _some(download: Download, count: int) -> AsyncIterator[Progress]:
    """Its next reports."""
    async for event in download.events():
        if isinstance(event, Progress):
            yield event
            count -= 1
        if not count:
            return


async def copies(tmp_path: Path, leechers: int, **seed: object) -> float:
    """How many copies a slow seed has sent when so many leechers, which know one another, have finished."""
    made = make(3 * MIB, name="shared", piece_length=65536)
    made.lay_out(tmp_path / "data")
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(Session(settings(max_up=3 * MIB // 2, **seed)))
        seeding = await server.add(made.torrent, tmp_path / "data", seed=True)
        peers = [f"127.0.0.1:{await server.port()}"]
        downloads = []
        for number in range(leechers):
            session = await stack.enter_async_context(Session(settings(seed_time=3600)))
            downloads.append(await session.add(made.torrent, tmp_path / str(number), peers=list(peers)))
            peers.append(f"127.0.0.1:{await session.port()}")
        for download in downloads:
            async for event in download.events():
                if isinstance(event, Progress) and event.state == "seeding":
                    break
        reports = [event async for event in _some(seeding, 2)]
        for download in [*downloads, seeding]:
            download.cancel()
        for number in range(leechers):
            assert_arrived(made, tmp_path / str(number))
    return reports[-1].uploaded / len(made.data)


@pytest.mark.parametrize("super_seed", [False, True])
async def test_a_slow_seed_leaves_it_to_the_leechers_to_pass_pieces_on(tmp_path: Path, super_seed: bool) -> None:
    # Each from the seed alone would be 3; on a busy machine the first is half done when the last comes.
    assert await copies(tmp_path, 3, super_seed=super_seed) < 2.6
