"""Connections out, of all torrents: a bounded number of attempts at a time."""

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


class Dialer:
    """`dial` calls back with a connected socket, or with why there is none."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: collections.deque[tuple[PeerAddress, Callable[[socket.socket | None, str], None]]] = collections.deque()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def room(self) -> int:
        """How many more attempts would start at once."""
        return max(0, HALF_OPEN - len(self._tasks) - len(self._waiting))

    def dial(self, address: PeerAddress, done: Callable[[socket.socket | None, str], None]) -> None:
        self._waiting.append((address, done))
        self._start()

    def _start(self) -> None:
        while self._waiting and len(self._tasks) < HALF_OPEN:
            address, done = self._waiting.popleft()
            task = self._context.loop.create_task(self._connect(address, done))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._start()
        if not task.cancelled() and task.exception() is not None:
            self._context.loop.call_exception_handler({"message": "dialing failed", "exception": task.exception()})

    async def _connect(self, address: PeerAddress, done: Callable[[socket.socket | None, str], None]) -> None:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            done(None, error.strerror or "no socket")
            return
        try:
            sock.setblocking(False)
            if self._context.settings.bind and (":" in self._context.settings.bind) == (family == socket.AF_INET6):
                sock.bind((self._context.settings.bind, 0))
            async with asyncio.timeout(TIMEOUT):
                await self._context.loop.sock_connect(sock, (address.host, address.port))
        except TimeoutError:
            sock.close()
            done(None, "no answer")
        except OSError as error:
            sock.close()
            done(None, os.strerror(error.errno or errno.EIO))
        except asyncio.CancelledError:
            sock.close()
            raise
        else:
            done(sock, "")

    def close(self) -> None:
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()
