"""Plain sockets that do not block the loop of the test, and waiting with a deadline."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable


def connect(port: int, host: str = "127.0.0.1") -> socket.socket:
    """A connection to a listener of this process."""
    sock = socket.create_connection((host, port), timeout=5)
    sock.setblocking(False)
    return sock


async def closed(sock: socket.socket) -> bytes:
    """Waits until the other side has closed; returns what it has sent."""
    data = b""
    async with asyncio.timeout(20):
        try:
            while more := await asyncio.get_running_loop().sock_recv(sock, 1 << 16):
                data += more
        except ConnectionResetError:
            pass  # closed with bytes of ours unread
    return data


async def until(condition: Callable[[], object]) -> None:
    """Waits for a condition; TimeoutError when it does not come true."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)
