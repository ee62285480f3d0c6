"""Plain sockets that do not block the loop of the test, and waiting with a deadline."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from btfast.engine import securing
from btfast.engine.securing import Securing


def connect(port: int, host: str = "127.0.0.1") -> socket.socket:
    """A connection to a listener of this process."""
    sock = socket.create_connection((host, port), timeout=60)
    sock.setblocking(False)
    return sock


async def closed(sock: socket.socket) -> bytes:
    """Waits until the other side has closed; returns what it has sent."""
    data = b""
    async with asyncio.timeout(60):
        try:
            while more := await asyncio.get_running_loop().sock_recv(sock, 1 << 16):
                data += more
        except ConnectionResetError:
            pass  # closed with bytes of ours unread
    return data


def watched(monkeypatch: pytest.MonkeyPatch) -> list[Securing]:
    """The MSE handshakes that begin from now on."""
    found: list[Securing] = []
    begin = Securing.__init__

    def noted(self: Securing, *arguments: object) -> None:
        found.append(self)
        begin(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Securing, "__init__", noted)
    return found


def late(handshake: Securing) -> None:
    """The time of its step is over, for which a timer runs."""
    timer = handshake._timer
    assert not timer.cancelled()
    assert timer.when() - asyncio.get_running_loop().time() <= securing.STEP_TIMEOUT
    timer.cancel()
    handshake._late()


async def until(condition: Callable[[], object]) -> None:
    """Waits for a condition; TimeoutError when it does not come true."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)
