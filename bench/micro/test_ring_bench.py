"""The rings: one record, a batch, and there and back between two processes.

Run: pytest --benchmark-only bench/micro/test_ring_bench.py
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator

import pytest

from btfast._arena import shared_memory
from btfast._ring import Ring, ring_bytes

CAPACITY = 4096
DIGEST = bytes(20)

ECHO = """
import select, sys
from btfast._ring import Ring, ring_bytes
fd, capacity, jobs_wake, done_wake = map(int, sys.argv[1:])
jobs, done = Ring(fd, 0, capacity, jobs_wake), Ring(fd, ring_bytes(capacity), capacity, done_wake)
poll = select.poll()
poll.register(jobs_wake, select.POLLIN)
while True:
    batch = jobs.take()
    for record in batch:
        if record[0] == 0:
            sys.exit()
        done.put(129, record[1], 0, 0, 0, 0)
    if batch:
        done.wake()
    elif jobs.prepare_sleep():
        poll.poll()
        jobs.drain()
"""


class Pair:
    def __init__(self) -> None:
        self.fds = [shared_memory("bench-ring", 2 * ring_bytes(CAPACITY)), os.eventfd(0), os.eventfd(0)]
        self.jobs = Ring(self.fds[0], 0, CAPACITY, self.fds[1])
        self.done = Ring(self.fds[0], ring_bytes(CAPACITY), CAPACITY, self.fds[2])


@pytest.fixture
def pair() -> Iterator[Pair]:
    found = Pair()
    for fd in found.fds:
        os.set_blocking(fd, False)
    yield found
    for fd in found.fds:
        os.close(fd)


def test_a_record_in_and_out(benchmark, pair: Pair) -> None:
    def both() -> None:
        pair.jobs.put(1, 2, 3, 4, 5, 6, DIGEST)
        pair.jobs.take()

    benchmark(both)


def test_a_batch_of_64(benchmark, pair: Pair) -> None:
    def both() -> None:
        for n in range(64):
            pair.jobs.put(1, n, 3, 4, 5, 6, DIGEST)
        pair.jobs.take()

    benchmark(both)


def test_wake_nobody(benchmark, pair: Pair) -> None:
    benchmark(pair.jobs.wake)


@pytest.mark.parametrize("batch", [1, 64])
def test_there_and_back(benchmark, pair: Pair, batch: int) -> None:
    arguments = [sys.executable, "-c", ECHO, str(pair.fds[0]), str(CAPACITY), str(pair.fds[1]), str(pair.fds[2])]
    child = subprocess.Popen(arguments, pass_fds=pair.fds)
    poll = select.poll()
    poll.register(pair.done.wake_fd, select.POLLIN)

    def there_and_back() -> None:
        for n in range(batch):
            pair.jobs.put(1, n, 3, 4, 5, 6, DIGEST)
        pair.jobs.wake()
        left = batch
        while left:
            left -= len(pair.done.take())
            if left and pair.done.prepare_sleep():
                poll.poll()
                pair.done.drain()

    try:
        benchmark(there_and_back)
    finally:
        pair.jobs.put(0, 0, 0, 0, 0, 0)
        pair.jobs.wake()
        assert child.wait(10) == 0
