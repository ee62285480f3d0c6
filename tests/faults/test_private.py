"""A private torrent (BEP 27) on the wire: its trackers are the only ones who hear of it, and who are heard."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.commands import get, run
from support.gossip import Gossip
from support.scripted_peer import ScriptedPeer
from support.torrents import Made, assert_arrived, make

from btfast.metainfo.addresses import PeerAddress

PRIVATE = make(300_001, private=True)
OPEN = make(300_001)


@pytest.mark.parametrize("made", [PRIVATE, OPEN], ids=["private", "open"])
def test_peers_are_not_asked_for_others_and_not_believed(tmp_path: Path, made: Made) -> None:
    """The open torrent shows that the way is there."""
    private = made is PRIVATE
    trap = ScriptedPeer(made)
    with trap, Gossip(made, [PeerAddress("127.0.0.1", trap.port)]) as peer:
        peer.rate = 150_000  # it lasts two seconds
        done = run(tmp_path, *get(made.save(tmp_path), peers=(peer.address,)))
        assert done.code == 0, done
        assert_arrived(made, tmp_path / "out")
        (said,) = peer.introductions
    assert ("ut_pex" not in said.m) is private
    assert (not trap.links) is private


@pytest.mark.parametrize(("made", "words"), [(PRIVATE, ()), (OPEN, ("--no-dht",)), (OPEN, ())], ids=["private", "off", "open"])
def test_the_handshake_offers_the_dht_for_open_torrents_only(tmp_path: Path, made: Made, words: tuple[str, ...]) -> None:
    with ScriptedPeer(made) as peer:
        done = run(tmp_path, *get(made.save(tmp_path), *words, peers=(peer.address,)))
        assert done.code == 0, done
        assert [link.handshake.dht for link in peer.links if link.handshake is not None] == [made is OPEN and not words]
