"""One worker process as the network process sees it: its rings, its control stream, and the jobs it has not answered."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, cast

import psutil

from btfast._arena import Arena, Slot, shared_memory
from btfast._ring import Ring, ring_bytes
from btfast.frames import Frames
from btfast.storage import messages

CAPACITY = 4096  # records a ring holds, so also the jobs that one worker may have open


class Job(NamedTuple):
    """What was given to a worker; the slot's bytes stay until it has answered."""

    kind: int
    torrent: int
    piece: int  # or the file
    slot: Slot | None
    digest: bytes
    attempt: int = 0


def package_environment() -> dict[str, str]:
    """The environment in which a child finds the same btfast that runs here."""
    here = str(Path(__file__).resolve().parents[2])
    rest = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": here + (os.pathsep + rest if rest else "")}


class WorkerProcess(asyncio.Protocol):
    """Starts a worker and speaks with it. `handle_answer`, `handle_completions` and `handle_death` are called in the loop."""

    def __init__(
        self,
        arena: Arena,
        handle_answer: Callable[[WorkerProcess, messages.Answer], None],
        handle_completions: Callable[[WorkerProcess, list[tuple[int, int, int]]], None],
        handle_death: Callable[[WorkerProcess], None],
    ) -> None:
        self._handle_answer = handle_answer
        self._handle_completions = handle_completions
        self._handle_death = handle_death
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None
        self._closing = False
        self._closed = False
        self.jobs: dict[int, Job] = {}
        self.job_bytes = 0
        self.torrents: set[int] = set()  # those that it was told of
        self._unsent: list[bytes] = []
        self._figures: psutil.Process | None = None
        self.orders: list[messages.CheckPieces] = []  # not yet answered
        self._start(arena)

    def _start(self, arena: Arena) -> None:
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
        self._fds = {jobs_wake, done_wait}
        self._jobs = Ring(rings, 0, CAPACITY, jobs_wake, is_eventfd=is_eventfd)
        self._completions = Ring(rings, ring_bytes(CAPACITY), CAPACITY, done_wait, is_eventfd=is_eventfd)
        arguments = {
            "arena": arena.fd,
            "arena-size": arena.size,
            "rings": rings,
            "capacity": CAPACITY,
            "jobs-wake": jobs_wait,
            "completions-wake": done_wake,
            "control": theirs.fileno(),
            "eventfd": int(is_eventfd),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "btfast.storage.worker", *(f"--{k}={v}" for k, v in arguments.items())],
            stdin=subprocess.DEVNULL,
            pass_fds=(arena.fd, rings, jobs_wait, done_wake, theirs.fileno()),
            env=package_environment(),
        )
        theirs.close()
        for fd in {rings, jobs_wait, done_wake} - self._fds:
            os.close(fd)
        self._socket = ours
        self._completions.prepare_sleep()

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._completions.wake_fd, self._completions_readable)
        await loop.create_unix_connection(lambda: self, sock=self._socket)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but ancestry
        self._send_orders()

    def data_received(self, data: bytes) -> None:
        for body in self._frames.handle_bytes(data):
            answer = messages.decode_answer(body)
            if isinstance(answer, messages.PiecesChecked):
                answered = (answer.torrent, answer.first)
                self.orders = [order for order in self.orders if (order.torrent, order.first) != answered]
            self._handle_answer(self, answer)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._closing:
            return
        self._completions_readable()  # what it finished before it died counts
        self.close(kill=True)
        self._handle_death(self)

    # work

    @property
    def room(self) -> int:
        """Jobs it may still be given."""
        return CAPACITY - len(self.jobs)

    def order(self, order: messages.Order) -> None:
        if isinstance(order, messages.CheckPieces):
            self.orders.append(order)
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._send_orders)
        self._unsent.append(messages.encode(order))

    def _send_orders(self) -> None:
        """What was ordered in one turn of the loop leaves in one write."""
        if self._transport is not None and self._unsent:
            unsent, self._unsent = self._unsent, []
            self._transport.write(b"".join(unsent))

    def cpu_seconds(self) -> float:
        """CPU time used so far; 0 when it cannot be told."""
        try:
            if self._figures is None:
                self._figures = psutil.Process(self.process.pid)
            times = self._figures.cpu_times()
        except psutil.Error:
            return 0.0
        return float(times.user + times.system)

    def give(self, number: int, job: Job) -> None:
        """Puts a job into the ring; `wake` after the last one."""
        self.jobs[number] = job
        slot = job.slot
        offset, length = (slot.offset, slot.length) if slot is not None else (job.attempt, 0)
        self.job_bytes += length
        self._jobs.put(job.kind, number, job.torrent, job.piece, offset, length, job.digest)

    def wake(self) -> None:
        if not self._closed:  # its descriptors may be somebody else's by now
            self._jobs.wake()

    def _completions_readable(self) -> None:
        self._completions.drain()
        done: list[tuple[int, int, int]] = []
        while True:
            done += [(record[1], record[7], record[8]) for record in self._completions.take()]
            if self._completions.prepare_sleep():
                break
        if done:
            self._handle_completions(self, done)

    def close(self, *, kill: bool = False) -> None:
        """Ends the control stream, after which the worker leaves by itself; `kill`: at once."""
        if self._closed:
            return
        self._closed = True
        self._closing = True
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._completions.wake_fd)
        if self._transport is not None:
            self._transport.close()
        else:
            self._socket.close()
        if kill:
            self.process.kill()
            self.process.wait()
        for fd in self._fds:
            os.close(fd)
