"""The bitfield at the size of a large torrent, 40,000 pieces.

Run: pytest --benchmark-only bench/micro/test_bitfield_bench.py
"""

from __future__ import annotations

import random

import pytest

from btfast._bitfield import Bitfield

PIECES = 40_000


def scattered(share: float, seed: int) -> Bitfield:
    rng = random.Random(seed)
    field = Bitfield(PIECES)
    for index in range(PIECES):
        if rng.random() < share:
            field.set(index)
    return field


def test_set(benchmark):
    field = Bitfield(PIECES)
    benchmark(field.set, 12345)


def test_lookup(benchmark):
    field = scattered(0.5, 1)
    benchmark(field.__getitem__, 12345)


def test_from_message(benchmark):
    data = scattered(0.5, 1).to_bytes()
    benchmark(Bitfield, PIECES, data)


def test_to_message(benchmark):
    benchmark(scattered(0.5, 1).to_bytes)


def test_nothing_new(benchmark):
    # The worst case of `interested`: every word has to be looked at.
    have = scattered(0.5, 1)
    have.clear(PIECES - 1)
    ours = have.copy()
    ours.set(PIECES - 1)
    assert benchmark(have.any_and_not, ours) is False


def test_difference(benchmark):
    benchmark(scattered(0.5, 1).and_not, scattered(0.5, 2))


@pytest.mark.parametrize("share", [0.01, 0.5, 1.0])
def test_indices(benchmark, share):
    field = Bitfield.full(PIECES) if share == 1 else scattered(share, 1)
    assert len(benchmark(field.indices)) == field.count


def test_walk(benchmark):
    field = scattered(0.5, 1)
    assert benchmark(lambda: sum(1 for _ in field.iter_set())) == field.count
