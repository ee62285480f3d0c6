"""The two swarms of a hybrid (BEP 52): announced and joined at once, and one peer in both is one peer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import get, run
from support.scripted_peer import Gone, Link, ScriptedPeer
from support.scripted_tracker import Exchange, ScriptedTracker
from support.torrents import assert_arrived, make
from support.v2_peers import HashPeer
from support.v2_torrents import make_v2

from btfast.metainfo.torrent import Torrent
from btfast.wire.handshake import decode_handshake, encode_handshake

SIZE = 900_001
MADE = make_v2(SIZE, hybrid=True)
V1, V2 = Torrent.parse(MADE.torrent).swarm_hashes


class Knows(ScriptedPeer):
    """A peer that knows the torrent by one of its hashes alone."""

    def __init__(self, info_hash: bytes) -> None:
        super().__init__(MADE)
        self.info_hash = info_hash
        self.said: list[tuple[bytes, bool]] = []

    def on_handshake(self, link: Link) -> None:
        link.handshake = decode_handshake(link.read(68))
        self.said.append((link.handshake.info_hash, link.handshake.v2_upgrade))
        if link.handshake.info_hash != self.info_hash:
            raise Gone
        link.send(self.handshake())

    def handshake(self) -> bytes:
        whole = super().handshake()
        return whole[:28] + self.info_hash + whole[48:]


def only_in(info_hash: bytes, peer: ScriptedPeer) -> Callable[[Exchange], None]:
    """A tracker's answer: the peer is in the swarm of that hash and in no other."""
    return lambda exchange: exchange.peers(*([peer.address] if exchange.info_hash == info_hash else []))


def fetch(home: Path, announce: str, *words: str) -> object:
    made = make_v2(SIZE, hybrid=True, announce=[[announce]])
    assert made.info_hash == MADE.info_hash
    outcome = run(home, *get(made.save(home), *words, trackers=True))
    assert outcome.code == 0, outcome
    assert_arrived(MADE, home / "out")
    return outcome


def test_a_peer_of_the_v2_swarm_alone_is_found_there_and_greeted_by_that_hash(tmp_path: Path) -> None:
    with Knows(V2) as peer:
        with ScriptedTracker(only_in(V2, peer)) as tracker:
            fetch(tmp_path, tracker.url)
            heard = [(exchange.info_hash, exchange.query.get("event")) for exchange in tracker.exchanges]
        assert peer.said == [(V2, False)]
    assert [event for info_hash, event in heard if info_hash == V2] == ["started", "completed", "stopped"]
    assert (V1, "started") in heard


def test_a_peer_of_both_swarms_is_one_peer(tmp_path: Path) -> None:
    with HashPeer(MADE) as peer, ScriptedTracker(lambda exchange: exchange.peers(peer.address)) as tracker:
        outcome = fetch(tmp_path, tracker.url)
        assert len(peer.links) == 1
        assert {exchange.info_hash for exchange in tracker.exchanges} == {V1, V2}
    connected = [event for event in outcome.all("peer") if event["change"] == "connected"]  # type: ignore[attr-defined]
    assert len(connected) == 1


def test_a_peer_of_v1_alone_is_greeted_by_v1_and_told_of_v2(tmp_path: Path) -> None:
    with Knows(V1) as peer, ScriptedTracker(only_in(V1, peer)) as tracker:
        fetch(tmp_path, tracker.url)
        assert peer.said == [(V1, True)]


def test_the_upgrade_bit_is_never_said_of_a_v1_torrent(tmp_path: Path) -> None:
    made = make(300_000)
    with ScriptedPeer(made) as peer:
        assert run(tmp_path, *get(made.save(tmp_path), peers=(peer.address,))).code == 0
        assert [link.handshake.v2_upgrade for link in peer.links if link.handshake] == [False]


@pytest.mark.parametrize("answer", [V1, V2], ids=["v1", "v2"])
def test_either_hash_is_a_good_answer(tmp_path: Path, answer: bytes) -> None:
    class Answers(Knows):
        def on_handshake(self, link: Link) -> None:
            link.handshake = decode_handshake(link.read(68))
            link.send(encode_handshake(answer, self.peer_id))

    with Answers(answer) as peer:
        outcome = run(tmp_path, *get(MADE.save(tmp_path), peers=(peer.address,)))
        assert outcome.code == 0, outcome
    assert_arrived(MADE, tmp_path / "out")


def test_a_hybrid_without_layers_has_them_before_its_data_or_does_with_v1_where_nobody_has_them(tmp_path: Path) -> None:
    bare = make_v2(SIZE, hybrid=True, layers=False)
    for number, peer in enumerate((HashPeer(MADE), Knows(V1))):
        home = tmp_path / str(number)
        home.mkdir()
        with peer:
            outcome = run(home, *get(bare.save(home), peers=(peer.address,)))
            assert outcome.code == 0, outcome
            assert_arrived(MADE, home / "out")
            if isinstance(peer, HashPeer):
                assert peer.hash_requests
                assert peer.blocks_before == 0
