"""Piece layers of a v2 torrent that nobody gives, or that come late (BEP 52): what can be verified is fetched meanwhile."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from support.commands import get, run, running
from support.torrents import PIECE, assert_arrived, tree
from support.v2_peers import Delays, HashPeer, Withholds, root_of
from support.v2_torrents import make_v2
from support.web_server import WebServer

from btfast import Session, Settings
from btfast.metainfo.torrent import Torrent

FILES = {"a.bin": 9 * PIECE + 5, "b.bin": 12 * PIECE, "c.bin": 100, "d.bin": 5 * PIECE}
MADE = make_v2(FILES, name="t")
BARE = make_v2(FILES, name="t", layers=False)
LINK = f"magnet:?xt=urn:btmh:1220{(Torrent.parse(MADE.torrent).info_hash_v2 or b'').hex()}"


def source(folder: Path, kind: str) -> str:
    return LINK if kind == "magnet" else str(BARE.save(folder))


@pytest.mark.parametrize("kind", ["torrent", "magnet"])
def test_all_but_the_file_without_a_layer_is_fetched_and_the_reason_names_it(tmp_path: Path, kind: str) -> None:
    with Withholds(MADE, "b.bin") as peer:
        outcome = run(tmp_path, *get(source(tmp_path, kind), "--peer-timeout", "3", peers=(peer.address,)))
    assert "the hashes of 1 file are missing (b.bin), and no peer sends them: 1 peer speaks v2" in outcome.error(3)
    found = tree(tmp_path / "out")
    found.pop("t/b.bin.part", None)
    assert found == {path: content for path, content in MADE.contents().items() if path != "t/b.bin"}
    assert {event["path"] for event in outcome.all("file")} == {"t/a.bin", "t/c.bin", "t/d.bin"}


@pytest.mark.parametrize("kind", ["torrent", "magnet"])
def test_a_layer_that_comes_when_all_else_is_there_is_enough(tmp_path: Path, kind: str) -> None:
    rest = sum(-(-length // 16384) for path, length in FILES.items() if path != "b.bin")
    with Delays(MADE, "b.bin", blocks=rest) as peer:
        outcome = run(tmp_path, *get(source(tmp_path, kind), peers=(peer.address,)))
    assert outcome.code == 0, outcome
    assert_arrived(MADE, tmp_path / "out")
    assert outcome.one("complete")["downloaded"] == len(MADE.data)


def test_layers_of_wanted_files_are_asked_for_first_and_those_of_others_are_not_waited_for(tmp_path: Path) -> None:
    chosen = ["--files", "2-3", "--select", "b.bin", "--priority", "b.bin=high"]
    with Withholds(MADE, "a.bin") as peer:
        outcome = run(tmp_path, *get(BARE.save(tmp_path), *chosen, peers=(peer.address,)))
    assert outcome.code == 0, outcome
    assert tree(tmp_path / "out") == {path: content for path, content in MADE.contents().items() if path != "t/a.bin"}
    asked = [wanted.root for wanted in peer.hash_requests]
    assert asked[:2] == [root_of(MADE, "b.bin"), root_of(MADE, "d.bin")]


def test_a_complete_file_proves_itself_by_its_root(tmp_path: Path) -> None:
    MADE.lay_out(tmp_path / "out")
    outcome = run(tmp_path, *get(BARE.save(tmp_path), "--peer-timeout", "3"))
    assert outcome.code == 0, outcome
    assert outcome.one("complete")["downloaded"] == 0
    assert_arrived(MADE, tmp_path / "out")


def test_what_lies_on_disk_is_looked_at_before_it_is_fetched_when_its_layer_comes(tmp_path: Path) -> None:
    MADE.lay_out(tmp_path / "out")
    path = tmp_path / "out" / "t" / "b.bin"
    damaged = bytearray(path.read_bytes())
    damaged[3 * PIECE + 7] ^= 1
    path.write_bytes(damaged)
    with HashPeer(MADE) as peer:
        outcome = run(tmp_path, *get(BARE.save(tmp_path), peers=(peer.address,)))
    assert outcome.code == 0, outcome
    assert outcome.one("complete")["downloaded"] == PIECE
    assert_arrived(MADE, tmp_path / "out")


async def test_a_complete_torrent_without_layers_is_served_and_so_are_its_layers(tmp_path: Path) -> None:
    MADE.lay_out(tmp_path / "data")
    async with Session(Settings(bind="127.0.0.1", port=0, workers=1, memory="32MiB", trackers=False)) as session:
        await session.add(BARE.torrent, tmp_path / "data", seed=True)
        address = f"127.0.0.1:{await session.port()}"
        outcome = await asyncio.to_thread(run, tmp_path, *get(LINK, peers=(address,)))
    assert outcome.code == 0, outcome
    assert_arrived(MADE, tmp_path / "out")


def test_another_run_asks_for_no_layer_again_and_goes_on_with_single_blocks(tmp_path: Path) -> None:
    made = make_v2({"a": 3 << 20, "b": 64 << 20}, name="big", piece_length=32 << 20)
    bare = make_v2({"a": 3 << 20, "b": 64 << 20}, name="big", piece_length=32 << 20, layers=False)
    torrent = bare.save(tmp_path)
    with HashPeer(made, rate=20_000_000) as peer:
        with running(tmp_path, *get(torrent, peers=(peer.address,))) as command:
            command.until(lambda: peer.blocks_sent > 600, "some blocks were sent")
            command.signal(signal.SIGINT)
            assert command.end().code == 7
    sent = peer.blocks_sent
    with HashPeer(made) as peer:
        outcome = run(tmp_path, *get(torrent, peers=(peer.address,)))
        assert outcome.code == 0, outcome
        assert peer.hash_requests == []
    assert sent + peer.blocks_sent < len(made.data) // 16384 + 300
    assert_arrived(made, tmp_path / "out")


def test_a_web_server_gives_what_can_be_verified_and_the_rest_is_named(tmp_path: Path) -> None:
    files = {f"/{path}": content for path, content in MADE.contents().items()}
    with WebServer(files) as server:
        outcome = run(tmp_path, *get(BARE.save(tmp_path), "--web-seed", f"{server.url}/", "--peer-timeout", "3"))
    assert "the hashes of 3 files are missing (a.bin, b.bin, d.bin), and no peer sends them: 0 peers" in outcome.error(3)
    assert {event["path"] for event in outcome.all("file")} == {"t/c.bin"}
    with WebServer(files) as server, Withholds(MADE, "a.bin") as peer:
        words = get(BARE.save(tmp_path), "--web-seed", f"{server.url}/", "--peer-timeout", "3", peers=(peer.address,))
        outcome = run(tmp_path, *words)
    assert "the hashes of 1 file are missing (a.bin), and no peer sends them: 1 peer speaks v2" in outcome.error(3)


def test_a_hybrid_waits_only_for_the_layers_that_are_missing_and_then_does_without(tmp_path: Path) -> None:
    made, bare = (make_v2(FILES, name="h", hybrid=True, layers=layers) for layers in (True, False))
    with Withholds(made, "b.bin", "d.bin") as peer:
        outcome = run(tmp_path, *get(bare.save(tmp_path), peers=(peer.address,)))
    assert outcome.code == 0, outcome
    assert tree(tmp_path / "out") == made.contents()
