from __future__ import annotations

import random
from collections import Counter

from btfast.swarm import choker as module
from btfast.swarm.choker import PeerStats


def Choker(*, slots: int = 8, seed: int = 1) -> module.Choker:
    return module.Choker(random.Random(seed), slots=slots)


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
    for turn in range(1, 3):
        choker.round(turn * 10.0, peers, seeding=True)
        assert set(choker.unchoked) == first


def test_a_seed_serves_the_fast_for_longer_but_not_for_ever() -> None:
    choker = Choker(slots=5)
    rates = {n: 1000.0 if n % 2 else 10.0 for n in range(20)}
    rounds: Counter[int] = Counter()
    for turn in range(400):
        served = set(choker.unchoked)
        peers = [PeerStats(n, True, up_rate=rate if n in served else 0.0) for n, rate in rates.items()]
        choker.round(turn * 10.0, peers, seeding=True)
        rounds.update(choker.unchoked)
    fast = sum(rounds[n] for n in rates if n % 2) / 10
    slow = sum(rounds[n] for n in rates if not n % 2) / 10
    assert 1.5 * slow < fast < 4 * slow
    assert min(rounds.values()) > 0.2 * max(rounds.values())


def test_who_was_asked_and_sent_nothing_for_a_minute_loses_what_it_had_earned() -> None:
    choker = Choker(slots=3)
    peers = [PeerStats(n, True, down_rate=10.0 + n, snubbed=n == 7) for n in range(8)]
    choker.round(0.0, peers)
    assert {5, 6} <= set(choker.unchoked)


def test_givers_keep_their_slots_and_the_others_take_turns_of_thirty_seconds() -> None:
    choker = Choker(slots=5)
    peers = [PeerStats(n, True, down_rate=5.0 * (n < 4)) for n in range(12)]
    optimists = []
    for turn in range(25):
        choker.round(turn * 10.0, peers)
        assert {0, 1, 2, 3} <= set(choker.unchoked)
        optimists.append((set(choker.unchoked) - {0, 1, 2, 3}).pop())
    assert optimists[:24] == [peer for peer in optimists[0:24:3] for _ in range(3)]
    assert sorted(optimists[0:24:3]) == list(range(4, 12))


def test_newcomers_are_tried_first_three_times_as_often_as_elsewhere() -> None:
    first: Counter[bool] = Counter()
    for seed in range(400):
        choker = Choker(slots=1, seed=seed)
        waiting = [PeerStats(n, True) for n in range(7)]
        choker.round(0.0, waiting)
        choker.round(10.0, [*waiting, PeerStats(99, True)])
        choker.round(30.0, [*waiting, PeerStats(99, True)])
        first[choker.is_unchoked(99)] += 1
    assert 90 < first[True] < 160  # 3 in 10; any other place 1 in 10


def test_slots_that_were_not_earned_are_not_left_empty() -> None:
    choker = Choker(slots=4)
    choker.round(0.0, [PeerStats(n, True, down_rate=9.0 * (n == 0)) for n in range(9)])
    assert len(choker.unchoked) == 4


def test_slots_grow_with_what_is_sent_and_shrink_slowly() -> None:
    choker = Choker(slots=8)
    peers = [PeerStats(n, True, up_rate=(4 << 20) / 8 * (n < 8)) for n in range(100)]
    choker.round(0.0, peers)
    assert choker.slots == 45
    assert len(choker.unchoked) == 45
    quiet = [PeerStats(n, True) for n in range(100)]
    choker.round(10.0, quiet)
    assert 40 < choker.slots < 45
    for turn in range(2, 60):
        choker.round(turn * 10.0, quiet)
    assert choker.slots == 8
    choker.round(700.0, [PeerStats(n, True, up_rate=float(1 << 30)) for n in range(1000)])
    assert choker.slots == module.MOST_SLOTS


def test_slots_that_become_free_are_given_at_once_to_those_who_wait() -> None:
    choker = Choker(slots=2)
    for peer in range(4):
        choker.handle_interested(peer, 0.0)
    assert choker.poll_free(1.0) == []
    choker.peer_left(0)
    choker.handle_not_interested(1)
    assert sorted(choker.poll_free(1.0)) == [2, 3]
    assert choker.poll_free(1.0) == []


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
    assert choker.poll_free(14.0) == []
    assert choker.poll_free(16.0) == [1]
    assert choker.is_unchoked(1)


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


def test_who_takes_and_refuses_to_give_comes_after_all_others() -> None:
    choker = Choker(slots=4)
    # 0 to 3 give; 4 takes, has what we want and chokes us; 5 to 9 take and have nothing for us.
    peers = [PeerStats(n, True, down_rate=9.0 * (n < 3), up_rate=20_000.0, refuses=n == 4) for n in range(10)]
    turns: Counter[int] = Counter()
    for turn in range(120):
        choker.round(turn * 10.0, peers)
        turns.update(choker.unchoked)
    assert turns[4] < 0.6 * min(turns[n] for n in range(5, 10))
    assert {0, 1, 2} <= set(choker.unchoked)
    assert turns[4] > 0


def test_what_refusers_get_is_a_small_part_of_what_others_get() -> None:
    choker = Choker(slots=4)
    peers = [PeerStats(0, True, down_rate=50_000.0), PeerStats(1, True, refuses=True)]
    sent: Counter[int] = Counter()
    for turn in range(300):
        choker.round(turn * 10.0, [stats._replace(up_rate=50_000.0 * choker.is_unchoked(stats.peer)) for stats in peers])
        for peer in choker.unchoked:
            sent[peer] += 1
    assert sent[0] == 300
    assert 2 < sent[1] < 0.1 * sent[0]


def test_a_refuser_that_once_gave_a_little_is_forgiven() -> None:
    choker = Choker(slots=4)
    peers = [PeerStats(0, True, down_rate=1.0), PeerStats(1, True, up_rate=1e6, refuses=True)]
    choker.round(0.0, peers)
    choker.round(10.0, peers)
    assert not choker.is_unchoked(1) or choker.poll_free(11.0) == []
    choker.round(20.0, [peers[0], PeerStats(1, True, down_rate=1e6, up_rate=0.0)])
    assert choker.is_unchoked(1)


def test_who_refused_once_and_never_gave_comes_last_also_while_it_has_nothing_for_us() -> None:
    choker = Choker(slots=4)
    # 3 has refused in the first round; 4 to 8 have never had what we want. All take, and none of them gives.
    turns: Counter[int] = Counter()
    for turn in range(120):
        choker.round(
            turn * 10.0,
            [
                PeerStats(n, True, down_rate=9.0 * (n < 3), up_rate=20_000.0, refuses=n == 3 and not turn)
                for n in range(9)
            ],
        )
        turns.update(choker.unchoked)
    assert turns[3] < 0.6 * min(turns[n] for n in range(4, 9))
    choker.round(1200.0, [PeerStats(n, True, down_rate=20_000.0 * (n == 3), up_rate=20_000.0) for n in range(9)])
    assert choker.is_unchoked(3)  # it has given


def test_nobody_is_kept_out_for_ever_when_all_refuse() -> None:
    choker = Choker(slots=4)
    served: set[int] = set()
    for turn in range(200):
        choker.round(
            turn * 10.0, [PeerStats(n, True, up_rate=1e6 * choker.is_unchoked(n), refuses=True) for n in range(6)]
        )
        if turn > 20:
            served.update(choker.unchoked)
    assert served == set(range(6))


def test_a_seed_serves_who_keeps_all_to_itself_last_but_leaves_no_slot_empty() -> None:
    choker = Choker(slots=2)
    peers = [PeerStats(n, True, up_rate=10.0, arrears=n < 2) for n in range(4)]
    choker.round(0.0, peers, seeding=True)
    assert sorted(choker.unchoked) == [2, 3]
    choker.round(10.0, peers[:3], seeding=True)
    assert 2 in choker.unchoked
    assert len(choker.unchoked) == 2


def test_a_seed_lets_a_peer_finish_its_piece_and_no_longer() -> None:
    choker = Choker(slots=1)
    one, other = PeerStats(0, True, up_rate=10.0, busy=True), PeerStats(1, True)
    choker.round(0.0, [one], seeding=True)
    for now in range(10, 100, 10):
        choker.round(float(now), [one, other], seeding=True)
        assert choker.unchoked == [0]
    assert choker.handle_piece_end(0, 101.0)
    assert choker.poll_free(101.0) == [1]
    assert not choker.handle_piece_end(0, 102.0)
    assert not choker.handle_piece_end(1, 102.0)  # its turn is not over
    choker = Choker(slots=1)
    for now in range(0, int(module.LONGEST_TURN) + 20, 10):
        choker.round(float(now), [one, other], seeding=True)
    assert choker.unchoked == [1]
