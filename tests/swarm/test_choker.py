from __future__ import annotations

from btfast.swarm.choker import Choker, PeerStats


def test_a_free_slot_is_given_at_once() -> None:
    choker = Choker(slots=2)
    assert choker.handle_interested(1, 0.0)
    assert not choker.handle_interested(1, 0.0)
    assert choker.handle_interested(2, 0.0)
    assert not choker.handle_interested(3, 0.0)
    choker.handle_not_interested(1)
    assert choker.handle_interested(4, 1.0)
    assert sorted(choker.unchoked) == [1, 2, 4]
    unchoke, choke = choker.round(10.0, [PeerStats(1, False), PeerStats(2, True), PeerStats(4, True)])
    assert (unchoke, choke) == ([], [1])


def test_who_gives_most_is_unchoked_while_downloading() -> None:
    choker = Choker(slots=3)
    peers = [PeerStats(n, True, down_rate=float(n)) for n in range(6)]
    for stats in peers:
        choker.handle_interested(stats.peer, 0.0)
    choker.round(10.0, peers)
    assert {4, 5} <= set(choker.unchoked)
    assert len(choker.unchoked) == 3


def test_nobody_starves_as_a_downloader_or_as_a_seed() -> None:
    for seeding in (False, True):
        choker = Choker(slots=3)
        peers = [PeerStats(n, True, down_rate=1000.0 * n) for n in range(10)]
        served: set[int] = set()
        for turn in range(60):
            unchoke, choke = choker.round(turn * 10.0, peers, seeding=seeding)
            assert not set(unchoke) & set(choke)
            assert len(choker.unchoked) == 3
            served.update(choker.unchoked)
        assert served == set(range(10))


def test_a_seed_lets_a_peer_finish_its_turn() -> None:
    choker = Choker(slots=2)
    peers = [PeerStats(n, True) for n in range(5)]
    choker.round(0.0, peers, seeding=True)
    first = set(choker.unchoked)
    kept = 0
    for turn in range(1, 5):
        choker.round(turn * 10.0, peers, seeding=True)
        kept += len(first & set(choker.unchoked))
    assert kept >= 4


def test_everybody_is_unchoked_when_there_are_slots_enough() -> None:
    choker = Choker(slots=8)
    peers = [PeerStats(n, True) for n in range(5)] + [PeerStats(9, False)]
    unchoke, choke = choker.round(0.0, peers)
    assert (sorted(unchoke), choke) == ([0, 1, 2, 3, 4], [])
    assert choker.round(10.0, peers) == ([], [])


def test_a_peer_that_was_just_choked_waits_for_the_round() -> None:
    choker = Choker(slots=1)
    choker.handle_interested(1, 0.0)
    choker.handle_not_interested(1)
    assert choker.round(10.0, [PeerStats(1, False)]) == ([], [1])
    assert not choker.handle_interested(1, 12.0)
    assert choker.handle_interested(1, 16.0)


def test_a_peer_that_left_frees_its_slot() -> None:
    choker = Choker(slots=1)
    choker.handle_interested(1, 0.0)
    choker.peer_left(1)
    assert not choker.is_unchoked(1)
    assert choker.handle_interested(2, 0.0)


def test_no_slots_means_nobody() -> None:
    choker = Choker(slots=0)
    assert not choker.handle_interested(1, 0.0)
    assert choker.round(10.0, [PeerStats(1, True)]) == ([], [])
