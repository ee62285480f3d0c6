"""Every real client in both directions: it seeds and `btfast get` fetches; btfast seeds and it fetches."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import quote

import pytest
from drivers.base import Driver, Habits
from drivers.clients import CLIENTS
from real_peers import tracker
from support.commands import get, run
from support.torrents import Made, assert_arrived, make

from btfast.client.session import Session
from btfast.config import Settings

FILES = {"a.bin": 1_300_007, "b/c.bin": 1, "b/d.bin": 900_001, "empty": 0, "f/g/h.bin": 16_384, "z.bin": 123_457}
ODD = 3 * 16_384  # bytes a piece
# Their names alone make the metadata longer than one piece of it, 16 KiB.
MANY = {f"part {number % 7}/one of many files, number {number}.bin": 1 + number * 97 % 8000 for number in range(320)}


class Way(NamedTuple):
    """How the two are to meet."""

    name: str
    magnet: bool = False
    encrypted: bool = False

    def make(self, home: Path, announce: str) -> Made:
        """A torrent that no other test has: what runs beside it must not find its peers."""
        seed = zlib.crc32(bytes(home))
        if self.magnet:
            return make(MANY, name="many", seed=seed, announce=[[announce]])
        return make(FILES, name="matrix", seed=seed, piece_length=ODD, announce=[[announce]])

    @property
    def habits(self) -> Habits:
        return Habits(encrypted=self.encrypted)

    @property
    def settings(self) -> Settings:
        encryption: Literal["require", "allow"] = "require" if self.encrypted else "allow"
        return Settings(bind="127.0.0.1", port=0, workers=1, memory="32MiB", dht=False, lsd=False, encryption=encryption)

    @property
    def words(self) -> list[str]:
        """The same for the command line."""
        return ["--no-dht", "--no-lsd", "--encryption", self.settings.encryption]


SYNCS = 100.0  # seconds: hundreds of files are made durable one by one, on a disk that others may load


def magnet_of(made: Made, *trackers: str) -> str:
    return f"magnet:?xt=urn:btih:{made.info_hash.hex()}" + "".join(f"&tr={quote(url, safe='')}" for url in trackers)


every_client = pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
every_way = pytest.mark.parametrize(
    "way", [Way("plain"), Way("magnet", magnet=True), Way("encrypted", encrypted=True)], ids=lambda way: way.name
)


@pytest.mark.timeout(150)
@every_way
@every_client
def test_it_seeds_and_we_fetch(tmp_path: Path, client: type[Driver], way: Way) -> None:
    made = way.make(tmp_path, "http://127.0.0.1:1/announce")
    made.lay_out(tmp_path / "source")
    torrent = made.save(tmp_path)
    with client(tmp_path / "peer", torrent, tmp_path / "source", way.habits) as peer:
        peer.serves()
        words = get(magnet_of(made) if way.magnet else torrent, *way.words, peers=(peer.address,))
        outcome = run(tmp_path, *words, patience=SYNCS)
        assert outcome.code == 0, (outcome, peer.last_words())
    assert_arrived(made, tmp_path / "out")


@every_way
@every_client
async def test_we_seed_and_it_fetches(tmp_path: Path, client: type[Driver], way: Way) -> None:
    with tracker(tmp_path) as url:
        made = way.make(tmp_path, url)
        made.lay_out(tmp_path / "source")
        source = magnet_of(made, url) if way.magnet else made.save(tmp_path)
        peer = client(tmp_path / "peer", source, tmp_path / "out", way.habits)
        async with Session(way.settings) as session:
            if peer.must_be_dialed:
                with peer:
                    await session.add(made.torrent, tmp_path / "source", seed=True, peers=[peer.address])
                    peer.delivers(made)
            else:
                await session.add(made.torrent, tmp_path / "source", seed=True)
                with peer:
                    peer.delivers(made)
