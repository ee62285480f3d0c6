"""Starting a worker process: its rings, its control stream, its command line. Imports no more than that needs.

The first workers are forked, where that is safe: what they load, the network process loads anyway, and a hundred
milliseconds of CPU are saved for each. That is before there is any loop or thread; later ones are new interpreters.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import NamedTuple

from btfast._arena import Arena, shared_memory
from btfast._ring import Ring, ring_bytes
from btfast.engine.forking import ForkedProcess, can_fork, fork

CAPACITY = 4096  # records a ring holds, so also the jobs that one worker may have open


class StartedWorker(NamedTuple):
    """A worker process and our ends of what leads to it."""

    process: subprocess.Popen[bytes] | ForkedProcess
    control: socket.socket
    jobs: Ring
    completions: Ring


class _Line:
    """What leads to a worker: a segment of two rings, a way to wake each end, and a control stream."""

    def __init__(self) -> None:
        self.rings = shared_memory("btfast-rings", 2 * ring_bytes(CAPACITY))
        self.is_eventfd = hasattr(os, "eventfd")
        if self.is_eventfd:
            self.jobs_wait = self.jobs_wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self.done_wait = self.done_wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self.jobs_wait, self.jobs_wake = os.pipe()
            self.done_wait, self.done_wake = os.pipe()
            for fd in (self.jobs_wait, self.jobs_wake, self.done_wait, self.done_wake):
                os.set_blocking(fd, False)
        self.ours, self.theirs = socket.socketpair()
        self.told = (self.rings, CAPACITY, self.jobs_wait, self.done_wake, self.theirs.fileno())
        self.fds = (self.rings, self.jobs_wait, self.done_wake, self.theirs.fileno())

    def hold(self, process: subprocess.Popen[bytes] | ForkedProcess) -> StartedWorker:
        """Keeps our ends; the worker has the others."""
        jobs = Ring(self.rings, 0, CAPACITY, self.jobs_wake, is_eventfd=self.is_eventfd)
        completions = Ring(self.rings, ring_bytes(CAPACITY), CAPACITY, self.done_wait, is_eventfd=self.is_eventfd)
        self.theirs.close()
        for fd in {self.rings, self.jobs_wait, self.done_wake} - {self.jobs_wake, self.done_wait}:
            os.close(fd)
        completions.prepare_sleep()
        return StartedWorker(process, self.ours, jobs, completions)


def start_worker(arena: Arena) -> StartedWorker:
    """It waits for orders and jobs as soon as it is up. Raises OSError."""
    line = _Line()
    told = (arena.fd, arena.size, *line.told, int(line.is_eventfd))
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "btfast.storage.worker", *map(str, told)],
        stdin=subprocess.DEVNULL,
        pass_fds=(arena.fd, *line.fds),
        env=_package_environment(),
    )
    return line.hold(process)


def start_workers(arena: Arena, count: int) -> list[StartedWorker]:
    """The first ones, before this process has a loop. Raises OSError."""
    return [_fork_worker(arena) if can_fork() else start_worker(arena) for _ in range(count)]


def _fork_worker(arena: Arena) -> StartedWorker:
    from btfast.storage.worker import serve  # loaded once, for all

    line = _Line()
    process = fork(lambda: serve(arena, *line.told, is_eventfd=line.is_eventfd), arena.fd, *line.fds)
    return line.hold(process)


def _package_environment() -> dict[str, str]:
    """The environment in which a child finds the same btfast that runs here."""
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    rest = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": here + (os.pathsep + rest if rest else "")}
