"""Peers that the user names by host name, and piece failures that say nothing about the torrent."""

from __future__ import annotations

from pathlib import Path

from support import hostile_peers as hostile
from support.commands import get, run, running
from support.scripted_peer import Later, ScriptedPeer, serving
from support.torrents import assert_arrived, make


def test_a_peer_is_found_by_its_name(tmp_path: Path) -> None:
    made = make(300_000)
    with ScriptedPeer(made) as peer:
        done = run(tmp_path, *get(made.save(tmp_path), peers=(f"localhost:{peer.port}",)))
    assert (done.code, done.err) == (0, "")
    assert_arrived(made, tmp_path / "out")
    assert {event["address"] for event in done.all("peer") if event["change"] == "connected"} == {peer.address}


def test_a_liar_found_by_its_name_is_banned(tmp_path: Path) -> None:
    made = make(300_000)
    with hostile.WrongData(made) as liar:
        done = run(tmp_path, *get(made.save(tmp_path), peers=(f"localhost:{liar.port}",)))
    assert "banned" in done.error(4)
    assert [event["address"] for event in done.all("peer") if event["change"] == "banned"] == [liar.address]


def test_a_name_that_does_not_exist_is_told_and_the_others_are_asked(tmp_path: Path) -> None:
    made = make(300_000)
    with ScriptedPeer(made, holds=4) as peer:
        with running(tmp_path, *get(made.save(tmp_path), peers=("nobody.invalid:1", peer.address))) as command:
            assert "nobody.invalid" in command.next_event("warning")["message"]
            peer.go_on()
            done = command.end()
    assert done.code == 0
    assert_arrived(made, tmp_path / "out")
    assert done.warnings == []


def test_only_names_that_do_not_exist_are_no_peers(tmp_path: Path) -> None:
    made = make(300_000)
    done = run(tmp_path, *get(made.save(tmp_path), "--peer-timeout", "600", peers=("nobody.invalid:1",)))  # nobody waits for
    assert "no peers" in done.error(3)
    assert "nobody.invalid" in done.warnings[0]


def test_many_liars_on_one_host_do_not_make_the_torrent_look_damaged(tmp_path: Path) -> None:
    made = make(16384, piece_length=16384)
    liars = [hostile.WrongData(made) for _ in range(24)]
    last = Later(made, lambda: all(liar.blocks_sent for liar in liars))
    with serving(*liars, last) as peers:
        done = run(tmp_path, *get(made.save(tmp_path), peers=tuple(peer.address for peer in peers)))
    assert (done.code, done.err) == (0, "")
    assert_arrived(made, tmp_path / "out")
    assert len(done.all("piece_failed")) >= 20
