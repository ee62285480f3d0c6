"""Caps on a virtual clock: the real buckets, lines and turns, with connections that always have more."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any

import pytest

from btfast.engine.throttle import Line, Throttle


class Clock:
    """An event loop's time() and call_later()."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, call: Callable[[], None]) -> object:
        assert delay >= 0.01, "timers that fire at once eat the processor"
        assert not self._timers, "one timer is enough"
        heappush(self._timers, (self.now + delay, next(self._order), call))
        return call

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            self.now, _, call = heappop(self._timers)
            call()
        self.now = end


class Greedy:
    """A connection that has `left` bytes more; with `at_most` its socket takes so many at a time."""

    def __init__(self, line: Line, clock: Clock, left: int = 1 << 50, at_most: int = 1 << 50) -> None:
        self.passed = self.turns = 0
        self.left, self.at_most = left, at_most
        self._line, self._clock = line, clock

    def start(self) -> None:
        self.go_on(self._line, self._line.room(self._clock.time()))

    def go_on(self, line: Line, most: int) -> None:
        sent = min(most, self.left, self.at_most)
        line.take(sent)
        self.passed += sent
        self.turns += 1
        self.left -= sent
        if self.left:
            line.wait(self)


def lines(clock: Any, rate: int, *each: int) -> list[Line]:
    throttle = Throttle(clock, rate)
    found = [throttle.line(rate) for rate in each]
    assert None not in found
    return [line for line in found if line is not None]


def passed_in(clock: Clock, peers: list[Greedy], seconds: float) -> list[float]:
    for peer in peers:
        peer.start()
    before = [peer.passed for peer in peers]
    clock.run(seconds)
    return [(peer.passed - was) / seconds for peer, was in zip(peers, before, strict=True)]


@pytest.mark.parametrize("rate", [5_000, 300_000, 50_000_000])
@pytest.mark.parametrize("peers", [1, 7, 60])
def test_a_cap_for_all_holds_within_two_percent_and_is_shared_evenly(rate: int, peers: int) -> None:
    clock = Clock()
    shares = lines(clock, rate, 0, 0, 0)
    greedy = [Greedy(shares[n % 3], clock) for n in range(peers)]
    rates = passed_in(clock, greedy, 10.0)
    assert sum(rates) == pytest.approx(rate, rel=0.02)
    if peers == 60:
        clock.run(240.0)
        assert min(peer.passed for peer in greedy) > 0.7 * max(peer.passed for peer in greedy)


@pytest.mark.parametrize(("rate", "lump"), [(16 << 20, 128 << 10), (1 << 20, 16 << 10)])
def test_a_high_cap_is_handed_out_in_lumps(rate: int, lump: int) -> None:
    clock = Clock()
    (line,) = lines(clock, rate, 0)
    greedy = [Greedy(line, clock) for _ in range(8)]
    assert sum(passed_in(clock, greedy, 10.0)) == pytest.approx(rate, rel=0.02)
    assert min(peer.passed / peer.turns for peer in greedy) > 0.9 * lump
    assert min(peer.turns for peer in greedy) > 10 * rate / lump / 8 / 2


def test_caps_of_single_torrents_hold_under_one_for_all() -> None:
    clock = Clock()
    slow, fast, other = lines(clock, 1_000_000, 50_000, 0, 300_000)
    peers = [Greedy(line, clock) for line in (slow, slow, fast, fast, other)]
    rates = passed_in(clock, peers, 10.0)
    assert sum(rates[:2]) == pytest.approx(50_000, rel=0.02)
    assert rates[4] == pytest.approx(300_000, rel=0.02)
    assert sum(rates) == pytest.approx(1_000_000, rel=0.02)


def test_a_torrents_cap_alone_slows_no_other_torrent() -> None:
    clock = Clock()
    throttle = Throttle(clock, 0)  # type: ignore[arg-type]
    assert throttle.line(0) is None
    line, other = throttle.line(10_000), throttle.line(1_000_000)
    assert line is not None
    assert other is not None
    rates = passed_in(clock, [Greedy(line, clock), Greedy(other, clock)], 10.0)
    assert rates == pytest.approx([10_000, 1_000_000], rel=0.02)


def test_who_takes_little_leaves_its_share_to_the_others() -> None:
    clock = Clock()
    (line,) = lines(clock, 1_000_000, 0)
    slow, fast = Greedy(line, clock, at_most=100), Greedy(line, clock)
    rates = passed_in(clock, [slow, fast], 10.0)
    assert rates[0] < 20_000
    assert sum(rates) == pytest.approx(1_000_000, rel=0.02)


def test_who_is_done_waits_no_more_and_the_clock_stands_still() -> None:
    clock = Clock()
    (line,) = lines(clock, 1_000_000, 0)
    peers = [Greedy(line, clock, left=1_000_000) for _ in range(3)]
    passed_in(clock, peers, 10.0)
    assert [peer.passed for peer in peers] == [1_000_000] * 3
    assert not line.waiting
    assert not clock._timers


def test_who_leaves_is_forgotten() -> None:
    clock = Clock()
    (line,) = lines(clock, 1_000_000, 0)
    peers = [Greedy(line, clock) for _ in range(3)]
    passed_in(clock, peers, 1.0)
    for peer in peers[:2]:
        line.forget(peer)
    before = [peer.passed for peer in peers]
    clock.run(1.0)
    assert [peer.passed for peer in peers[:2]] == before[:2]
    assert peers[2].passed - before[2] == pytest.approx(1_000_000, rel=0.02)


def test_the_time_in_which_somebody_was_held_back_is_counted() -> None:
    clock = Clock()
    (line,) = lines(clock, 0, 1000 << 10)
    clock.run(5)
    greedy = Greedy(line, clock, left=1000 << 10)
    greedy.start()
    clock.run(20)
    assert not greedy.left
    assert line.held() == pytest.approx(1.0, abs=0.15)
    busy, gone = Greedy(line, clock), Greedy(line, clock)
    busy.start()
    clock.run(3)
    assert line.held() == pytest.approx(4.0, abs=0.3)
    line.forget(busy)
    gone.start()
    line.forget(gone)
    before = line.held()
    clock.run(9)
    assert line.held() == before
