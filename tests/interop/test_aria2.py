"""aria2 in both directions. It has no way to be told of a peer, so when it leeches it is led by btfast's tracker."""

from __future__ import annotations

from pathlib import Path

import pytest
from drivers.aria2 import Aria2
from real_peers import tracker
from support.commands import get, run
from support.torrents import Made, assert_arrived, make

from btfast.client.session import Session
from btfast.config import Settings

SHAPES = {
    "one odd file": make(1_500_003),
    "a last block of one byte": make(20 * 16384 + 1, piece_length=32768),
    "a directory": make({"a": 70_001, "b/c": 1, "b/d/e": 33_333, "f": 400_000}, name="odd"),
    "pieces of 1 MiB": make((5 << 20) + 17, piece_length=1 << 20),
}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def made(request: pytest.FixtureRequest) -> Made:
    chosen: Made = request.param
    return chosen


def test_aria2_seeds_and_btfast_fetches(tmp_path: Path, made: Made) -> None:
    made.lay_out(tmp_path / "source")
    torrent = made.save(tmp_path)
    with Aria2(tmp_path / "aria2", torrent, tmp_path / "source") as peer:
        peer.serves()
        outcome = run(tmp_path, *get(torrent, "--no-dht", "--no-lsd", peers=(peer.address,)))
    assert outcome.code == 0, outcome
    assert_arrived(made, tmp_path / "out")


async def test_btfast_seeds_and_aria2_fetches(tmp_path: Path, made: Made) -> None:
    with tracker(tmp_path) as url:
        made.lay_out(tmp_path / "source")
        tracked = made._replace(torrent=make_tracked(made, url))
        async with Session(Settings(bind="127.0.0.1", port=0, workers=1, memory="32MiB", dht=False, lsd=False)) as session:
            await session.add(tracked.torrent, tmp_path / "source", seed=True)
            with Aria2(tmp_path / "aria2", tracked.save(tmp_path), tmp_path / "out") as peer:
                peer.delivers(made)


def make_tracked(made: Made, url: str) -> bytes:
    """The same torrent with a tracker; its info-hash does not change."""
    announce = b"8:announce%d:%s" % (len(url), url.encode())
    return b"d" + announce + made.torrent[1:]
