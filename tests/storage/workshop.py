"""A worker in the test's own process, so that a test can step between its steps."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable

from btfast._arena import Arena, shared_memory
from btfast._ring import Ring, ring_bytes
from btfast.frames import Frames
from btfast.storage.messages import Answer, decode_answer
from btfast.storage.worker import Worker


class Workshop:
    """The worker, and both ends of its rings and of its control stream. `memory`: bytes of its arena."""

    def __init__(self, memory: int = 8 << 20) -> None:
        self.arena = Arena.create(memory)
        self._fds = [shared_memory("test-rings", 2 * ring_bytes(64)), *(os.eventfd(0, os.EFD_NONBLOCK) for _ in "12")]
        rings, jobs_wake, done_wake = self._fds
        self.jobs = Ring(rings, 0, 64, jobs_wake)
        self.completions = Ring(rings, ring_bytes(64), 64, done_wake)
        self.control, self._theirs = socket.socketpair()
        self.worker = Worker(self.arena, self.jobs, self.completions, self._theirs.fileno())

    def answers(self, count: int) -> list[Answer]:
        """Runs the worker until it has answered so often."""
        found: list[Answer] = []

        def read() -> None:
            frames = Frames()
            self.control.settimeout(60)
            try:
                while len(found) < count:
                    found.extend(map(decode_answer, frames.handle_bytes(self.control.recv(1 << 16))))
            finally:
                self.control.shutdown(socket.SHUT_WR)

        self._run_beside(read)
        return found

    def completed(self, count: int) -> list[int]:
        """Runs the worker until it has done so many jobs; their numbers, in order."""
        found: list[int] = []
        deadline = time.monotonic() + 20

        def read() -> None:
            while len(found) < count and time.monotonic() < deadline:
                found.extend(record[1] for record in self.completions.take())
                time.sleep(0.001)
            self.control.shutdown(socket.SHUT_WR)

        self._run_beside(read)
        return found

    def _run_beside(self, read: Callable[[], None]) -> None:
        """Runs the worker until `read`, in a thread, has shut the control stream down."""
        reader = threading.Thread(target=read)
        reader.start()
        self.worker.run()
        reader.join()

    def close(self) -> None:
        self.control.close()
        self._theirs.close()
        for fd in self._fds:
            os.close(fd)
