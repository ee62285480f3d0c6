"""The arena at its default size, 256 MiB.

Run: pytest --benchmark-only bench/micro/test_arena_bench.py
"""

from __future__ import annotations

import random

import pytest

from btfast._arena import Arena, Slot

SIZE = 256 << 20


@pytest.mark.parametrize("piece", [16 << 10, 256 << 10, 16 << 20])
def test_take_and_give_back_in_a_busy_arena(benchmark, piece: int) -> None:
    arena = Arena.create(SIZE)
    rng = random.Random(1)
    slots = [arena.allocate(piece, rng.randrange(4096)) for _ in range(SIZE // (piece + 4096))]
    rng.shuffle(slots)
    del slots[: len(slots) // 2 + 1]
    benchmark(arena.allocate, piece, 100)


def test_ask_a_full_arena(benchmark) -> None:
    arena = Arena.create(SIZE)
    slots: list[Slot | None] = [arena.allocate(12 << 10) for _ in range(SIZE // (12 << 10))]
    del slots[:-1:2]
    assert arena.allocate(16 << 10) is None
    assert benchmark(arena.allocate, 16 << 10) is None


def test_write_a_block(benchmark) -> None:
    slot = Arena.create(1 << 20).allocate(1 << 20)
    assert slot is not None
    benchmark(slot.write, 16384, bytes(16384))


def test_view_a_piece(benchmark) -> None:
    arena = Arena.create(1 << 20)
    benchmark(arena.view, 4096, 262144)
