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


@pytest.mark.parametrize("error", [errno.EPROTO, errno.EHOSTUNREACH, errno.ECONNABORTED, errno.EPERM])
async def test_a_connection_that_failed_in_the_backlog_costs_the_next_one_nothing(
    monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    accept = socket.socket.accept
    tries = []

    def fails_once(sock: socket.socket) -> object:
        tries.append(sock)
        if len(tries) == 1:
            raise OSError(error, os.strerror(error))
        return accept(sock)

    context = small_context()
    listener = Listener(context, lambda _: None)
    monkeypatch.setattr(socket.socket, "accept", fails_once)
    with socket.create_connection(("127.0.0.1", listener.port)):
        await until(lambda: listener._pending, "it was accepted")
        listener.close()


async def test_an_error_that_nobody_foresaw_ends_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context))

    def broken(sock: socket.socket) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    context = small_context()
    listener = Listener(context, lambda _: None)
    with monkeypatch.context() as patched:
        patched.setattr(socket.socket, "accept", broken)
        with socket.create_connection(("127.0.0.1", listener.port)):
            await until(lambda: listener._resting, "it rests")
    listener.close()
    assert said == []
