"""btfast seeds, libtorrent and btfast itself fetch, directly and through the tracker; then a swarm that trades."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from real_peers import needs_ipv6, padded_by_libtorrent, tracker
from support.commands import get, run, running
from support.libtorrent_peer import Libtorrent, finish, libtorrent_seeds
from support.torrents import Made, assert_arrived, make, tree

from btfast.client.session import Session
from btfast.config import Settings

MIB = 1 << 20
LOCAL = Settings(bind="127.0.0.1", port=0, workers=1, memory="32MiB", trackers=False)
TRACKED = Settings(bind="127.0.0.1", port=0, workers=1, memory="32MiB")
SHAPES = {
    "one odd file": make(1_500_003),
    "a last block of one byte": make(20 * 16384 + 1, piece_length=32768),
    "pieces of 16 KiB": make(700_001, piece_length=16384),
    "pieces of 4 MiB": make(9 * MIB + 17, piece_length=4 * MIB),
    "a directory": make({"a": 70_001, "b/c": 1, "b/d/e": 33_333, "f": 0, "g": 200_000}, name="odd"),
    "300 small files": make({f"{n % 17}/{n}.bin": n * 7 % 3000 for n in range(300)}, name="many"),
}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def made(request: pytest.FixtureRequest) -> Made:
    chosen: Made = request.param
    return chosen


@pytest_asyncio.fixture
async def seeder() -> AsyncIterator[Session]:
    async with Session(LOCAL) as session:
        yield session


async def serve(session: Session, made: Made, folder: Path) -> str:
    """Lets the session seed; returns where it listens."""
    made.lay_out(folder)
    await session.add(made.torrent, folder, seed=True)
    return f"127.0.0.1:{await session.port()}"


def leech(peer: Libtorrent, torrent: bytes, folder: Path, address: str) -> None:
    """Lets libtorrent fetch everything from one address."""
    folder.mkdir()
    handle = peer.add(torrent, folder)
    host, _, port = address.rpartition(":")
    handle.connect_peer((host.strip("[]"), int(port)))
    finish(handle)


async def test_libtorrent_fetches_every_shape(tmp_path: Path, made: Made, seeder: Session) -> None:
    address = await serve(seeder, made, tmp_path / "source")
    with Libtorrent() as peer:
        leech(peer, made.torrent, tmp_path / "out", address)
    assert_arrived(made, tmp_path / "out")


async def test_pad_files_are_served_though_they_are_not_there(tmp_path: Path, seeder: Session) -> None:
    lengths = {"a": 70_001, "b/c": 1, "b/d": 300_000, "e": 65536, "f": 5000}
    torrent = padded_by_libtorrent(tmp_path / "source", "padded", lengths, piece_length=65536)
    await seeder.add(torrent, tmp_path / "source", seed=True)
    with Libtorrent() as peer:
        leech(peer, torrent, tmp_path / "out", f"127.0.0.1:{await seeder.port()}")
    assert tree(tmp_path / "out") == tree(tmp_path / "source")


async def test_several_fetch_at_once(tmp_path: Path, seeder: Session) -> None:
    made = make(3 * MIB + 5)
    address = await serve(seeder, made, tmp_path / "source")
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    torrent = made.save(tmp_path)
    with Libtorrent() as one, Libtorrent() as two, running(tmp_path, *get(torrent, peers=(address,))) as third:
        handles = [peer.add(made.torrent, tmp_path / name) for name, peer in (("one", one), ("two", two))]
        for handle in handles:
            handle.connect_peer(("127.0.0.1", await seeder.port()))
        for handle in handles:
            finish(handle)
        assert third.end().code == 0
    for name in ("one", "two", "out"):
        assert_arrived(made, tmp_path / name)


async def test_it_serves_over_ipv6(tmp_path: Path) -> None:
    needs_ipv6()
    made = make(900_001)
    async with Session(Settings(bind="::1", port=0, workers=1, memory="32MiB", trackers=False)) as session:
        await serve(session, made, tmp_path / "source")
        with Libtorrent("::1") as peer:
            leech(peer, made.torrent, tmp_path / "out", f"[::1]:{await session.port()}")
    assert_arrived(made, tmp_path / "out")


async def test_the_tracker_brings_libtorrent_to_us(tmp_path: Path) -> None:
    with tracker(tmp_path) as url:
        made = make({"a": 500_000, "b": 300_001}, name="tracked", announce=[[url]])
        made.lay_out(tmp_path / "source")
        (tmp_path / "out").mkdir()
        async with Session(TRACKED) as session:
            await session.add(made.torrent, tmp_path / "source", seed=True)
            with Libtorrent() as peer:
                finish(peer.add(made.torrent, tmp_path / "out"))
    assert_arrived(made, tmp_path / "out")


def test_the_command_serves_until_its_ratio_is_reached(tmp_path: Path) -> None:
    with tracker(tmp_path) as url:
        made = make(800_001, announce=[[url]])
        made.lay_out(tmp_path / "source")
        torrent = made.save(tmp_path)
        words = (
            "seed",
            torrent,
            "--data",
            tmp_path / "source",
            "--bind",
            "127.0.0.1",
            "--port",
            "0",
            "--seed-ratio",
            "1",
        )
        with running(tmp_path, *words, "--json") as seed:
            outcome = run(tmp_path, *get(torrent, trackers=True))
            seeded = seed.end()
    assert outcome.code == 0, outcome
    assert_arrived(made, tmp_path / "out")
    assert seeded.code == 0, seeded
    assert seeded.one("complete")["uploaded"] >= len(made.data)
    assert tree(tmp_path / "source") == tree(tmp_path / "out"), "what is served stays as it is"
    again = run(tmp_path, *words, "--json")  # what was uploaded before counts
    assert (again.code, again.one("complete")["uploaded"]) == (0, 0)


async def test_btfast_fetches_from_btfast(tmp_path: Path, made: Made, seeder: Session) -> None:
    address = await serve(seeder, made, tmp_path / "source")
    outcome = run(tmp_path, *get(made.save(tmp_path), peers=(address,)))
    assert outcome.code == 0, outcome
    assert_arrived(made, tmp_path / "out")


async def test_a_list_of_torrents_comes_from_one_seeder(tmp_path: Path, seeder: Session) -> None:
    all_made = [make(40_000 + 1000 * n, name=f"item{n}.bin", seed=n, piece_length=16384) for n in range(30)]
    for made in all_made:
        address = await serve(seeder, made, tmp_path / "source")
    sources = [made.save(tmp_path) for made in all_made]
    outcome = run(tmp_path, *get(*sources, "-j", "10", peers=(address,)))
    assert outcome.code == 0, outcome
    assert len(outcome.all("complete")) == 30
    assert tree(tmp_path / "out") == tree(tmp_path / "source")


async def test_a_swarm_trades_among_its_leechers(tmp_path: Path) -> None:
    """One slow libtorrent seeder, three btfast and two libtorrent leechers that find one another by the tracker."""
    with tracker(tmp_path) as url, ExitStack() as peers:
        made = make(5 * MIB + 77, announce=[[url]], piece_length=32768)
        seed = peers.enter_context(libtorrent_seeds(made, tmp_path / "source", rate=MIB))
        seed.announced(seed.handles()[0])
        handles = []
        for name in ("four", "five"):
            (tmp_path / name).mkdir()
            handles.append(peers.enter_context(Libtorrent()).add(made.torrent, tmp_path / name))
        async with AsyncExitStack() as sessions:
            downloads = []
            for name in ("one", "two", "three"):
                session = await sessions.enter_async_context(Session(TRACKED))
                downloads.append(await session.add(made.torrent, tmp_path / name))
            results = [await download for download in downloads]
            for handle in handles:
                finish(handle)
        sent_by_seed = seed.statuses()[0].total_payload_upload
    for name in ("one", "two", "three", "four", "five"):
        assert_arrived(made, tmp_path / name)
    assert sum(result.uploaded for result in results) > 0
    assert sent_by_seed < 4 * len(made.data), (
        "five copies arrived, so the leechers must have had blocks from one another"
    )
