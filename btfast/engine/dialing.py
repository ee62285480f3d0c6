"""Connections out, of all torrents: a bounded number of attempts at a time, and few to one address.

Many torrents may have one and the same seeder. A client that listens with a short backlog (libtorrent: 5) drops what
exceeds it, and a dropped SYN costs a second or three; so each address has a window of connections that it has not yet
answered with a handshake. It grows with each prompt answer and halves with each slow one.
"""

from __future__ import annotations

import asyncio
import collections
import errno
import os
import socket
from collections.abc import Callable

from btfast.engine.context import Context
from btfast.metainfo.addresses import PeerAddress

HALF_OPEN = 100  # attempts under way at once
TIMEOUT = 8.0  # seconds
WINDOW = 4.0  # unanswered connections to one address, to begin with
GROWTH = 0.25  # of the window with each prompt answer
SLOW = 0.9  # seconds: a SYN was sent again
WINDOWS = 4096  # addresses whose window is remembered

Dialed = Callable[[socket.socket | None, str], None]


class _Line:
    """One address: its window, and who waits for it."""

    __slots__ = ("unanswered", "waiting", "window")

    def __init__(self) -> None:
        self.window = WINDOW
        self.unanswered = 0
        self.waiting: collections.deque[Dialed] = collections.deque()


class Dialer:
    """`dial` calls back with a connected socket, or with why there is none; `answered` must follow each socket."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lines: dict[PeerAddress, _Line] = {}
        self._ready: collections.deque[tuple[PeerAddress, Dialed]] = collections.deque()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def room(self) -> int:
        """How many more attempts would start at once, if their addresses allow."""
        return max(0, HALF_OPEN - len(self._tasks) - len(self._ready))

    def dial(self, address: PeerAddress, done: Dialed) -> None:
        line = self._lines.get(address)
        if line is None:
            if len(self._lines) >= WINDOWS:
                self._forget_idle()
            line = self._lines[address] = _Line()
        line.waiting.append(done)
        self._advance(address, line)

    def answered(self, address: PeerAddress, seconds: float | None) -> None:
        """A connected peer's handshake came after `seconds`; None: it never will."""
        line = self._lines.get(address)
        if line is None:
            return
        line.unanswered -= 1
        if seconds is not None:
            line.window = line.window + GROWTH if seconds < SLOW else max(1.0, line.window / 2)
        self._advance(address, line)

    def _advance(self, address: PeerAddress, line: _Line) -> None:
        while line.waiting and line.unanswered < line.window:
            line.unanswered += 1
            self._ready.append((address, line.waiting.popleft()))
        self._start()

    def _start(self) -> None:
        while self._ready and len(self._tasks) < HALF_OPEN:
            address, done = self._ready.popleft()
            task = self._context.loop.create_task(self._connect(address, done))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._start()
        if not task.cancelled() and task.exception() is not None:
            self._context.loop.call_exception_handler({"message": "dialing failed", "exception": task.exception()})

    async def _connect(self, address: PeerAddress, done: Dialed) -> None:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            self._failed(address, done, error.strerror or "no socket")
            return
        began = self._context.loop.time()
        try:
            sock.setblocking(False)
            if self._context.settings.bind and (":" in self._context.settings.bind) == (family == socket.AF_INET6):
                sock.bind((self._context.settings.bind, 0))
            async with asyncio.timeout(TIMEOUT):
                await self._context.loop.sock_connect(sock, (address.host, address.port))
        except TimeoutError:
            sock.close()
            self._failed(address, done, "no answer")
        except OSError as error:
            sock.close()
            self._failed(address, done, os.strerror(error.errno or errno.EIO))
        except asyncio.CancelledError:
            sock.close()
            raise
        else:
            line = self._lines.get(address)
            if line is not None and self._context.loop.time() - began > SLOW:
                line.window = max(1.0, line.window / 2)
            done(sock, "")

    def _failed(self, address: PeerAddress, done: Dialed, why: str) -> None:
        done(None, why)
        self.answered(address, None)

    def _forget_idle(self) -> None:
        for address in [address for address, line in self._lines.items() if not line.unanswered and not line.waiting]:
            del self._lines[address]

    def close(self) -> None:
        self._ready.clear()
        self._lines.clear()
        for task in self._tasks:
            task.cancel()
