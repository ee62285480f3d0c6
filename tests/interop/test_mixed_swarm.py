"""One swarm of everybody: a seed and a leecher of each client, btfast included, led by btfast's tracker."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from drivers.clients import CLIENTS
from real_peers import tracker
from support.commands import get, running
from support.torrents import assert_arrived, make

from btfast.client.session import Session
from btfast.config import Settings

MIB = 1 << 20


async def test_all_finish(tmp_path: Path) -> None:
    with tracker(tmp_path) as url, ExitStack() as stack:
        made = make({"a.bin": 3 * MIB + 7, "b/c.bin": 70_001, "empty": 0}, name="swarm", announce=[[url]])
        torrent = made.save(tmp_path)
        seeds = [client(tmp_path / f"{client.name}-seeds", torrent, tmp_path / client.name) for client in CLIENTS]
        leechers = [client(tmp_path / f"{client.name}-fetches", torrent, tmp_path / f"{client.name}-out") for client in CLIENTS]
        made.lay_out(tmp_path / "source")
        for seed in seeds:
            made.lay_out(seed.folder)
        async with Session(Settings(bind="127.0.0.1", port=0, workers=1, memory="32MiB", dht=False, lsd=False)) as session:
            await session.add(made.torrent, tmp_path / "source", seed=True)
            for peer in (*seeds, *leechers):
                stack.enter_context(peer)
            outcome = stack.enter_context(running(tmp_path, *get(torrent, "--no-dht", "--no-lsd", trackers=True))).end()
            assert outcome.code == 0, outcome
            assert_arrived(made, tmp_path / "out")
            for leecher in leechers:
                leecher.delivers(made)
