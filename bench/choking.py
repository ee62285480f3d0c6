"""choking: how fair and how thrifty the real choker, picker and super-seeding are, in a simulated swarm (no network)."""

from __future__ import annotations

import random
import statistics

from bench.swarm_simulation import SEED, Plan, Swarm

KIB = 1024


def plans(
    leechers: int, seed: int, *, up: float = 100 * KIB, spread: float = 60.0, stay: float = 60.0
) -> list[Plan]:
    """One seed of `up` bytes/s and leechers of mixed speeds: one in ten a free rider, one in five away for a while.

    Those who have finished stay for up to `stay` seconds.
    """
    rng = random.Random(seed)
    found = [Plan(up, up, stays=None)]
    for number in range(leechers):
        rate = rng.choice((20, 40, 80, 160, 300)) * KIB
        plan = Plan(rate, 4 * rate, joins=rng.uniform(0, spread), stays=stay * rng.random())
        if number % 10 == 0:
            plan.free_rider = True
            plan.down = 600 * KIB
        elif rng.random() < 0.2:
            gone = plan.joins + rng.uniform(20, 200)
            plan.away = (gone, gone + rng.uniform(10, 100))
        found.append(plan)
    return found


def found_in(swarm: Swarm) -> dict[str, float]:
    """What the bars are about: copies that the seed sent for the first whole copy, who finished when, rarity."""
    spent: dict[bool, list[float]] = {True: [], False: []}
    for node in swarm.nodes[1:]:
        if node.finished >= 0:
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


def simulate(
    leechers: int, pieces: int, seed: int, *, up: float, super_seeding: bool = False, deaf: float = 0.0,
    piece_length: int = 32 * KIB, stay: float = 60.0,
) -> dict[str, float]:  # fmt: skip
    """The figures of one swarm. `up`: the seed's line, bytes a second; `deaf`: the share that heeds no suggestions."""
    members = plans(leechers, seed, up=up, stay=stay)
    rng = random.Random(seed)
    for plan in members[1:]:
        plan.heeds = rng.random() >= deaf
    # Each connects to 25, or to a quarter, and is connected to by as many.
    links = min(25, leechers // 4)
    return found_in(
        Swarm(members, pieces=pieces, piece_length=piece_length, links=links, seed=seed, super_seeding=super_seeding).run()
    )


def describe(quick: bool) -> str:
    """What is simulated."""
    return f"1 seed, {40 if quick else 200} leechers of 20-300 KiB/s, 10 % free riders, churn; {6 if quick else 25} MiB"


def figures(quick: bool, seeds: tuple[int, ...] = (1,)) -> list[str]:
    """Simulates seeds with a slow and with a fast line, and super-seeding; the figures, a line each; medians of `seeds`."""
    leechers, pieces = (40, 200) if quick else (200, 800)
    lines = []
    for name, up, super_seeding, stay in (
        ("a seed of 100 KiB/s", 100 * KIB, False, 60.0),
        ("a seed of 100 KiB/s, and who has finished leaves at once", 100 * KIB, False, 0.0),
        ("a seed of 400 KiB/s", 400 * KIB, False, 60.0),
        ("super-seeding at 100 KiB/s", 100 * KIB, True, 60.0),
    ):
        runs = [simulate(leechers, pieces, seed, up=up, super_seeding=super_seeding, stay=stay) for seed in seeds]
        found = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        worst = max(run["seed_copies"] for run in runs)
        lines += [
            f"{name}: {min(run['finished'] for run in runs):.0f} of {leechers} have finished",
            f"  copies that the seed had sent when the leechers held one whole: {found['seed_copies']:.3f} (at most {worst:.3f})",
            f"  which was after {found['first_copy_s']:.0f} s",
            f"  the longest time that a piece had one holder: {found['longest_single_s']:.0f} s",
            f"  seconds from joining to the end, median: contributors {found['contributors_s']:.0f}"
            f" (the last {found['last_contributor_s']:.0f}), free riders {found['free_riders_s']:.0f}",
        ]
    return lines
