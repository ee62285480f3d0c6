"""Torrents of v2 alone and hybrids, from and to libtorrent: every shape, in the clear and encrypted, by a tracker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from real_peers import tracker
from support.commands import Outcome, get, run
from support.libtorrent_peer import Libtorrent, finish, libtorrent_seeds
from support.torrents import Made, assert_arrived, tree
from support.v2_torrents import make_v2

from btfast.client.session import Session
from btfast.config import Settings

MIB = 1 << 20
LOCAL = Settings(bind="127.0.0.1", port=0, workers=1, memory="32MiB", trackers=False, encryption="allow")
ENCRYPTED = {"out_enc_policy": 0, "in_enc_policy": 0, "allowed_enc_level": 2}
SHAPES: dict[str, dict[str, object]] = {
    "one odd file": {"files": 1_000_003},
    "pieces of 16 KiB": {"files": 700_001, "piece_length": 16384},
    "pieces of 4 MiB": {"files": 9 * MIB + 17, "piece_length": 4 * MIB},
    "a directory": {
        "files": {
            "a": 70_001, "b/c": 1, "b/d/e": 33_333, "f": 0, "g": 200_000, "h": 65536, "i": 131072, "j": 0, "k": 40_000,
            "l": 81_921,
        },
        "name": "odd",
    },
    "50 small files": {"files": {f"{n % 7}/{n}.bin": n * 1401 % 50_000 for n in range(50)}, "name": "many"},
}


@pytest.fixture(params=[False, True], ids=["v2", "hybrid"])
def hybrid(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def made(request: pytest.FixtureRequest, hybrid: bool) -> Made:
    return make_v2(**request.param, hybrid=hybrid)


@pytest_asyncio.fixture
async def seeder() -> AsyncIterator[Session]:
    async with Session(LOCAL) as session:
        yield session


def fetch(home: Path, made: Made, *words: str, peers: tuple[str, ...] = (), trackers: bool = False) -> Outcome:
    outcome = run(home, *get(made.save(home), *words, peers=peers, trackers=trackers))
    assert outcome.code == 0, outcome
    assert outcome.warnings == []
    assert_arrived(made, home / "out")
    complete = outcome.one("complete")
    assert complete["info_hash"] == made.info_hash.hex()
    assert sorted(complete["files"]) == sorted(made.files)
    assert complete["wasted"] == 0
    return outcome


def test_every_shape_arrives_from_libtorrent(tmp_path: Path, made: Made) -> None:
    with libtorrent_seeds(made, tmp_path / "source") as seeder:
        fetch(tmp_path, made, peers=(seeder.address,))
        again = run(tmp_path, *get(made.save(tmp_path), peers=(seeder.address,)))
    assert again.code == 0, again
    assert again.one("complete")["downloaded"] == 0, "what is on disk is right by either kind of hash"


async def test_libtorrent_fetches_every_shape(tmp_path: Path, made: Made, seeder: Session) -> None:
    made.lay_out(tmp_path / "source")
    await seeder.add(made.torrent, tmp_path / "source", seed=True)
    (tmp_path / "out").mkdir()
    with Libtorrent() as peer:
        handle = peer.add(made.torrent, tmp_path / "out")
        handle.connect_peer(("127.0.0.1", await seeder.port()))
        finish(handle)
    assert_arrived(made, tmp_path / "out")


async def test_both_ways_work_encrypted(tmp_path: Path, hybrid: bool, seeder: Session) -> None:
    made = make_v2({"a": 400_000, "b": 70_000}, name="secret", hybrid=hybrid)
    with Libtorrent(**ENCRYPTED) as peer:
        made.lay_out(tmp_path / "source")
        peer.add(made.torrent, tmp_path / "source", seed=True)
        fetch(tmp_path, made, "--encryption", "require", peers=(peer.address,))
    await seeder.add(made.torrent, tmp_path / "out", seed=True)
    (tmp_path / "back").mkdir()
    with Libtorrent(**ENCRYPTED) as peer:
        handle = peer.add(made.torrent, tmp_path / "back")
        handle.connect_peer(("127.0.0.1", await seeder.port()))
        finish(handle)
    assert_arrived(made, tmp_path / "back")


def test_the_tracker_leads_to_the_seeder_by_the_short_hash(tmp_path: Path, hybrid: bool) -> None:
    with tracker(tmp_path) as url:
        made = make_v2({"a": 300_000, "b": 70_001}, name="tracked", hybrid=hybrid, announce=[[url]])
        with Libtorrent() as peer:
            made.lay_out(tmp_path / "source")
            peer.announced(peer.add(made.torrent, tmp_path / "source", seed=True))
            fetch(tmp_path, made, trackers=True)


async def test_btfast_fetches_from_btfast(tmp_path: Path, hybrid: bool, seeder: Session) -> None:
    made = make_v2({"a": 400_000, "b/c": 70_000, "d": 5}, name="ours", hybrid=hybrid)
    made.lay_out(tmp_path / "source")
    await seeder.add(made.torrent, tmp_path / "source", seed=True)
    fetch(tmp_path, made, peers=(f"127.0.0.1:{await seeder.port()}",))


def test_writing_through_the_page_cache_is_the_same(tmp_path: Path, hybrid: bool) -> None:
    files = {"a.bin": 3 * MIB + 4097, "b.bin": 5, "c.bin": 2 * MIB + 1}
    made = make_v2(files, name="written", piece_length=256 << 10, hybrid=hybrid)
    with libtorrent_seeds(made, tmp_path / "source") as seeder:
        fetch(tmp_path, made, "--io", "buffered", peers=(seeder.address,))


def test_pieces_larger_than_memory_are_read_back(tmp_path: Path, hybrid: bool) -> None:
    made = make_v2({"a": 17 * MIB + 5, "b": 100_000}, name="large", piece_length=16 * MIB, hybrid=hybrid)
    with libtorrent_seeds(made, tmp_path / "source") as seeder:
        fetch(tmp_path, made, "--memory", "40MiB", peers=(seeder.address,))


def test_pads_of_a_hybrid_are_not_asked_for(tmp_path: Path) -> None:
    """60 small files in pieces of 256 KiB: 15 MiB of pads."""
    files = {f"{n}": n * 977 % 40_000 + 1 for n in range(60)}
    made = make_v2(files, name="pads", piece_length=256 << 10, hybrid=True)
    with libtorrent_seeds(made, tmp_path / "source") as seeder:
        outcome = fetch(tmp_path, made, peers=(seeder.address,))
    assert outcome.one("complete")["downloaded"] < len(made.data) + 60 * 16384


def test_chosen_files_arrive_first_and_the_rest_later(tmp_path: Path, hybrid: bool) -> None:
    made = make_v2({"a": 400_000, "b/c": 70_000, "d": 5, "e": 0, "f": 131072}, name="t", hybrid=hybrid)
    with libtorrent_seeds(made, tmp_path / "source") as seeder:
        words = ("--select", "*/c", "--select", "d")
        chosen = run(tmp_path, *get(made.save(tmp_path), *words, peers=(seeder.address,)))
        assert chosen.code == 0, chosen
        assert sorted(tree(tmp_path / "out")) == ["t/b/c", "t/d"]
        fetch(tmp_path, made, peers=(seeder.address,))
