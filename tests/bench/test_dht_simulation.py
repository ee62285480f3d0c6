"""The DHT of the bench's simulation, small: latency, loss, churn and a tenth of liars."""

from __future__ import annotations

import math

from bench.dht_simulation import Scale, lines, simulate


def test_announced_peers_are_found_among_liars_and_while_nodes_come_and_go() -> None:
    outcome = simulate(Scale(nodes=250, searches=40, lifetime=600.0, wait=60.0))
    assert len(outcome.found) >= 38
    assert outcome.success >= 0.97
    assert outcome.died > 10
    assert sorted(outcome.hops)[len(outcome.hops) // 2] <= math.log2(outcome.nodes)
    assert max(outcome.hops) <= 2 * math.log2(outcome.nodes)
    assert sorted(outcome.questions)[len(outcome.questions) // 2] <= 40
    assert len(lines(outcome)) >= 5


def test_without_anybody_honest_nearby_nothing_is_found_and_it_ends() -> None:
    outcome = simulate(Scale(nodes=60, liars=0.9, searches=10, lifetime=10_000.0, wait=30.0))
    assert len(outcome.questions) == 10
    assert max(outcome.questions) <= 210
