"""Who is looked after each second: nobody of whom nothing is wanted, and everybody whose time has come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from btfast.engine.rounds import Rounds

NEVER = float("inf")


def test_one_at_rest_comes_back_when_its_time_has_come_or_when_it_is_woken() -> None:
    rounds: Rounds[str] = Rounds()
    for name in "abc":
        rounds.add(name)
    assert rounds.awake(0.0) == ["a", "b", "c"]
    rounds.rest("a", 5.0)
    rounds.rest("b", NEVER)
    assert rounds.awake(4.9) == ["c"]
    assert rounds.awake(5.0) == ["c", "a"]
    rounds.wake("b")
    rounds.wake("b")
    assert rounds.awake(5.0) == ["c", "a", "b"]


def test_one_that_has_ended_is_neither_woken_nor_put_to_rest() -> None:
    rounds: Rounds[str] = Rounds()
    rounds.add("a")
    rounds.add("b")
    rounds.rest("a", 1.0)
    rounds.remove("a")
    rounds.remove("b")
    rounds.wake("a")
    rounds.rest("b", 1.0)
    assert rounds.awake(NEVER) == []


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["add", "rest", "wake", "remove", "pass"]), st.integers(0, 9))))
def test_any_order_of_calls_leaves_each_in_one_place(steps: list[tuple[int, str, int]]) -> None:
    rounds: Rounds[int] = Rounds()
    expected: dict[int, float | None] = {}  # until when it rests, None: it is awake
    now = 0.0
    for who, step, seconds in steps * 20:
        if step == "add" and who not in expected:
            rounds.add(who)
            expected[who] = None
        elif step == "rest":
            rounds.rest(who, now + seconds)
            if who in expected and expected[who] is None:
                expected[who] = now + seconds
        elif step == "wake":
            rounds.wake(who)
            if who in expected:
                expected[who] = None
        elif step == "remove":
            rounds.remove(who)
            expected.pop(who, None)
        else:
            now += seconds
        expected = {who: None if until is not None and until <= now else until for who, until in expected.items()}
        assert sorted(rounds.awake(now)) == sorted(who for who, until in expected.items() if until is None)
    assert len(rounds._queue) <= 2 * len(expected) + 65
