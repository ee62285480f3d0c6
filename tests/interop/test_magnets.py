"""Magnet links with real clients: they send us the metadata and the data, and we send them both."""

from __future__ import annotations

from pathlib import Path

from support.commands import Outcome, get, run
from support.libtorrent_peer import Libtorrent, finish, libtorrent_seeds
from support.torrents import Made, assert_arrived, make

from btfast.client.session import Session
from btfast.config import Settings

SMALL = make({"a": 70_001, "b/c": 1, "d": 400_000}, name="small")
LARGE = make({"a": 300_001, "b/c": 5}, name="large", info_bytes=100_000)  # metadata of seven pieces
SETTINGS = Settings(bind="127.0.0.1", port=0, workers=1, memory="32MiB")


def link(made: Made, *peers: str) -> str:
    return f"magnet:?xt=urn:btih:{made.info_hash.hex()}" + "".join(f"&x.pe={peer}" for peer in peers)


def fetched(home: Path, made: Made, *words: str, peers: tuple[str, ...] = ()) -> Outcome:
    outcome = run(home, *get(*words, peers=peers))
    assert outcome.code == 0, outcome
    assert_arrived(made, home / "out")
    assert outcome.one("metadata")["info_hash"] == made.info_hash.hex()
    return outcome


def test_libtorrent_sends_metadata_and_data(tmp_path: Path) -> None:
    for number, made in enumerate((SMALL, LARGE)):
        (tmp_path / str(number)).mkdir()
        with libtorrent_seeds(made, tmp_path / f"source{number}") as seeder:
            outcome = fetched(tmp_path / str(number), made, link(made, seeder.address))
        connected = [event for event in outcome.all("peer") if event["change"] == "connected"]
        assert len(connected) == 1, "the connection that brought the metadata brought the data as well"
        assert outcome.warnings == []


def test_a_bare_info_hash_and_a_peer_are_enough(tmp_path: Path) -> None:
    with libtorrent_seeds(SMALL, tmp_path / "source") as seeder:
        fetched(tmp_path, SMALL, SMALL.info_hash.hex(), peers=(seeder.address,))


def test_a_second_run_does_not_ask_for_the_metadata_again(tmp_path: Path) -> None:
    with libtorrent_seeds(SMALL, tmp_path / "source") as seeder:
        fetched(tmp_path, SMALL, link(SMALL, seeder.address))
    outcome = fetched(tmp_path, SMALL, link(SMALL))
    assert outcome.one("complete")["limited_by"] == "nothing to do"


async def test_libtorrent_has_metadata_and_data_from_us(tmp_path: Path) -> None:
    for number, made in enumerate((SMALL, LARGE)):
        made.lay_out(tmp_path / f"source{number}")
        async with Session(SETTINGS) as session:
            await session.add(made.torrent, tmp_path / f"source{number}", seed=True)
            with Libtorrent() as leecher:
                handle = leecher.add_magnet(link(made), tmp_path / f"out{number}")
                handle.connect_peer(("127.0.0.1", await session.port()))
                finish(handle)
        assert_arrived(made, tmp_path / f"out{number}")


async def test_from_btfast_to_btfast(tmp_path: Path) -> None:
    LARGE.lay_out(tmp_path / "source")
    async with Session(SETTINGS) as session:
        await session.add(LARGE.torrent, tmp_path / "source", seed=True)
        port = await session.port()
        theirs = Settings(bind="127.0.0.1", port=0, workers=1, memory="32MiB", state=str(tmp_path / "state"))
        async with Session(theirs) as other:
            await (await other.add(link(LARGE, f"127.0.0.1:{port}"), tmp_path / "out"))
    assert_arrived(LARGE, tmp_path / "out")
