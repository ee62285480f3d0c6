"""Hash kernels against hashlib. Run: pytest -s --benchmark-only bench/micro/test_hashing_bench.py

The rate of a row is in its extra_info (GiB/s of the best round), and printed with `-s` as one line."""

from __future__ import annotations

import mmap
import random

import pytest

from btfast._hashing import hash_many, kernels

SIZES = {"16K": 1 << 14, "256K": 1 << 18, "1M": 1 << 20}
CASES = [(a, k) for a in ("sha1", "sha256") for k in ("auto", *kernels(a))]


def aligned(size: int, count: int) -> list[memoryview]:
    """Buffers as the arena has them: one after the other, page-aligned."""
    area = mmap.mmap(-1, size * count)
    area[:] = random.Random(0).randbytes(size) * count
    view = memoryview(area)
    return [view[i * size : (i + 1) * size] for i in range(count)]


@pytest.mark.parametrize("count", [1, 4, 16, 20])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("algorithm", "kernel"), CASES)
def test_hash_many(benchmark, algorithm, kernel, size, count):
    benchmark.group = f"{algorithm} {count} x {size}"
    buffers = aligned(SIZES[size], count)
    repeats = max(1, (4 << 20) // (SIZES[size] * count))
    forced = None if kernel == "auto" else kernel

    def run() -> None:
        for _ in range(repeats):
            hash_many(algorithm, buffers, kernel=forced)

    benchmark.pedantic(run, rounds=9, warmup_rounds=1)
    total = SIZES[size] * count * repeats
    if benchmark.stats is not None:
        rate = total / benchmark.stats.stats.min / (1 << 30)
        benchmark.extra_info["GiB/s"] = round(rate, 2)
        print(f"\n{algorithm:7} {kernel:9} {count:3} x {size:5} {rate:6.2f} GiB/s")
