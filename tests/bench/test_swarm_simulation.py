"""A small swarm on a virtual clock, with the real choker, picker and super-seeding. The large one: python -m bench choking."""

from __future__ import annotations

import statistics

import pytest

from bench.choking import found_in, plans
from bench.swarm_simulation import Plan, Swarm

KIB = 1024


@pytest.mark.parametrize("super_seeding", [False, True])
def test_all_finish_while_peers_come_and_go(super_seeding: bool) -> None:
    swarm = Swarm(plans(20, 1), pieces=100, piece_length=32 * KIB, links=10, seed=1, super_seeding=super_seeding).run()
    found = found_in(swarm)
    assert found["finished"] == 20
    assert found["seed_copies"] < (1.15 if super_seeding else 1.7)
    assert all(node.pieces.complete for node in swarm.nodes)


def test_who_gives_nothing_gets_its_data_last() -> None:
    members = [Plan(400 * KIB, 400 * KIB, stays=None)]
    members += [Plan(50 * KIB, 800 * KIB, joins=0.1 * n, free_rider=n % 6 == 0, stays=0.0) for n in range(24)]
    swarm = Swarm(members, pieces=300, piece_length=32 * KIB, links=12, seed=2).run()
    riders = [node.finished for node in swarm.nodes[1:] if node.plan.free_rider]
    others = [node.finished for node in swarm.nodes[1:] if not node.plan.free_rider]
    assert statistics.median(riders) > 1.15 * statistics.median(others)
