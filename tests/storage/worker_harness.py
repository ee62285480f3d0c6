"""A real worker process, driven as the network process drives it: orders, jobs in a ring, completions out of another."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import btfast
from btfast._arena import Arena, Slot, shared_memory
from btfast._ring import Ring, ring_bytes
from btfast.frames import Frames
from btfast.storage import messages

CAPACITY = 256
PATIENCE = 60.0


class Done(NamedTuple):
    """A completion record."""

    kind: int
    job: int
    torrent: int
    index: int
    status: int
    detail: int


class WorkerUnderTest:
    """Usable as `with WorkerUnderTest() as worker`; at its end the worker must leave by itself."""

    def __init__(self) -> None:
        self.arena = Arena.create(64 << 20)
        rings = shared_memory("test-rings", 2 * ring_bytes(CAPACITY))
        jobs_wake, done_wake = (os.eventfd(0, os.EFD_NONBLOCK) for _ in range(2))
        self.control, theirs = socket.socketpair()
        self._jobs = Ring(rings, 0, CAPACITY, jobs_wake)
        self._completions = Ring(rings, ring_bytes(CAPACITY), CAPACITY, done_wake)
        self._frames = Frames()
        self._number = 0
        self._slots: dict[int, Slot] = {}
        self.answers: list[messages.Answer] = []
        arguments = {
            "arena": self.arena.fd,
            "arena-size": self.arena.size,
            "rings": rings,
            "capacity": CAPACITY,
            "jobs-wake": jobs_wake,
            "completions-wake": done_wake,
            "control": theirs.fileno(),
            "eventfd": 1,
        }
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "btfast.storage.worker",
                *map(str, arguments.values()),
            ],
            pass_fds=(self.arena.fd, rings, jobs_wake, done_wake, theirs.fileno()),
            env=os.environ | {"PYTHONPATH": str(Path(btfast.__file__).resolve().parents[1])},
            stderr=subprocess.PIPE,
        )
        theirs.close()
        self._fds = (rings, jobs_wake, done_wake)

    def __enter__(self) -> WorkerUnderTest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.control.close()
        try:
            _, errors = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        finally:
            for fd in self._fds:
                os.close(fd)
        if kind is None:
            assert errors == b""

    def order(self, order: messages.Order) -> None:
        self.control.sendall(messages.encode(order))

    def give(
        self, kind: int, torrent: int, index: int, slot: Slot | None = None, digest: bytes = b"", attempt: int = 0
    ) -> int:
        """Puts a job into the ring without waking the worker; returns the job's number."""
        self._number += 1
        if slot is not None:
            self._slots[self._number] = slot
        offset, length = (slot.offset, slot.length) if slot is not None else (attempt, 0)
        assert self._jobs.put(kind, self._number, torrent, index, offset, length, digest)
        return self._number

    def wake(self) -> None:
        self._jobs.wake()

    def completions(self, count: int) -> list[Done]:
        """Waits for so many completions, and reads the answers that come meanwhile."""
        found: list[Done] = []
        deadline = time.monotonic() + PATIENCE
        while len(found) < count:
            for record in self._completions.take():
                found.append(Done(record[0], *record[1:4], record[7], record[8]))
                self._slots.pop(record[1], None)
            if len(found) < count and self._completions.prepare_sleep():
                self._wait([self._completions.wake_fd, self.control.fileno()], deadline)
                self._completions.drain()
                self._read_answers()
        self._read_answers()
        return found

    def answer(self) -> messages.Answer:
        """Waits for one answer."""
        deadline = time.monotonic() + PATIENCE
        while not self.answers:
            self._wait([self.control.fileno()], deadline)
            self._read_answers()
        return self.answers.pop(0)

    def _wait(self, fds: list[int], deadline: float) -> None:
        assert self.process.poll() is None, "the worker has died"
        ready, _, _ = select.select(fds, [], [], max(0.0, deadline - time.monotonic()))
        assert ready, "the worker does not answer"

    def _read_answers(self) -> None:
        while select.select([self.control], [], [], 0)[0]:
            data = self.control.recv(1 << 16)
            assert data, "the worker has closed its control stream"
            self.answers += [messages.decode_answer(body) for body in self._frames.handle_bytes(data)]
