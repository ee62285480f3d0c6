"""choking: how fair and how thrifty the real choker, picker and super-seeding are, in a simulated swarm (no network)."""

from __future__ import annotations

import random
import statistics
import time

from bench.swarm_simulation import SEED, Plan, Swarm

KIB = 1024


def plans(leechers: int, seed: int, *, up: float = 100 * KIB, spread: float = 60.0) -> list[Plan]:
    """One seed of `up` bytes/s and leechers of mixed speeds: one in ten a free rider, one in five away for a while.

    Those who have finished stay for up to a minute.
    """
    rng = random.Random(seed)
    found = [Plan(up, up, stays=None)]
    for number in range(leechers):
        rate = rng.choice((20, 40, 80, 160, 300)) * KIB
        plan = Plan(rate, 4 * rate, joins=rng.uniform(0, spread), stays=rng.uniform(0, 60))
        if number % 10 == 0:
            plan.free_rider = True
            plan.down = 600 * KIB
        elif rng.random() < 0.2:
            gone = plan.joins + rng.uniform(20, 200)
            plan.away = (gone, gone + rng.uniform(10, 100))
        found.append(plan)
    return found


def figures(swarm: Swarm) -> dict[str, float]:
    """What the bars are about: copies that the seed sent for the first whole copy, who finished when, rarity."""
    spent = {True: [], False: []}  # type: dict[bool, list[float]]
    for node in swarm.nodes[1:]:
        spent[node.plan.free_rider].append(node.finished - node.plan.joins)
    return {
        "finished": len(spent[True]) + len(spent[False]),
        "seed_copies": swarm.seed_copies,
        "first_copy_s": swarm.first_copy,
        "contributors_s": statistics.median(spent[False]),
        "last_contributor_s": max(spent[False]),
        "free_riders_s": statistics.median(spent[True]),
        "longest_single_s": swarm.longest_single,
        "seed_sent": swarm.sent[SEED] / swarm.geometry.total_length,
    }


def main(quick: bool = False) -> None:
    leechers, pieces = (40, 100) if quick else (200, 400)
    print(f"choking: 1 seed of 100 KiB/s, {leechers} leechers of 20-300 KiB/s, 10 % free riders, churn; simulated")
    print("  seed    seeding  done  copies sent by the seed  first copy  contributors      free riders  longest with")
    print("                         for the first whole one           s  median s (last)      median s  one holder, s")
    for super_seeding in (False, True):
        for seed in (1, 2, 3):
            began = time.process_time()
            swarm = Swarm(
                plans(leechers, seed), pieces=pieces, piece_length=64 * KIB, seed=seed, super_seeding=super_seeding
            ).run()
            found = figures(swarm)
            print(
                f"  {seed:<7} {'super' if super_seeding else 'usual':8} {found['finished']:4.0f}  {found['seed_copies']:23.3f}"
                f"  {found['first_copy_s']:10.0f}  {found['contributors_s']:8.0f} ({found['last_contributor_s']:.0f})"
                f"  {found['free_riders_s']:12.0f}  {found['longest_single_s']:13.0f}   [{time.process_time() - began:.0f} s]",
                flush=True,
            )


if __name__ == "__main__":
    main()
