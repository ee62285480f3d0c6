"""Rings: records in order between processes, no wake-up lost, nothing believed that cannot be."""

from __future__ import annotations

import mmap
import os
import select
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import btfast
from btfast._arena import shared_memory
from btfast._ring import Ring, ring_bytes

ROOT = Path(btfast.__file__).resolve().parents[1]  # the build under test, for children
DEADLINE_MS = 30_000


class Memory:
    """Shared memory and wake-up descriptors, closed at the end."""

    def __init__(self) -> None:
        self.fds: list[int] = []

    def shared(self, size: int) -> int:
        self.fds.append(shared_memory("test-ring", size))
        return self.fds[-1]

    def eventfd(self) -> int:
        self.fds.append(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
        return self.fds[-1]

    def pipe(self) -> tuple[int, int]:
        pair = os.pipe()
        for fd in pair:
            os.set_blocking(fd, False)
        self.fds += pair
        return pair

    def ring(self, capacity: int) -> tuple[Ring, int]:
        fd = self.shared(ring_bytes(capacity))
        return Ring(fd, 0, capacity, self.eventfd()), fd


@pytest.fixture
def memory() -> Iterator[Memory]:
    found = Memory()
    yield found
    for fd in found.fds:
        os.close(fd)


def readable(fd: int, timeout_ms: int = 0) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout_ms))


def test_a_record_comes_out_as_it_went_in(memory: Memory) -> None:
    ring, _ = memory.ring(4)
    largest = (127, 2**64 - 1, 2**32 - 1, 2**32 - 1, 2**64 - 1, 2**32 - 1)
    assert ring.put(*largest, bytes(range(64)), 255)
    assert ring.put(0, 0, 0, 0, 0, 0)
    assert ring.put(1, 2, 3, 4, 5, 6, b"d" * 20)
    assert ring.put(128, 2, 3, 4, 5, 6, b"d" * 40, status=7, detail=65535)
    assert len(ring) == 4
    assert ring.take() == [
        (*largest, bytes(range(64)), 255, 0),
        (0, 0, 0, 0, 0, 0, b"", 0, 0),
        (1, 2, 3, 4, 5, 6, b"d" * 20, 0, 0),
        (128, 2, 3, 4, 5, 6, b"d" * 40, 7, 65535),
    ]
    assert (len(ring), ring.take()) == (0, [])


@pytest.mark.parametrize(
    ("record", "more", "error"),
    [
        ((1, 0, 0, 0, 0, 0, bytes(65)), {}, ValueError),
        ((1, 0, 0, 0, 0, 0), {"detail": 1}, ValueError),
        ((128, 0, 0, 0, 0, 0, bytes(65)), {}, ValueError),
        ((256, 0, 0, 0, 0, 0), {}, OverflowError),
        ((-1, 0, 0, 0, 0, 0), {}, OverflowError),
        ((1, 2**64, 0, 0, 0, 0), {}, OverflowError),
        ((1, 0, 2**32, 0, 0, 0), {}, OverflowError),
        ((1, 0, 0, 0, 0, 2**32), {}, OverflowError),
        ((128, 0, 0, 0, 0, 0), {"status": 256}, OverflowError),
        ((128, 0, 0, 0, 0, 0), {"detail": 65536}, OverflowError),
        ((1, 0, 0, 0, 0, 0, None), {}, TypeError),
    ],
)
def test_what_does_not_fit_a_record_is_refused(
    memory: Memory, record: tuple[int, ...], more: dict[str, int], error: type[Exception]
) -> None:
    ring, _ = memory.ring(1)
    with pytest.raises(error):
        ring.put(*record, **more)  # type: ignore[arg-type]
    assert len(ring) == 0


def test_a_full_ring_takes_no_more_until_something_was_taken(memory: Memory) -> None:
    ring, _ = memory.ring(4)
    assert [ring.put(1, n, 0, 0, 0, 0) for n in range(6)] == [True] * 4 + [False] * 2
    assert [record[1] for record in ring.take(1)] == [0]
    assert ring.put(1, 9, 0, 0, 0, 0)
    assert not ring.put(1, 10, 0, 0, 0, 0)
    assert [record[1] for record in ring.take(3)] == [1, 2, 3]
    assert ring.take(0) == []
    assert [record[1] for record in ring.take()] == [9]


def test_records_go_round_many_times(memory: Memory) -> None:
    ring, _ = memory.ring(2)
    for n in range(1000):
        assert ring.put(1, n, 0, 0, 0, 0)
        if n % 2:
            assert [record[1] for record in ring.take()] == [n - 1, n]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([1, 2, 8]), st.lists(st.one_of(st.just(None), st.integers(0, 9)), max_size=100))
def test_any_sequence_of_puts_and_takes_is_a_queue(capacity: int, operations: list[int | None]) -> None:
    memory = Memory()
    ring, _ = memory.ring(capacity)
    queue: deque[int] = deque()
    for number, operation in enumerate(operations):
        if operation is None:
            assert ring.put(1, number, 0, 0, 0, 0) == (len(queue) < capacity)
            if len(queue) < capacity:
                queue.append(number)
        else:
            assert [record[1] for record in ring.take(operation)] == [
                queue.popleft() for _ in range(min(operation, len(queue)))
            ]
        assert len(ring) == len(queue)
    del ring
    for fd in memory.fds:
        os.close(fd)


def test_only_a_sleeper_is_woken_and_only_once(memory: Memory) -> None:
    ring, _ = memory.ring(8)
    ring.put(1, 1, 0, 0, 0, 0)
    ring.wake()
    assert not readable(ring.wake_fd)
    assert not ring.prepare_sleep()
    ring.wake()
    assert not readable(ring.wake_fd)
    ring.take()
    assert ring.prepare_sleep()
    ring.put(1, 2, 0, 0, 0, 0)
    ring.wake()
    ring.wake()
    assert readable(ring.wake_fd)
    assert os.eventfd_read(ring.wake_fd) == 1
    ring.drain()  # nothing there: fine
    assert not ring.prepare_sleep()


def test_an_overfull_eventfd_is_a_wake_up_already(memory: Memory) -> None:
    ring, _ = memory.ring(8)
    os.eventfd_write(ring.wake_fd, 2**64 - 2)
    assert ring.prepare_sleep()
    ring.wake()
    ring.drain()
    assert not readable(ring.wake_fd)


def test_a_pipe_wakes_where_there_is_no_eventfd(memory: Memory) -> None:
    fd = memory.shared(ring_bytes(8))
    reading, writing = memory.pipe()
    producer = Ring(fd, 0, 8, writing, is_eventfd=False)
    consumer = Ring(fd, 0, 8, reading, is_eventfd=False)
    assert consumer.prepare_sleep()
    producer.put(1, 5, 0, 0, 0, 0)
    producer.wake()
    assert readable(reading)
    consumer.drain()
    assert not readable(reading)
    assert consumer.take()[0][1] == 5
    consumer.drain()


def test_a_wake_up_that_cannot_be_given_or_taken_raises(memory: Memory) -> None:
    fd = memory.shared(ring_bytes(8))
    ring = Ring(fd, 0, 8, 2**30)
    assert ring.prepare_sleep()
    with pytest.raises(OSError, match="Bad file descriptor"):
        ring.wake()
    with pytest.raises(OSError, match="Bad file descriptor"):
        ring.drain()


@pytest.mark.parametrize(("head", "tail"), [(1, 0), (0, 9), (5, 14), (2**64 - 1, 100), (100, 2**64 - 1)])
def test_damaged_counters_raise_on_every_side(memory: Memory, head: int, tail: int) -> None:
    ring, fd = memory.ring(8)
    with mmap.mmap(fd, ring_bytes(8)) as mapped:
        mapped[0:8] = struct.pack("Q", head)
        mapped[64:72] = struct.pack("Q", tail)
    for use in (ring.take, ring.__len__, lambda: ring.put(1, 0, 0, 0, 0, 0)):
        with pytest.raises(ValueError, match="damaged"):
            use()
    ring.reset()
    assert ring.take() == []


def test_a_record_that_lies_about_its_digest_reads_no_further(memory: Memory) -> None:
    ring, fd = memory.ring(8)
    ring.put(1, 0, 0, 0, 0, 0, b"d" * 20)
    with mmap.mmap(fd, ring_bytes(8)) as mapped:
        mapped[4096 + 96 : 4096 + 98] = b"\xff\xff"
    assert ring.take()[0][6] == b"d" * 20 + bytes(44)


def test_counters_near_their_end_go_on_from_0(memory: Memory) -> None:
    ring, fd = memory.ring(8)
    with mmap.mmap(fd, ring_bytes(8)) as mapped:
        mapped[0:8] = mapped[64:72] = struct.pack("Q", 2**64 - 3)
    for n in range(8):
        assert ring.put(1, n, 0, 0, 0, 0)
    assert not ring.put(1, 8, 0, 0, 0, 0)
    assert [record[1] for record in ring.take()] == list(range(8))


def test_reset_empties_the_ring_and_forgets_a_sleeper(memory: Memory) -> None:
    ring, _ = memory.ring(2)
    assert ring.prepare_sleep()
    ring.put(1, 1, 0, 0, 0, 0)
    ring.reset()
    assert (len(ring), ring.take()) == (0, [])
    ring.wake()
    assert not readable(ring.wake_fd)
    assert [ring.put(1, n, 0, 0, 0, 0) for n in range(3)] == [True, True, False]


def test_shapes_that_are_no_ring_are_refused(memory: Memory) -> None:
    fd = memory.shared(2 * ring_bytes(64))
    for position, capacity in ((0, 0), (0, 3), (100, 64), (0, 256), (8192, 128), (4096 * 100, 1), (0, 2**58)):
        with pytest.raises(ValueError, match="ring"):
            Ring(fd, position, capacity, 0)
    with pytest.raises(OSError, match="Bad file descriptor"):
        Ring(2**30, 0, 1, 0)


def test_two_rings_share_one_memory(memory: Memory) -> None:
    fd = memory.shared(2 * ring_bytes(64))
    one, other = Ring(fd, 0, 64, memory.eventfd()), Ring(fd, ring_bytes(64), 64, memory.eventfd())
    for n in range(64):
        one.put(1, n, 0, 0, 0, 0)
        other.put(2, n + 100, 0, 0, 0, 0)
    assert [record[:2] for record in one.take()] == [(1, n) for n in range(64)]
    assert [record[:2] for record in other.take()] == [(2, n + 100) for n in range(64)]


ECHO = """
import select, sys
from btfast._ring import Ring, ring_bytes
fd, capacity, jobs_wake, done_wake, count = map(int, sys.argv[1:])
jobs, done = Ring(fd, 0, capacity, jobs_wake), Ring(fd, ring_bytes(capacity), capacity, done_wake)
poll = select.poll()
poll.register(jobs_wake, select.POLLIN)
seen = 0
while seen < count:
    batch = jobs.take()
    if not batch:
        if jobs.prepare_sleep():
            if not poll.poll(30_000):
                sys.exit("a wake-up was lost")
            jobs.drain()
        continue
    for kind, job, torrent, index, offset, length, digest, status, detail in batch:
        assert (job, index, offset, digest) == (seen, seen % 1000, seen * 3, seen.to_bytes(20, "big")), job
        seen += 1
        while not done.put(128 | kind, job, torrent, index, offset, length, status=1, detail=index):
            done.wake()
    done.wake()
"""


@pytest.mark.parametrize(("capacity", "batch", "count"), [(4096, 64, 200_000), (64, 1, 20_000), (2, 2, 5_000)])
def test_another_process_gets_all_in_order_and_no_wake_up_is_lost(
    memory: Memory, capacity: int, batch: int, count: int
) -> None:
    fd = memory.shared(2 * ring_bytes(capacity))
    jobs_wake, done_wake = memory.eventfd(), memory.eventfd()
    jobs, done = Ring(fd, 0, capacity, jobs_wake), Ring(fd, ring_bytes(capacity), capacity, done_wake)
    arguments = [sys.executable, "-c", ECHO, *map(str, (fd, capacity, jobs_wake, done_wake, count))]
    child = subprocess.Popen(arguments, pass_fds=[fd, jobs_wake, done_wake], cwd=ROOT)
    try:
        put = answered = 0
        while answered < count:
            room = min(batch, capacity - (put - answered), count - put)
            for n in range(put, put + room):
                assert jobs.put(1, n, 0, n % 1000, n * 3, 0, n.to_bytes(20, "big"))
            put += room
            jobs.wake()
            found = done.take()
            for record in found:
                assert (record[0], record[1], record[8]) == (129, answered, answered % 1000)
                answered += 1
            if not found and not room and done.prepare_sleep():
                assert readable(done_wake, DEADLINE_MS), "a wake-up was lost"
                done.drain()
        assert child.wait(60) == 0
    finally:
        child.kill()
        child.wait()
