"""Peer exchange (BEP 11) over IPv6: added6 of one whole process is what the next one dials."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from support.torrents import make

from btfast import Session, Settings
from btfast.events import Peer

MIB = 1 << 20


def settings(**more: object) -> Settings:
    return Settings(
        bind="::1", port=0, workers=1, memory="32MiB", trackers=False, dht=False, lsd=False, peer_timeout=30,
        **more,  # type: ignore[arg-type]
    )  # fmt: skip


async def test_who_knows_only_a_leecher_hears_of_the_seed(tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error.strerror}")
    made = make(4 * MIB)
    made.lay_out(tmp_path / "source")
    async with (
        Session(settings(max_up_torrent=MIB // 8)) as seed, Session(settings()) as hub, Session(settings()) as leech,
        asyncio.timeout(120),
    ):  # fmt: skip
        seeding = await seed.add(made.torrent, tmp_path / "source", seed=True)
        source = f"[::1]:{await seed.port()}"
        between = await hub.add(made.torrent, tmp_path / "hub", peers=[source])
        middle = f"[::1]:{await hub.port()}"
        fetching = await leech.add(made.torrent, tmp_path / "out", peers=[middle])
        met = set()
        async for event in fetching.events():
            if isinstance(event, Peer) and event.change == "connected":
                met.add(event.address)
                if (
                    len(met) == 2
                ):  # the leecher has dialed the seed, or the seed, which heard of it as well, the leecher
                    break
        for download in (seeding, between, fetching):
            download.cancel()
    assert middle in met
    assert len(met) == 2
