from __future__ import annotations

import random

from btfast._bitfield import Bitfield
from btfast.swarm.super_seeding import KEPT, OPEN, STUCK, UNCLAIMED, SuperSeeding


def seeding(pieces: int) -> SuperSeeding:
    return SuperSeeding(pieces, random.Random(1))


def nothing(pieces: int) -> Bitfield:
    return Bitfield(pieces)


def test_each_peer_is_shown_other_pieces_and_may_ask_for_those_only() -> None:
    state = seeding(20)
    shown = [pair for peer in range(5) for pair in state.peer_joined(peer, nothing(20), 0.0)]
    assert [peer for peer, _ in shown] == [0] * (OPEN - 1) + [0, 1, 2, 3, 4]  # the first is alone, and not kept waiting
    assert len({index for _, index in shown}) == len(shown)
    for peer in range(5):
        assert {index for index in range(20) if state.may_ask(peer, index)} == {i for p, i in shown if p == peer}
    assert not state.may_ask(77, 0)


def test_the_next_piece_is_shown_when_one_turns_up_elsewhere() -> None:
    state = seeding(20)
    (_, first), _ = state.peer_joined(1, nothing(20), 0.0)
    state.peer_joined(2, nothing(20), 0.0)
    assert state.peer_has(1, first, 1.0) == []
    ((peer, index),) = state.peer_has(2, first, 2.0)
    assert peer == 1
    assert index != first
    assert state.peer_has(2, first, 3.0) == []


def test_who_passes_a_piece_on_is_shown_two_at_once() -> None:
    state = seeding(20)
    state.peer_joined(0, nothing(20), 0.0)
    ((_, first),) = state.peer_joined(1, nothing(20), 0.0)
    state.peer_joined(2, nothing(20), 0.0)
    assert state.peer_has(1, first, 1.0) == []
    assert [peer for peer, _ in state.peer_has(2, first, 2.0)] == [1] * OPEN


def test_who_keeps_its_pieces_to_itself_waits_for_the_next_twice_as_long_each_time() -> None:
    state = seeding(200)
    state.peer_joined(0, nothing(200), 0.0)
    ((_, index),) = state.peer_joined(1, nothing(200), 0.0)
    now = 0.0
    for patience in (KEPT, 2 * KEPT, 4 * KEPT):
        state.peer_has(1, index, now)
        assert 1 not in [peer for peer, _ in state.poll(now + patience)]
        now += patience + 1.0
        ((index,),) = ([index for peer, index in state.poll(now) if peer == 1],)


def test_a_piece_that_stays_with_one_peer_is_shown_to_another_and_earns_the_first_nothing() -> None:
    state = seeding(50)
    state.peer_joined(0, nothing(50), 0.0)
    ((_, kept),) = state.peer_joined(1, nothing(50), 0.0)
    state.peer_has(1, kept, 0.0)
    assert state.peer_joined(2, nothing(50), STUCK - 1)[0][1] != kept
    assert state.peer_joined(3, nothing(50), STUCK + 1) == [(3, kept)]
    assert state.peer_joined(4, nothing(50), STUCK + 1)[0][1] != kept
    assert 1 not in [peer for peer, _ in state.peer_has(3, kept, STUCK + 2)]
    assert {peer for peer, _ in state.peer_has(4, kept, STUCK + 3)} == {1, 3}


def test_a_single_peer_is_not_kept_waiting() -> None:
    state = seeding(9)
    todo = [index for _, index in state.peer_joined(1, nothing(9), 0.0)]
    for index in todo:
        todo += [index for _, index in state.peer_has(1, index, 0.0)]
    assert sorted(todo) == list(range(9))
    assert state.complete


def test_pieces_that_the_swarm_has_are_not_shown() -> None:
    state = seeding(6)
    most = Bitfield(6)
    for index in (0, 1, 2, 3):
        most.set(index)
    assert {index for _, index in state.peer_joined(1, most, 0.0)} == {4, 5}
    assert state.peer_joined(2, nothing(6), 0.0) == []
    assert not state.complete
    state.peer_has(1, 4, 1.0)
    state.peer_has(1, 5, 1.0)
    assert state.complete


def test_what_a_peer_takes_away_with_it_is_shown_to_others() -> None:
    state = seeding(2 * OPEN)
    gone = {index for _, index in state.peer_joined(1, nothing(2 * OPEN), 0.0)}
    state.peer_joined(2, nothing(2 * OPEN), 0.0)
    for index in gone:
        state.peer_has(1, index, 1.0)
    state.peer_left(1, 1.0)
    assert not any(state.copies(index) for index in gone)
    todo = [index for _, index in state.peer_joined(3, nothing(2 * OPEN), 2.0)]
    assert set(todo) < gone
    state.peer_left(2, 2.0)
    for index in todo:
        todo += [index for _, index in state.peer_has(3, index, 3.0)]
    assert sorted(todo) == list(range(2 * OPEN))


def test_pieces_that_nobody_fetches_are_shown_again_after_a_while() -> None:
    state = seeding(OPEN)
    state.peer_joined(1, nothing(OPEN), 0.0)
    assert state.peer_joined(2, nothing(OPEN), 1.0) == []
    assert state.poll(UNCLAIMED) == []
    assert [peer for peer, _ in state.poll(UNCLAIMED + 1)] == [2]


def test_all_pieces_leave_once_whoever_comes_and_goes() -> None:
    for seed in range(20):
        rng = random.Random(seed)
        state = seeding(40)
        have: dict[int, Bitfield] = {}
        asked: list[tuple[int, int]] = []
        for step in range(20_000):
            if state.complete:
                break
            now = step * 0.5
            if len(have) < 5 and rng.random() < 0.1:
                have[step] = nothing(40)
                asked += state.peer_joined(step, have[step], now)
            elif len(have) > 2 and rng.random() < 0.002:
                left = rng.choice(list(have))
                del have[left]
                state.peer_left(left, now)
            if asked and rng.random() < 0.5:
                peer, index = asked.pop(rng.randrange(len(asked)))
                if peer in have:
                    assert state.may_ask(peer, index)
                    have[peer].set(index)
                    asked += state.peer_has(peer, index, now)
            if len(have) > 1:  # they trade
                one, other = rng.sample(list(have), 2)
                for index in have[one].and_not(have[other]).indices()[:1]:
                    have[other].set(index)
                    asked += state.peer_has(other, index, now)
            asked += state.poll(now)
        assert state.complete, seed
        assert all(any(field[index] for field in have.values()) for index in range(40))
