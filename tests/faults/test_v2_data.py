"""Data and torrents of BitTorrent v2 that lie: bad blocks, halves of a hybrid that disagree."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from support import hostile_peers as hostile
from support.commands import get, run, running
from support.scripted_peer import Later, ScriptedPeer
from support.torrents import assert_arrived, some_written, tree
from support.v2_torrents import make_v2

from btfast._bencode import decode

PIECES = 900_001 // 65536 + 1


@pytest.mark.parametrize("hybrid", [False, True], ids=["v2", "hybrid"])
def test_who_sends_wrong_blocks_is_found_out_and_the_rest_arrives(tmp_path: Path, hybrid: bool) -> None:
    made = make_v2(900_001, hybrid=hybrid)
    with hostile.WrongData(made) as liar, Later(made, lambda: liar.blocks_sent >= 4) as honest:
        outcome = run(tmp_path, *get(made.save(tmp_path), peers=(liar.address, honest.address)))
    assert outcome.code == 0, outcome
    assert_arrived(made, tmp_path / "out")
    banned = {event["address"] for event in outcome.all("peer") if event["change"] == "banned"}
    assert banned == {liar.address}
    assert outcome.all("piece_failed")


def lying_hybrid(index: int) -> dict[str, object]:
    """What makes the v1 half describe another piece `index`."""
    info = decode(make_v2(900_001, hybrid=True).torrent)[b"info"]
    pieces = bytearray(info[b"pieces"])
    pieces[20 * index : 20 * index + 20] = hashlib.sha1(b"other").digest()
    return {"pieces": bytes(pieces)}


def test_halves_of_a_hybrid_that_disagree_end_it_with_the_reason(tmp_path: Path) -> None:
    made = make_v2(900_001, hybrid=True, change=lying_hybrid(5))
    with ScriptedPeer(made) as peer:
        outcome = run(tmp_path, *get(made.save(tmp_path), peers=(peer.address,)))
        assert outcome.error(4).endswith(
            "piece 5 is right by one half of this hybrid torrent and wrong by the other, so nothing can be right by both: "
            "get the torrent anew from where it came from"
        )
        assert not outcome.all("piece_failed"), "no peer is to blame"
    assert list(tree(tmp_path / "out")) == ["data.bin.part"]


def test_halves_that_disagree_are_found_on_disk(tmp_path: Path) -> None:
    made = make_v2(900_001, hybrid=True, change=lying_hybrid(PIECES - 1))
    made.lay_out(tmp_path / "out")
    outcome = run(tmp_path, *get(made.save(tmp_path)))
    assert f"piece {PIECES - 1} is right by one half" in outcome.error(4)
    assert tree(tmp_path / "out") == made.contents()


@pytest.mark.parametrize("hybrid", [False, True], ids=["v2", "hybrid"])
def test_a_download_that_was_interrupted_goes_on_from_what_is_right(tmp_path: Path, hybrid: bool) -> None:
    made = make_v2(900_001, hybrid=hybrid)
    torrent = made.save(tmp_path)
    with ScriptedPeer(made, holds=24) as peer:
        with running(tmp_path, *get(torrent, "-q", peers=(peer.address,))) as command:
            command.until(lambda: some_written(made, tmp_path / "out" / "data.bin.part"), "a piece is written")
            command.engine.kill()
            assert command.end().code != 0
    with ScriptedPeer(made) as peer:
        outcome = run(tmp_path, *get(torrent, peers=(peer.address,)))
    assert outcome.code == 0, outcome
    assert_arrived(made, tmp_path / "out")
    assert 0 < outcome.one("complete")["downloaded"] < len(made.data)
