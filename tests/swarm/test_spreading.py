from __future__ import annotations

import random

from btfast._bitfield import Bitfield
from btfast.swarm.spreading import CREDIT, LEAD, MOST_LEAD, STUCK, Spreading

LENGTH = 1 << 20


def seeding(pieces: int, peers: int) -> Spreading:
    state = Spreading(pieces, LENGTH, random.Random(1))
    for peer in range(peers):
        state.peer_joined(peer, Bitfield(pieces), 0.0)
    return state


def fetch(state: Spreading, peer: int, index: int, now: float) -> bool:
    state.handle_sending(peer, index)
    return state.peer_has(peer, index, now)


def test_nobody_is_suggested_what_another_is_to_fetch() -> None:
    state = seeding(40, 5)
    found: list[int] = []
    for peer in range(5):
        state.handle_served(peer)
        found += state.suggest(peer, 0.0, 0.0)
        assert len(found) == LEAD * (peer + 1)
        assert state.suggest(peer, 0.0, 0.0) == []
    assert len(set(found)) == len(found)


def test_who_is_served_fast_is_told_more_ahead() -> None:
    state = seeding(200, 2)
    state.handle_served(0)
    assert len(state.suggest(0, 5.0 * LENGTH, 0.0)) == LEAD + 15
    assert len(state.suggest(0, 1e12, 0.0)) == MOST_LEAD - LEAD - 15


def test_who_is_choked_or_alone_is_told_nothing() -> None:
    state = seeding(40, 2)
    assert state.suggest(0, 0.0, 0.0) == []
    state.handle_served(0)
    assert state.suggest(7, 0.0, 0.0) == []
    state.peer_left(1, 0.0)
    assert state.suggest(0, 0.0, 0.0) == []


def test_what_a_choked_peer_was_to_fetch_goes_to_the_next() -> None:
    state = seeding(LEAD, 2)
    state.handle_served(0)
    first = state.suggest(0, 0.0, 0.0)
    state.handle_served(1)
    assert state.suggest(1, 0.0, 0.0) == []
    state.handle_refused(0)
    assert sorted(state.suggest(1, 0.0, 0.0)) == sorted(first)


def test_what_a_peer_was_sent_on_its_own_wish_is_not_suggested_to_another() -> None:
    state = seeding(3, 2)
    state.handle_sending(0, 1)
    state.handle_served(1)
    assert sorted(state.suggest(1, 0.0, 0.0)) == [0, 2]


def test_a_piece_that_stays_with_one_peer_is_suggested_to_another_after_a_while() -> None:
    state = seeding(1, 3)
    assert fetch(state, 0, 0, 10.0)
    assert state.needed
    for peer in (1, 2):
        state.handle_served(peer)
    assert state.suggest(1, 0.0, 10.0 + STUCK - 1) == []
    assert state.suggest(1, 0.0, 10.0 + STUCK) == [0]
    assert state.suggest(2, 0.0, 10.0 + 3 * STUCK) == []  # it is promised
    fetch(state, 1, 0, 200.0)
    assert not state.needed


def test_who_keeps_all_is_in_arrears_until_something_turns_up_elsewhere() -> None:
    state = seeding(40, 3)
    for index in range(CREDIT):
        assert not state.arrears(0)
        fetch(state, 0, index, 0.0)
    assert state.arrears(0)
    state.peer_has(2, 0, 1.0)  # it got that from peer 0
    assert not state.arrears(0)
    for index in range(CREDIT, 2 * CREDIT + 1):
        fetch(state, 1, index, 0.0)
    assert state.arrears(1)
    fetch(state, 2, CREDIT, 2.0)  # from us: peer 1 has nothing to do with it
    assert state.arrears(1)
    assert not state.arrears(77)


def test_who_is_in_the_midst_of_a_rare_piece_is_busy() -> None:
    state = seeding(4, 4)
    assert not state.busy(0)
    state.handle_sending(0, 3)
    assert state.busy(0)
    state.peer_has(1, 3, 0.0)
    assert state.busy(0)
    state.peer_has(2, 3, 0.0)
    assert not state.busy(0)
    assert state.peer_has(0, 3, 1.0)
    assert not state.peer_has(0, 3, 1.0)


def test_the_last_copy_that_leaves_makes_a_piece_needed_again() -> None:
    state = seeding(2, 3)
    for peer in (0, 1):
        for index in (0, 1):
            fetch(state, peer, index, 0.0)
    assert not state.needed
    state.peer_left(0, 1.0)
    assert state.needed
    state.peer_left(1, 2.0)
    state.handle_served(2)
    state.peer_joined(3, Bitfield(2), 2.0)
    assert sorted(state.suggest(2, 0.0, 2.0)) == [0, 1]


def test_whatever_happens_promises_and_copies_add_up() -> None:
    for seed in range(30):
        rng = random.Random(seed)
        state = seeding(12, 0)
        have: dict[int, Bitfield] = {}
        for step in range(600):
            now = step * 1.5
            what = rng.random()
            peer = rng.randrange(8)
            index = rng.randrange(12)
            if peer not in have:
                have[peer] = Bitfield(12)
                for one in range(12):
                    if rng.random() < 0.2:
                        have[peer].set(one)
                state.peer_joined(peer, have[peer].copy(), now)
            elif what < 0.1:
                del have[peer]
                state.peer_left(peer, now)
            elif what < 0.3:
                state.handle_served(peer)
                assert not any(have[peer][one] for one in state.suggest(peer, rng.random() * 4e6, now))
            elif what < 0.4:
                state.handle_refused(peer)
            elif what < 0.6:
                state.handle_sending(peer, index)
            else:
                state.peer_has(peer, index, now)
                have[peer].set(index)
            copies = [sum(field[one] for field in have.values()) for one in range(12)]
            assert state.needed == any(count < 2 for count in copies), (seed, step)
        for peer in list(have):
            state.peer_left(peer, 2000.0)
        state.peer_joined(20, Bitfield(12), 2000.0)
        state.peer_joined(21, Bitfield(12), 2000.0)
        state.handle_served(20)
        assert sorted(state.suggest(20, 1e9, 2000.0)) == list(range(12)), seed
