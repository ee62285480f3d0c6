"""Peer exchange (BEP 11) with real clients: a hub that everybody is connected to tells them of each other."""

from __future__ import annotations

from pathlib import Path

import libtorrent
import pytest
from drivers.aria2 import Aria2
from drivers.base import Driver, Habits
from drivers.libtorrent import LibtorrentDriver
from drivers.ports import listens
from leaks import wait_until
from real_peers import tracker
from support.commands import get, running
from support.libtorrent_peer import Libtorrent
from support.torrents import assert_arrived, make

MIB = 1 << 20
SLOW = MIB // 4  # bytes a second that the seed sends, until everybody has heard of everybody


def test_a_hub_names_the_seed_to_us(tmp_path: Path) -> None:
    """The hub, a libtorrent, got the seed from the tracker; we know only the hub."""
    with tracker(tmp_path) as url, Libtorrent() as seed:
        made = make(4 * MIB, announce=[[url]])
        made.lay_out(tmp_path / "source")
        handle = seed.add(made.torrent, tmp_path / "source", seed=True, rate=SLOW, trackers=(url,))
        handle.set_flags(libtorrent.torrent_flags.disable_pex)  # so it is not the seed who hears of us
        seed.announced(handle)
        address, torrent = seed.address, made.save(tmp_path)
        with LibtorrentDriver(tmp_path / "hub", torrent, tmp_path / "hub-out", Habits(pex=True)) as hub:
            assert wait_until(lambda: handle.status().num_peers > 0, patience=120), "the hub has not found the seed"
            with running(tmp_path, *get(torrent, peers=(hub.address,))) as command:
                command.until(lambda: handle.status().num_peers == 2, "we are connected to the seed", patience=120)
                handle.set_upload_limit(0)
                outcome = command.end()
    assert outcome.code == 0, outcome
    assert_arrived(made, tmp_path / "out")
    assert address in {event["address"] for event in outcome.all("peer") if event["change"] == "connected"}


@pytest.mark.parametrize("client", [LibtorrentDriver, Aria2])
def test_we_name_the_seed_to_others(tmp_path: Path, client: type[Driver]) -> None:
    """We are the hub: both know nobody but us, who dialed them."""
    made = make(4 * MIB)
    made.lay_out(tmp_path / "source")
    torrent = made.save(tmp_path)
    with Libtorrent() as seed, client(tmp_path / "other", torrent, tmp_path / "other-out", Habits(pex=True)) as other:
        handle = seed.add(made.torrent, tmp_path / "source", seed=True, rate=SLOW)
        handle.set_flags(libtorrent.torrent_flags.disable_pex)  # so it is not the seed who hears of the other
        other.until(lambda: listens(other.port), "listen")
        with running(tmp_path, *get(torrent, peers=(seed.address, other.address))) as command:
            command.until(lambda: handle.status().num_peers == 2, "the other is connected to the seed", patience=120)
            handle.set_upload_limit(0)
            outcome = command.end()
        assert outcome.code == 0, outcome
        other.delivers(made)
    assert_arrived(made, tmp_path / "out")
