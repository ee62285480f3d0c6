"""Other clients than libtorrent found by the DHT alone, and finding us by it, from a `btfast dht` node."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from drivers.aria2 import Aria2
from drivers.base import Driver, Habits
from drivers.rtorrent import RTorrent
from leaks import wait_until
from support.commands import get, run, running
from support.torrents import Made, assert_arrived, make

from btfast.client.session import Session
from btfast.config import Settings


@pytest.fixture
def made(tmp_path: Path) -> Made:
    found = make({"a.bin": 700_001, "b/c.bin": 1}, name="by-dht", seed=zlib.crc32(bytes(tmp_path)))
    found.lay_out(tmp_path / "source")
    return found


@pytest.fixture
def node(tmp_path: Path) -> Iterator[str]:
    with running(tmp_path, "dht", "--bind", "127.0.0.1", "--port", "0", "--json") as command:
        assert command.process.stdout is not None
        yield json.loads(command.process.stdout.readline())["addresses"][0]


def found_by_dht(home: Path, made: Made, node: str) -> set[str]:
    words = ("dht", "get-peers", made.info_hash.hex(), "--bind", "127.0.0.1", "--dht-bootstrap", node, "-q")
    return set(run(home, *words).out.split())


@pytest.mark.parametrize("client", [Aria2, RTorrent], ids=lambda client: client.name)
def test_it_seeds_and_we_find_it(tmp_path: Path, client: type[Driver], made: Made, node: str) -> None:
    torrent = made.save(tmp_path)
    with client(tmp_path / "peer", torrent, tmp_path / "source", Habits(dht=node)) as peer:
        peer.serves()
        assert wait_until(lambda: peer.address in found_by_dht(tmp_path, made, node), patience=120), peer.last_words()
        outcome = run(tmp_path, *get(torrent, "--no-lsd", "--no-pex", "--dht-bootstrap", node))
        assert outcome.code == 0, (outcome, peer.last_words())
    assert_arrived(made, tmp_path / "out")


async def test_we_seed_and_aria2_finds_us(tmp_path: Path, made: Made, node: str) -> None:
    """rTorrent 0.9.8 does not: it takes the bencoding of what it is answered for the first address."""
    settings = Settings(
        bind="127.0.0.1", port=0, workers=1, memory="32MiB", lsd=False, pex=False, trackers=False, dht_bootstrap=(node,)
    )
    async with Session(settings) as session:
        await session.add(made.torrent, tmp_path / "source", seed=True)
        address = f"127.0.0.1:{await session.port()}"
        assert wait_until(lambda: address in found_by_dht(tmp_path, made, node), patience=120)
        with Aria2(tmp_path / "peer", made.save(tmp_path), tmp_path / "out", Habits(dht=node)) as peer:
            peer.delivers(made)
