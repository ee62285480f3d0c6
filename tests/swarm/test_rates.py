from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btfast.swarm.rates import Rate


def test_a_steady_stream_shows_its_rate() -> None:
    rate = Rate(10.0)
    for step in range(1000):
        rate.add(10.0 + step * 0.01, 500)
    assert rate.value(20.0) == pytest.approx(50_000, rel=0.05)
    assert rate.total == 500_000


def test_it_falls_to_zero_after_the_window() -> None:
    rate = Rate(0.0, window=4.0)
    rate.add(0.5, 1 << 20)
    assert rate.value(1.0) > 0
    assert rate.value(4.6) == 0.0
    assert rate.value(1e6) == 0.0


def test_it_is_right_from_the_first_second() -> None:
    rate = Rate(100.0)
    for step in range(10):
        rate.add(100.0 + step * 0.1, 1000)
    assert rate.value(101.0) == pytest.approx(10_000, rel=0.1)


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 10**9)), max_size=60), st.floats(0, 10))
def test_it_never_passes_what_came_nor_falls_below_zero(steps: list[tuple[float, int]], last: float) -> None:
    rate = Rate(0.0)
    now = 0.0
    for wait, count in steps:
        now += wait
        rate.add(now, count)
    value = rate.value(now + last)
    assert 0 <= value <= rate.total / 0.25 + 1
