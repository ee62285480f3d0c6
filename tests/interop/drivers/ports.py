"""Ports of one test's own, and talking to one."""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
from collections.abc import Mapping


def free_port() -> int:
    """A port free for TCP and UDP, below those that the kernel gives to whoever connects: another test may do so."""
    while True:
        port = random.randrange(10_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("0.0.0.0", port))
            udp.bind(("0.0.0.0", port))
            return port


def listens(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def ask(port: int, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """One HTTP request to a client's control port: status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET" if body is None else "POST", path, body, dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
