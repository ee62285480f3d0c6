"""Peer exchange between real processes and scripted peers: what it is good for, and what it must not do."""

from __future__ import annotations

from pathlib import Path

from support.commands import get, run, running
from support.gossip import Gossip
from support.scripted_peer import Later, ScriptedPeer
from support.torrents import assert_arrived, make

from btfast.metainfo.addresses import PeerAddress

MADE = make(300_001)


def test_a_peer_that_only_another_peer_names_is_enough(tmp_path: Path) -> None:
    with ScriptedPeer(MADE) as seed, Gossip(MADE, [PeerAddress("127.0.0.1", seed.port)], have=set()) as hub:
        done = run(tmp_path, *get(MADE.save(tmp_path), peers=(hub.address,)))
    assert done.code == 0, done
    assert_arrived(MADE, tmp_path / "out")
    assert seed.blocks_sent > 0


def test_with_no_pex_nobody_is_asked_and_nobody_believed(tmp_path: Path) -> None:
    with ScriptedPeer(MADE) as seed, Gossip(MADE, [PeerAddress("127.0.0.1", seed.port)], have=set()) as hub:
        run(tmp_path, *get(MADE.save(tmp_path), "--no-pex", "--peer-timeout", "3", peers=(hub.address,))).error(3)
        assert seed.links == []
        assert hub.introduced.is_set()
        assert all("ut_pex" not in said.m for said in hub.introductions)


def test_peers_are_told_of_each_other_and_of_nobody_else(tmp_path: Path) -> None:
    """Two that are connected hear of one another, under the ports that they named, and not of us or of themselves."""
    one, two = Gossip(MADE, have=set()), Gossip(MADE, have=set())
    with one, two, running(tmp_path, *get(MADE.save(tmp_path), peers=(one.address, two.address))) as command:
        command.until(lambda: one.heard.is_set() and two.heard.is_set(), "both were told")
        command.process.terminate()
        command.end()
    for peer, other in ((one, two), (two, one)):
        (message,) = peer.told
        assert [added.address for added in message.added] == [other.here]
        assert message.dropped == []


def test_a_flood_ends_the_connection_with_its_reason(tmp_path: Path) -> None:
    loud = Gossip(MADE, [PeerAddress("127.0.0.1", 9)], have=set(), times=20)
    with loud, Later(MADE, lambda: loud.links and loud.links[0].closed.is_set()) as seed:
        done = run(tmp_path, *get(MADE.save(tmp_path), peers=(loud.address, seed.address)))
    assert done.code == 0
    reasons = [event["reason"] for event in done.all("peer") if event["address"] == loud.address]
    assert "ut_pex: more than 6 messages within a minute: the peer is dropped" in reasons


def test_a_poisoned_list_keeps_nobody_from_the_seed(tmp_path: Path) -> None:
    """Hundreds of addresses where nobody listens, and services that are none of ours, from four who have nothing."""
    closed = [PeerAddress("127.0.0.1", port) for port in range(2000, 2200)]
    with ScriptedPeer(MADE) as seed:
        low = [PeerAddress("127.0.0.1", port) for port in (1, 22, 80, 443, 1023)]
        liars = [Gossip(MADE, [*low, *closed], have=set()) for _ in range(4)]
        hub = Gossip(MADE, [PeerAddress("127.0.0.1", seed.port)], have=set())
        with liars[0], liars[1], liars[2], liars[3], hub:
            peers = tuple(peer.address for peer in (*liars, hub))
            done = run(tmp_path, *get(MADE.save(tmp_path), peers=peers))
    assert done.code == 0, done
    assert_arrived(MADE, tmp_path / "out")
