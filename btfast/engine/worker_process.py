"""One worker process as the network process sees it: its rings, its control stream, and the jobs it has not answered."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, cast

from btfast._arena import Slot
from btfast.engine.worker_start import CAPACITY, StartedWorker
from btfast.frames import Frames
from btfast.storage import messages

if TYPE_CHECKING:
    import psutil


class Job(NamedTuple):
    """What was given to a worker; the slot's bytes stay until it has answered."""

    kind: int
    torrent: int
    piece: int  # or the file
    slot: Slot | None
    digest: bytes
    attempt: int = 0
    told: bytes = b""  # by the worker's answer


class WorkerProcess(asyncio.Protocol):
    """Speaks with a worker that was started. `handle_answer`, `handle_completions` and `handle_death` are called in the loop."""

    def __init__(
        self,
        started: StartedWorker,
        handle_answer: Callable[[WorkerProcess, messages.Answer], None],
        handle_completions: Callable[[WorkerProcess, list[tuple[int, int, int, bytes]]], None],
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
        self.orders: list[messages.Question] = []  # not yet answered
        self.lent: dict[int, Slot] = {}  # of each question of them that it reads something for: where to
        self.process = started.process
        self._socket = started.control
        self._jobs, self._completions = started.jobs, started.completions
        self._fds = {self._jobs.wake_fd, self._completions.wake_fd}

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
            if (answered := messages.question_of(answer)) is not None:
                self.orders = [order for order in self.orders if messages.question_of(order) != answered]
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
        if isinstance(order, messages.Question):
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
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                return time.clock_gettime(~self.process.pid << 3 | 2)  # its CPU clock's id, as clock_getcpuclockid(3) makes it
            return 0.0
        import psutil  # 10 ms

        try:
            if self._figures is None:
                self._figures = psutil.Process(self.process.pid)
            times = self._figures.cpu_times()
        except (psutil.Error, OSError):
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
        done: list[tuple[int, int, int, bytes]] = []
        while True:
            done += [(record[1], record[7], record[8], record[6]) for record in self._completions.take()]
            if self._completions.prepare_sleep():
                break
        if any(status == messages.FAILED for _, status, _, _ in done):
            self._hear_why()
        if done:
            self._handle_completions(self, done)

    def _hear_why(self) -> None:
        """Why something failed was said before it was put into the ring, and may not have been read yet."""
        data = b" "
        while data:
            try:
                data = self._socket.recv(1 << 16, socket.MSG_DONTWAIT)
            except OSError:  # there is nothing more, or the worker has gone, which others notice
                return
            self.data_received(data)

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
