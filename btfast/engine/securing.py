"""MSE handshakes on connected sockets, with a time limit for each step.

A handshake is a few hundred bytes each way, on a socket that nobody has used: one that does not take ours at once belongs
to nobody who means well.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol

from btfast.errors import RemoteError
from btfast.wire.mse import Secured

STEP_TIMEOUT = 8.0  # seconds for each of its four or five steps
CHUNK = 4096  # bytes read at a time

Done = Callable[[Secured | None, str], None]


class Side(Protocol):
    """An Initiator or a Responder of btfast.wire.mse."""

    step: str
    secured: Secured | None

    def handle_bytes(self, data: bytes) -> bytes: ...


class Securing:
    """One handshake. `done(secured, why)` is called once, unless `close` comes first; the socket stays the caller's.

    Begin it with `send` (what the initiator says first) or `handle_bytes` (what the responder has been told).
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, side: Side, done: Done) -> None:
        self._loop = loop
        self._socket = sock
        self._side = side
        self._done: Done | None = done
        self._timer = loop.call_later(STEP_TIMEOUT, self._late)
        loop.add_reader(sock.fileno(), self._readable)

    def send(self, data: bytes) -> None:
        try:
            whole = self._socket.send(data) == len(data)
        except BlockingIOError:
            whole = False
        except OSError as error:
            self._end(None, f"encryption: {error.strerror} while we waited for {self._side.step}")
            return
        if not whole:
            self._end(None, f"encryption: it does not read while we wait for {self._side.step}")

    def handle_bytes(self, data: bytes) -> None:
        step = self._side.step
        try:
            reply = self._side.handle_bytes(data)
        except RemoteError as error:
            self._end(None, str(error))
            return
        if reply:
            self.send(reply)
        if self._done is None:
            return
        if self._side.secured is not None:
            self._end(self._side.secured, "")
        elif self._side.step != step:
            self._timer.cancel()
            self._timer = self._loop.call_later(STEP_TIMEOUT, self._late)

    def _readable(self) -> None:
        try:
            data = self._socket.recv(CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(None, f"encryption: {error.strerror} while we waited for {self._side.step}")
            return
        if data:
            self.handle_bytes(data)
        else:
            self._end(None, f"encryption: closed by the peer while we waited for {self._side.step}")

    def _late(self) -> None:
        self._end(None, f"encryption: {self._side.step} did not come in {STEP_TIMEOUT:g} s")

    def _end(self, secured: Secured | None, why: str) -> None:
        done = self._done
        self.close()
        if done is not None:
            done(secured, why)

    def close(self) -> None:
        """Lets the socket go; nobody is called back."""
        if self._done is not None:
            self._done = None
            self._timer.cancel()
            self._loop.remove_reader(self._socket.fileno())
