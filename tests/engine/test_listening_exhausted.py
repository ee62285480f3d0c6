from __future__ import annotations

import asyncio
import errno
import os
import socket

import pytest
from engine_parts import small_context, until

from btfast.engine.listening import Listener


async def test_without_descriptors_nobody_looks_until_the_next_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits in the backlog keeps the socket readable: looking again and again would take a whole core."""
    accept = socket.socket.accept
    tries = []

    def none_left(sock: socket.socket) -> None:
        tries.append(sock)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    context = small_context()
    listener = Listener(context, lambda _: None)
    with monkeypatch.context() as patched:
        patched.setattr(socket.socket, "accept", none_left)
        with socket.create_connection(("127.0.0.1", listener.port)):
            await until(lambda: tries, "it was tried")
            for _ in range(100):
                await asyncio.sleep(0)
            assert len(tries) == 1
            patched.setattr(socket.socket, "accept", accept)
            listener.tick(context.loop.time())
            await until(lambda: listener._pending, "it was accepted")
            listener.close()
