"""Two who want to write the same files: one does, the other is told; and nobody else is kept waiting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.commands import PATIENCE, Outcome, get, run, running
from support.scripted_peer import ScriptedPeer, serving
from support.torrents import Made, assert_arrived, make, tree

SINGLE = make(2_000_001)
TREE = make({"a.bin": 1_000_000, "sub/b.bin": 1_000_001}, name="tree")


def busy(done: Outcome, failed: dict[str, Any], place: Path) -> None:
    line = done.error(10)
    assert str(place) in line
    assert "another btfast, or another item of this run, is writing it" in line
    assert (failed["kind"], failed["exit_code"]) == ("DestinationBusyError", 10)


@pytest.mark.parametrize("made", [SINGLE, TREE], ids=["file", "directory"])
def test_a_second_btfast_in_the_same_place_ends_with_10(tmp_path: Path, made: Made) -> None:
    with ScriptedPeer(made, holds=12) as peer:
        words = get(made.save(tmp_path), peers=(peer.address,))
        with running(tmp_path, *words) as first:
            first.until(lambda: peer.blocks_sent == 12, "the first is at work")
            second = run(tmp_path, *words)
            busy(second, second.one("failed"), tmp_path / "out" / made.name)
            assert first.process.poll() is None
            peer.go_on()
            done = first.end()
    assert (done.code, done.err) == (0, "")
    assert_arrived(made, tmp_path / "out")


def test_two_btfasts_with_different_torrents_share_a_directory(tmp_path: Path) -> None:
    with serving(ScriptedPeer(SINGLE, holds=12), ScriptedPeer(TREE)) as (slow, quick):
        with running(tmp_path, *get(SINGLE.save(tmp_path), peers=(slow.address,))) as first:
            first.until(lambda: slow.blocks_sent == 12, "the first is at work")
            assert run(tmp_path, *get(TREE.save(tmp_path), peers=(quick.address,))).code == 0
            assert first.process.poll() is None
            slow.go_on()
            assert first.end().code == 0
    assert tree(tmp_path / "out") == SINGLE.contents() | TREE.contents()


def test_a_place_is_free_again_when_its_holder_was_killed(tmp_path: Path) -> None:
    with ScriptedPeer(SINGLE, holds=12) as peer:
        words = get(SINGLE.save(tmp_path), peers=(peer.address,))
        with running(tmp_path, *words) as first:
            first.until(lambda: peer.blocks_sent == 12, "the first is at work")
            engine = first.engine
            engine.kill()
            engine.wait(PATIENCE)
            first.end()
        peer.go_on()
        assert run(tmp_path, *words).code == 0
    assert_arrived(SINGLE, tmp_path / "out")


def test_a_finished_download_that_is_served_on_does_not_hold_its_place(tmp_path: Path) -> None:
    with ScriptedPeer(SINGLE) as peer:
        words = get(SINGLE.save(tmp_path), peers=(peer.address,))
        with running(tmp_path, *words, "--seed-time", "600") as first:
            first.until((tmp_path / "out" / "data.bin").exists, "the first is complete")
            first.until(lambda: peer.links[0].closed.is_set(), "it has let the seed go")
            second = run(tmp_path, *words)
    assert (second.code, second.one("complete")["downloaded"]) == (0, 0)


def test_two_torrents_of_a_list_that_write_the_same_file(tmp_path: Path) -> None:
    """Different contents under one name: the first to begin gets the place, the other is told."""
    other = make(2_000_001, seed=1)
    assert other.name == SINGLE.name
    with serving(ScriptedPeer(SINGLE, holds=12), ScriptedPeer(other)) as peers:
        torrents = (SINGLE.save(tmp_path, "first"), other.save(tmp_path, "second"))
        with running(tmp_path, *get(*torrents, peers=tuple(peer.address for peer in peers))) as command:
            failed = command.next_event("failed")
            peers[0].go_on()
            done = command.end()
    busy(done, failed, tmp_path / "out" / "data.bin")
    assert done.one("complete")["source"] == str(torrents[0])
    assert_arrived(SINGLE, tmp_path / "out")


def test_the_same_torrent_twice_in_a_list_is_fetched_once(tmp_path: Path) -> None:
    torrent = SINGLE.save(tmp_path)
    with ScriptedPeer(SINGLE) as peer:
        done = run(tmp_path, *get(torrent, torrent, torrent, peers=(peer.address,)))
    assert (done.code, done.err) == (0, "")
    assert sorted(event["downloaded"] for event in done.all("complete")) == [0, 0, len(SINGLE.data)]
    assert_arrived(SINGLE, tmp_path / "out")
    assert peer.blocks_sent <= -(-len(SINGLE.data) // 16384)


def test_the_same_torrent_into_two_directories_arrives_in_both(tmp_path: Path) -> None:
    torrent = SINGLE.save(tmp_path)
    (tmp_path / "list").write_text(f"{torrent}\tone\n{torrent}\ttwo\n")
    with ScriptedPeer(SINGLE) as peer:
        done = run(tmp_path, *get("-i", "list", peers=(peer.address,)))
    assert (done.code, done.err) == (0, "")
    assert_arrived(SINGLE, tmp_path / "one")
    assert_arrived(SINGLE, tmp_path / "two")
