from __future__ import annotations

import random

import pytest

from btfast.swarm.token_bucket import TokenBucket


@pytest.mark.parametrize("rate", [2000.0, 1e6, 1e9])
def test_a_greedy_user_gets_its_rate_over_ten_seconds(rate: float) -> None:
    rng = random.Random(1)
    bucket = TokenBucket(rate, 100.0)
    now, passed = 100.0, 0
    while now < 110.0:
        room = bucket.room(now)
        bucket.take(room)
        passed += room
        now += rng.uniform(0.001, 0.06)
    assert 0.98 * 10 * rate <= passed <= 1.02 * 10 * rate


def test_a_pause_saves_up_a_tenth_of_a_second_and_no_more() -> None:
    bucket = TokenBucket(1000.0, 0.0)
    assert bucket.room(0.0) == 0
    assert bucket.room(0.05) == 50
    assert bucket.room(3600.0) == 100


def test_what_was_taken_too_much_is_paid_back() -> None:
    bucket = TokenBucket(1000.0, 0.0)
    bucket.take(500)
    assert bucket.room(0.4) == 0
    assert bucket.wait(0.4, 10) == pytest.approx(0.11)
    assert bucket.room(0.55) == 50


def test_nobody_waits_for_more_than_the_bucket_holds() -> None:
    bucket = TokenBucket(1000.0, 0.0)
    assert bucket.wait(0.0, 1 << 30) == pytest.approx(0.1)
    assert bucket.wait(10.0, 1 << 30) == 0.0


def test_a_clock_that_jumps_back_gives_nothing_away() -> None:
    bucket = TokenBucket(1000.0, 100.0)
    assert bucket.room(100.2) == 100
    bucket.take(100)
    assert bucket.room(50.0) == 0
    assert bucket.room(50.05) == pytest.approx(50, abs=1)
