"""libtorrent seeds, `btfast get` fetches: every shape of torrent, compared byte by byte."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from real_peers import needs_ipv6, padded_by_libtorrent, tracker
from support.commands import Outcome, get, run, running
from support.libtorrent_peer import Libtorrent, libtorrent_seeds
from support.torrents import Made, assert_arrived, make, tree

MIB = 1 << 20
MANY = {f"{n % 17}/{n}.bin": random.Random(n).randrange(3000) for n in range(300)}
SHAPES = {
    "one odd file": make(1_000_003),
    "less than a block": make(100),
    "a last block of one byte": make(20 * 16384 + 1, piece_length=32768),
    "whole pieces only": make(8 * 65536),
    "pieces of 16 KiB": make(700_001, piece_length=16384),
    "pieces of 4 MiB": make(9 * MIB + 17, piece_length=4 * MIB),
    "pieces of no power of two": make(500_000, piece_length=3 * 16384),
    "a directory of odd sizes": make({"a": 70_001, "b/c": 1, "b/d/e": 33_333, "f": 200_000, "g": 16384}, name="odd"),
    "files without a byte": make({"a": 0, "b": 50_000, "c/d": 0, "e": 0, "f": 12_345, "g": 0}, name="empty"),
    "300 small files": make(MANY, name="many", piece_length=32768),
    "names that are not ASCII": make({"päth/ファイル.bin": 30_000, "a b/c'd.bin": 10_000}, name="Ünïcode"),
}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def made(request: pytest.FixtureRequest) -> Made:
    chosen: Made = request.param
    return chosen


SYNCS = 100.0  # seconds: hundreds of files are made durable one by one, on a disk that others may load


def fetch(home: Path, made: Made, *peers: Libtorrent, words: tuple[str, ...] = ()) -> Outcome:
    """Runs `btfast get` to its end, and checks that everything has arrived and was reported."""
    outcome = run(home, *get(made.save(home), *words, peers=tuple(peer.address for peer in peers)), patience=SYNCS)
    assert outcome.code == 0, outcome
    assert_arrived(made, home / "out")
    complete = outcome.one("complete")
    assert complete["bytes"] == len(made.data)
    assert complete["downloaded"] >= len(made.data)
    assert sorted(complete["files"]) == sorted(made.files)
    assert sorted(event["path"] for event in outcome.all("file")) == sorted(made.files)
    return outcome


@pytest.mark.timeout(150)
def test_every_shape_arrives(tmp_path: Path, made: Made) -> None:
    with libtorrent_seeds(made, tmp_path / "source") as seeder:
        fetch(tmp_path, made, seeder)


@pytest.mark.parametrize("io", ["auto", "direct", "buffered"])
@pytest.mark.parametrize("workers", ["1", "3"])
def test_each_way_of_writing_is_the_same(tmp_path: Path, io: str, workers: str) -> None:
    made = make({"a.bin": 3 * MIB + 4097, "b.bin": 5, "c.bin": 4 * MIB + 1}, name="written", piece_length=256 << 10)
    with libtorrent_seeds(made, tmp_path / "source") as seeder:
        fetch(tmp_path, made, seeder, words=("--io", io, "--workers", workers))


def test_pad_files_are_left_out(tmp_path: Path) -> None:
    lengths = {"a": 70_001, "b/c": 1, "b/d": 300_000, "e": 65536, "f": 5000}
    torrent = padded_by_libtorrent(tmp_path / "source", "padded", lengths, piece_length=65536)
    (tmp_path / "padded.torrent").write_bytes(torrent)
    assert b"4:attr1:p" in torrent
    with Libtorrent() as seeder:
        seeder.add(torrent, tmp_path / "source", seed=True)
        outcome = run(tmp_path, *get("padded.torrent", peers=(seeder.address,)))
    assert outcome.code == 0, outcome
    assert tree(tmp_path / "out") == tree(tmp_path / "source")


def test_several_seeders_share_the_work(tmp_path: Path) -> None:
    made = make(6 * MIB, piece_length=128 << 10)
    with ExitStack() as stack:
        seeders = [stack.enter_context(libtorrent_seeds(made, tmp_path / f"source{n}", rate=MIB)) for n in range(3)]
        outcome = fetch(tmp_path, made, *seeders)
        sent = [status.total_payload_upload for seeder in seeders for status in seeder.statuses()]
    assert len({event["address"] for event in outcome.all("peer") if event["change"] == "connected"}) == 3
    assert all(count > MIB // 4 for count in sent), sent


def split(made: Made, folder: Path, pieces: set[int]) -> Path:
    """The torrent's files with only those pieces right."""
    data = bytearray(len(made.data))
    for index in pieces:
        begin = index * made.piece_length
        data[begin : begin + made.piece_length] = made.data[begin : begin + made.piece_length]
    made._replace(data=bytes(data)).lay_out(folder)
    return folder


def test_seeders_that_have_a_part_each_are_enough_together(tmp_path: Path) -> None:
    made = make({"a": 700_000, "b": 900_001}, name="parts")
    every = set(range(made.pieces))
    with Libtorrent() as one, Libtorrent() as two, Libtorrent() as three:
        for number, peer in enumerate((one, two, three)):
            part = {index for index in every if index % 3 == number}
            peer.add_what_is_there(made.torrent, split(made, tmp_path / f"source{number}", part))
        fetch(tmp_path, made, one, two, three)


def test_what_nobody_has_is_waited_for_and_the_rest_is_kept(tmp_path: Path) -> None:
    made = make(1_600_000)
    have = set(range(made.pieces)) - {7}
    with Libtorrent() as peer:
        peer.add_what_is_there(made.torrent, split(made, tmp_path / "source", have))
        outcome = run(tmp_path, *get(made.save(tmp_path), "--max-time", "4", peers=(peer.address,)))
    assert outcome.code == 8
    assert outcome.one("failed")["done"] == len(made.data) - 65536
    assert sorted(tree(tmp_path / "out")) == ["data.bin.part"]
    with libtorrent_seeds(made, tmp_path / "whole") as seeder:
        outcome = run(tmp_path, *get(made.save(tmp_path), peers=(seeder.address,)))
    assert outcome.code == 0
    assert outcome.one("complete")["downloaded"] == 65536
    assert_arrived(made, tmp_path / "out")


def test_a_seeder_that_leaves_midway_is_replaced(tmp_path: Path) -> None:
    made = make(4 * MIB)
    with (
        libtorrent_seeds(made, tmp_path / "one", rate=MIB) as one,
        libtorrent_seeds(made, tmp_path / "two", rate=MIB) as two,
    ):
        with running(tmp_path, *get(made.save(tmp_path), peers=(one.address, two.address))) as command:
            command.until(
                lambda: all(s.total_payload_upload > 200_000 for p in (one, two) for s in p.statuses()), "both send"
            )
            one.leave()
            outcome = command.end()
    assert outcome.code == 0, outcome
    assert_arrived(made, tmp_path / "out")


def test_a_file_has_its_final_name_only_when_it_is_complete(tmp_path: Path) -> None:
    made = make({"one.bin": 300_000, "two.bin": 3 * MIB}, name="parts")
    seen: set[str] = set()

    def look() -> bool:
        for path in (tmp_path / "out").rglob("*.bin"):
            name = str(path.relative_to(tmp_path / "out"))
            assert path.read_bytes() == made.contents()[name], f"{name} has its final name and is not complete"
            seen.add(name)
        seen.update(path.name for path in (tmp_path / "out").rglob("*.part"))
        return "parts/one.bin" in seen and "two.bin.part" in seen

    with libtorrent_seeds(made, tmp_path / "source", rate=MIB) as seeder:
        with running(tmp_path, *get(made.save(tmp_path), peers=(seeder.address,))) as command:
            while command.process.poll() is None:
                look()
            outcome = command.end()
    assert outcome.code == 0, outcome
    assert {"one.bin.part", "two.bin.part", "parts/one.bin"} <= seen
    assert_arrived(made, tmp_path / "out")


@pytest.fixture
def announce(tmp_path: Path) -> Iterator[str]:
    with tracker(tmp_path) as url:
        yield url


def test_the_tracker_leads_to_the_seeder(tmp_path: Path, announce: str) -> None:
    made = make({"a": 500_000, "b": 300_001}, name="tracked", announce=[[announce]])
    with Libtorrent() as seeder:
        made.lay_out(tmp_path / "source")
        handle = seeder.add(made.torrent, tmp_path / "source", seed=True)
        seeder.announced(handle)
        outcome = run(tmp_path, *get(made.save(tmp_path), trackers=True))
    assert outcome.code == 0, outcome
    assert outcome.warnings == []
    assert_arrived(made, tmp_path / "out")


def test_it_works_over_ipv6(tmp_path: Path) -> None:
    needs_ipv6()
    made = make(900_001)
    with libtorrent_seeds(made, tmp_path / "source", host="::1") as seeder:
        outcome = run(tmp_path, *get(made.save(tmp_path), "--bind", "::1", peers=(seeder.address,)))
    assert outcome.code == 0, outcome
    assert_arrived(made, tmp_path / "out")


def test_the_tracker_leads_to_the_seeder_over_ipv6(tmp_path: Path) -> None:
    needs_ipv6()
    with tracker(tmp_path, "::1") as url:
        made = make(300_001, announce=[[url]])
        with Libtorrent("::1") as seeder:
            made.lay_out(tmp_path / "source")
            seeder.announced(seeder.add(made.torrent, tmp_path / "source", seed=True))
            outcome = run(tmp_path, *get(made.save(tmp_path), "--bind", "::1", trackers=True))
    assert outcome.code == 0, outcome
    assert_arrived(made, tmp_path / "out")
