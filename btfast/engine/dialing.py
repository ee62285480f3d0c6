"""Connections out, of all torrents: a bounded number of attempts at a time, and few to one address.

Many torrents may have one and the same seeder. A client that listens with a short backlog (libtorrent: 5) drops what
exceeds it, and a dropped SYN costs a second or three; so each address has a window of connections that it has not yet
answered with a handshake. It grows with each prompt answer and halves with each slow one.

An attempt at an address where nobody is takes its room for TIMEOUT seconds, so the torrents take turns, one attempt each:
one with a thousand such addresses must not keep another from the only one that it has.
"""

from __future__ import annotations

import asyncio
import collections
import errno
import os
import socket
from collections.abc import Callable
from typing import Protocol

from btfast.engine.context import Context
from btfast.engine.places import EXHAUSTED
from btfast.metainfo.addresses import PeerAddress

HALF_OPEN = 100  # attempts under way at once
TIMEOUT = 8.0  # seconds
REST = 1.0  # seconds without attempts when no descriptor is free
WINDOW = 4.0  # unanswered connections to one address, to begin with
GROWTH = 0.25  # of the window with each prompt answer
SLOW = 0.9  # seconds: a SYN was sent again
WINDOWS = 4096  # addresses whose window is remembered

Dialed = Callable[[socket.socket | None, str], None]


class Wanting(Protocol):
    """A torrent that has addresses to dial. `dial_one` dials one of them; False: it has none for now."""

    def dial_one(self) -> bool: ...


class _Line:
    """One address: its window, and who waits for it."""

    __slots__ = ("unanswered", "waiting", "window")

    def __init__(self) -> None:
        self.window = WINDOW
        self.unanswered = 0
        self.waiting: collections.deque[Dialed] = collections.deque()


class Dialer:
    """`dial` calls back with a connected socket, or with why there is none; `answered` must follow each socket.

    Sockets are connected by hand: the loop's own way looks literal addresses up in a thread (uvloop: 0.17 ms each).
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lines: dict[PeerAddress, _Line] = {}
        self._ready: collections.deque[tuple[PeerAddress, Dialed]] = collections.deque()
        self._open: dict[socket.socket, asyncio.TimerHandle] = {}
        self._turns: dict[Wanting, None] = {}  # who has addresses and found no room; next one first
        self._starting = False
        self._most = min(HALF_OPEN, context.places.half_open)
        self._resting: asyncio.TimerHandle | None = None

    @property
    def room(self) -> int:
        """How many more attempts would start at once, if their addresses allow."""
        return max(0, self._most - len(self._open) - len(self._ready))

    def want(self, who: Wanting) -> None:
        """Has `who` dial, now or as room comes, in turn with the others until it has nothing left to dial."""
        self._turns.setdefault(who)
        self._start()

    def waits(self, who: Wanting) -> bool:
        """Whether `who` has not dialed all that it would, for lack of room."""
        return who in self._turns

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
        if self._starting:  # an attempt that failed at once has called back into here
            return
        self._starting = True
        try:
            while len(self._open) < self._most and self._resting is None:
                if self._ready:
                    self._connect(*self._ready.popleft())
                elif self._turns:
                    who = next(iter(self._turns))
                    del self._turns[who]
                    if who.dial_one():
                        self._turns[who] = None  # behind the others
                else:
                    break
        finally:
            self._starting = False

    def _connect(self, address: PeerAddress, done: Dialed) -> None:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            if error.errno in EXHAUSTED:  # the address is not to blame
                self._ready.appendleft((address, done))
                self._resting = self._context.loop.call_later(REST, self._go_on)
            else:
                self._failed(address, done, error)
            return
        loop, bind = self._context.loop, self._context.settings.bind
        sock.setblocking(False)
        try:
            if bind:
                sock.bind((bind, 0))  # fails for an address of the other family: no packet goes out by another way
            problem = sock.connect_ex((address.host, address.port))
            if problem not in (0, errno.EINPROGRESS):
                raise OSError(problem, os.strerror(problem))
        except OSError as error:
            sock.close()
            self._failed(address, done, error)
            return
        began = loop.time()
        self._open[sock] = loop.call_later(TIMEOUT, self._settled, sock, address, done, began)
        loop.add_writer(sock.fileno(), self._settled, sock, address, done, began)

    def _go_on(self) -> None:
        self._resting = None
        self._start()

    def _settled(self, sock: socket.socket, address: PeerAddress, done: Dialed, began: float) -> None:
        """It has connected, or failed, or TIMEOUT seconds are over."""
        loop = self._context.loop
        self._open.pop(sock).cancel()
        loop.remove_writer(sock.fileno())
        seconds = loop.time() - began
        problem = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not problem and seconds >= TIMEOUT:
            problem = errno.ETIMEDOUT
        line = self._lines.get(address)
        if line is not None and seconds > SLOW:
            line.window = max(1.0, line.window / 2)
        if problem:
            sock.close()
            self._failed(address, done, OSError(problem, os.strerror(problem)))
        else:
            done(sock, "")
        self._start()

    def _failed(self, address: PeerAddress, done: Dialed, error: OSError) -> None:
        done(None, error.strerror or "no connection")
        self.answered(address, None)

    def _forget_idle(self) -> None:
        for address in [address for address, line in self._lines.items() if not line.unanswered and not line.waiting]:
            del self._lines[address]

    def close(self) -> None:
        """Drops what is under way; nobody is called back."""
        if self._resting is not None:
            self._resting.cancel()
        self._turns.clear()
        self._ready.clear()
        self._lines.clear()
        for sock, timer in self._open.items():
            timer.cancel()
            self._context.loop.remove_writer(sock.fileno())
            sock.close()
        self._open.clear()
