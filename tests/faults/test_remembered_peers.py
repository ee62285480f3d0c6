"""Peers and trackers that were good to one run are tried by the next."""

from __future__ import annotations

import signal
from pathlib import Path

from support.commands import get, run, running
from support.scripted_peer import ScriptedPeer
from support.torrents import Made, assert_arrived, make

MADE = make(3_000_001)
PRIVATE = make(3_000_001, name="private.bin", private=True)


def begin(root: Path, made: Made, peer: ScriptedPeer) -> None:
    """A run that is interrupted in the middle."""
    with running(root, *get(made.save(root), peers=(peer.address,))) as command:
        command.until(lambda: peer.blocks_sent > 40, "some blocks were sent")
        command.signal(signal.SIGINT)
        assert command.end().code == 7


def test_a_peer_of_an_earlier_run_is_found_again(tmp_path: Path) -> None:
    with ScriptedPeer(MADE, holds=48) as peer:
        begin(tmp_path, MADE, peer)
        peer.go_on()
        done = run(tmp_path, *get(MADE.save(tmp_path)))
    assert (done.code, done.err) == (0, "")
    assert 0 < done.one("complete")["downloaded"] < len(MADE.data)
    assert_arrived(MADE, tmp_path / "out")


def test_nobody_but_its_trackers_names_peers_of_a_private_torrent(tmp_path: Path) -> None:
    with ScriptedPeer(PRIVATE, holds=48) as peer:
        begin(tmp_path, PRIVATE, peer)
        links = len(peer.links)
        done = run(tmp_path, *get(PRIVATE.save(tmp_path), "--peer-timeout", "1"))
        assert done.code == 3
        assert len(peer.links) == links
