"""Connections out: how many at once, in all and to one address, and what the caller hears."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from types import SimpleNamespace

import psutil
import pytest
import pytest_asyncio
from support.accepting import nobody

from btfast.config import Settings
from btfast.engine import dialing
from btfast.engine.dialing import Dialer
from btfast.engine.places import Places
from btfast.metainfo.addresses import PeerAddress


class Calls:
    """What a dialer calls back with; closes every socket in the end."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []
        self.failures: list[str] = []

    def __call__(self, sock: socket.socket | None, why: str) -> None:
        if sock is None:
            self.failures.append(why)
        else:
            assert why == ""
            self.sockets.append(sock)

    @property
    def count(self) -> int:
        return len(self.sockets) + len(self.failures)


@pytest.fixture
def calls() -> Iterator[Calls]:
    found = Calls()
    yield found
    for sock in found.sockets:
        sock.close()


MakeDialer = Callable[..., Dialer]


@pytest_asyncio.fixture
async def make_dialer() -> AsyncIterator[MakeDialer]:
    dialers: list[Dialer] = []

    def make(bind: str = "") -> Dialer:
        context = SimpleNamespace(loop=asyncio.get_running_loop(), settings=Settings(bind=bind), places=Places(400))
        dialers.append(Dialer(context))  # type: ignore[arg-type]
        return dialers[-1]

    yield make
    for dialer in dialers:
        dialer.close()


def listening(host: str = "127.0.0.1", port: int = 0, backlog: int = 50) -> socket.socket:
    sock = socket.create_server(
        (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=backlog
    )
    sock.setblocking(False)
    return sock


def address_of(sock: socket.socket) -> PeerAddress:
    return PeerAddress(*sock.getsockname()[:2])


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


def connecting() -> int:
    """Connections of this process that the other side has not answered yet."""
    return sum(c.status == psutil.CONN_SYN_SENT for c in psutil.Process().net_connections(kind="tcp"))


async def test_nothing_goes_out_over_another_family_than_that_of_bind(make_dialer: MakeDialer, calls: Calls) -> None:
    dialer = make_dialer("127.0.0.1")
    dialer.dial(PeerAddress("::1", 9), calls)
    assert calls.count == 1, "it is known at once"
    assert len(calls.failures) == 1


async def test_a_connected_socket_is_handed_over(make_dialer: MakeDialer, calls: Calls) -> None:
    with listening() as server:
        make_dialer().dial(address_of(server), calls)
        await until(lambda: calls.count)
        assert calls.sockets[0].getpeername() == server.getsockname()


async def test_a_refusal_is_told(make_dialer: MakeDialer, calls: Calls) -> None:
    with nobody() as port:
        make_dialer().dial(PeerAddress("127.0.0.1", port), calls)
        await until(lambda: calls.count)
    assert calls.failures == ["Connection refused"]


async def test_what_cannot_even_be_tried_is_told(make_dialer: MakeDialer, calls: Calls) -> None:
    dialer = make_dialer()
    for address in (PeerAddress("255.255.255.255", 1), PeerAddress("127.0.0.1", 1)):
        dialer.dial(address, calls)
    await until(lambda: calls.count == 2)
    assert len(calls.failures) == 2


async def test_it_goes_out_from_the_address_that_was_asked_for(make_dialer: MakeDialer, calls: Calls) -> None:
    with listening() as server:
        make_dialer("127.0.0.7").dial(address_of(server), calls)
        await until(lambda: calls.count)
        assert calls.sockets[0].getsockname()[0] == "127.0.0.7"


@pytest.fixture
def silent() -> Iterator[list[PeerAddress]]:
    """Eight addresses that answer nothing: their queues of connections are full."""
    with ExitStack() as stack:
        addresses = []
        for n in range(8):
            server = stack.enter_context(listening(f"127.0.0.{n + 10}", backlog=0))
            addresses.append(address_of(server))
            stack.enter_context(socket.create_connection(addresses[-1]))
        yield addresses


async def test_no_more_than_so_many_attempts_are_under_way(
    make_dialer: MakeDialer, calls: Calls, silent: list[PeerAddress], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialing, "HALF_OPEN", 3)
    monkeypatch.setattr(dialing, "TIMEOUT", 0.2)
    dialer = make_dialer()
    assert dialer.room == 3
    most = 0
    for address in silent:
        dialer.dial(address, calls)
        most = max(most, connecting())
    assert dialer.room == 0
    while calls.count < len(silent):
        most = max(most, connecting())
        await asyncio.sleep(0.01)
    assert most == 3
    assert calls.failures == [os.strerror(110)] * len(silent)
    assert dialer.room == 3


async def test_closing_drops_what_is_under_way_and_calls_nobody(
    make_dialer: MakeDialer, calls: Calls, silent: list[PeerAddress]
) -> None:
    dialer = make_dialer()
    for address in silent:
        dialer.dial(address, calls)
    assert connecting() == len(silent)
    dialer.close()
    assert connecting() == 0
    await asyncio.sleep(0)
    assert calls.count == 0


async def test_one_address_gets_few_connections_until_it_answers(make_dialer: MakeDialer, calls: Calls) -> None:
    with listening() as server:
        dialer, address = make_dialer(), address_of(server)
        for _ in range(20):
            dialer.dial(address, calls)
        await until(lambda: calls.count == 4)
        await asyncio.sleep(0)
        assert calls.count == 4, "the rest waits for handshakes"
        for answers in range(1, 5):
            dialer.answered(address, 0.01)
            await until(lambda expected=5 + answers: calls.count == expected)
            assert calls.count == 5 + answers, "the first prompt answer makes room for one more"
        dialer.answered(address, None)
        await until(lambda: calls.count == 10)
        dialer.answered(address, 3.0)
        dialer.answered(address, 3.0)
        await asyncio.sleep(0.02)
        assert calls.count == 10, "slow answers make room for none"
        assert calls.failures == []


async def test_one_address_that_waits_does_not_hold_up_another(make_dialer: MakeDialer, calls: Calls) -> None:
    with listening() as one, listening("127.0.0.2") as two:
        dialer = make_dialer()
        for _ in range(20):
            dialer.dial(address_of(one), calls)
        await until(lambda: calls.count == 4)
        dialer.dial(address_of(two), calls)
        await until(lambda: calls.count == 5)
        assert calls.sockets[-1].getpeername() == two.getsockname()


async def test_without_descriptors_the_address_is_not_to_blame(
    make_dialer: MakeDialer, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def none_left(*_: int) -> None:
        tries.append(1)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(dialing, "REST", 0.0)
    with listening() as server, listening("127.0.0.2") as other:
        dialer = make_dialer()
        with monkeypatch.context() as patched:
            patched.setattr(socket, "socket", none_left)
            dialer.dial(address_of(server), calls)
            dialer.dial(address_of(other), calls)
            assert len(tries) == 1, "nothing is tried before the rest is over"
        await until(lambda: calls.count == 2)
        assert calls.failures == []
