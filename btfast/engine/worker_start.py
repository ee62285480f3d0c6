"""Starting a worker process: its rings, its control stream, its command line. Imports no more than that needs.

The first workers are started before the network process has loaded its other modules: both load at the same time.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import NamedTuple

from btfast._arena import Arena, shared_memory
from btfast._ring import Ring, ring_bytes

CAPACITY = 4096  # records a ring holds, so also the jobs that one worker may have open


class StartedWorker(NamedTuple):
    """A worker process and our ends of what leads to it."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    jobs: Ring
    completions: Ring


def start_worker(arena: Arena) -> StartedWorker:
    """It waits for orders and jobs as soon as it is up. Raises OSError."""
    rings = shared_memory("btfast-rings", 2 * ring_bytes(CAPACITY))
    is_eventfd = hasattr(os, "eventfd")
    if is_eventfd:
        jobs_wait = jobs_wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        done_wait = done_wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    else:
        jobs_wait, jobs_wake = os.pipe()
        done_wait, done_wake = os.pipe()
        for fd in (jobs_wait, jobs_wake, done_wait, done_wake):
            os.set_blocking(fd, False)
    ours, theirs = socket.socketpair()
    jobs = Ring(rings, 0, CAPACITY, jobs_wake, is_eventfd=is_eventfd)
    completions = Ring(rings, ring_bytes(CAPACITY), CAPACITY, done_wait, is_eventfd=is_eventfd)
    inherited = (arena.fd, rings, jobs_wait, done_wake, theirs.fileno())
    told = (arena.fd, arena.size, rings, CAPACITY, jobs_wait, done_wake, theirs.fileno(), int(is_eventfd))
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "btfast.storage.worker", *map(str, told)],
        stdin=subprocess.DEVNULL,
        pass_fds=inherited,
        env=_package_environment(),
    )
    theirs.close()
    for fd in {rings, jobs_wait, done_wake} - {jobs_wake, done_wait}:
        os.close(fd)
    completions.prepare_sleep()
    return StartedWorker(process, ours, jobs, completions)


def _package_environment() -> dict[str, str]:
    """The environment in which a child finds the same btfast that runs here."""
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    rest = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": here + (os.pathsep + rest if rest else "")}
