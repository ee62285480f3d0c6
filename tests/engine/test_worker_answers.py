"""What a worker answers on two ways at once reaches its owner in an order that makes sense."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys

import pytest

from btfast._arena import shared_memory
from btfast._ring import Ring, ring_bytes
from btfast.engine.worker_process import WorkerProcess
from btfast.engine.worker_start import StartedWorker
from btfast.storage.messages import DONE, FAILED, OK, WRITE_PIECE, Answer, Problem, encode

WHY = Problem(torrent=0, path="/there", message="No space left on device", errno=errno.ENOSPC)


@pytest.mark.parametrize("said", [True, False])
def test_why_something_failed_is_heard_before_that_it_failed(said: bool) -> None:
    rings, jobs_wake, done_wake = shared_memory("test-rings", 2 * ring_bytes(64)), os.eventfd(0), os.eventfd(0, os.EFD_NONBLOCK)
    jobs, ours = Ring(rings, 0, 64, jobs_wake), Ring(rings, ring_bytes(64), 64, done_wake)
    theirs = Ring(rings, ring_bytes(64), 64, done_wake)
    control, far_end = socket.socketpair()
    process = subprocess.Popen([sys.executable, "-c", ""])
    heard: list[object] = []

    def answered(worker: WorkerProcess, answer: Answer) -> None:
        heard.append(answer)

    worker = WorkerProcess(
        StartedWorker(process, control, jobs, ours), answered, lambda worker, done: heard.extend(done), lambda worker: None
    )
    if said:
        far_end.sendall(encode(WHY))
    theirs.put(DONE | WRITE_PIECE, 1, 0, 0, 0, 0, status=OK)
    theirs.put(DONE | WRITE_PIECE, 2, 0, 1, 0, 0, status=FAILED, detail=errno.ENOSPC)
    worker._completions_readable()
    numbers = [done[:3] for done in heard[-2:]]  # type: ignore[index]
    assert numbers == [(1, OK, 0), (2, FAILED, errno.ENOSPC)]
    assert heard[:-2] == ([WHY] if said else [])
    process.wait()
    for end in (control, far_end):
        end.close()
    for fd in (rings, jobs_wake, done_wake):
        os.close(fd)
