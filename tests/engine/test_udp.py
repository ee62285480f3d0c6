"""The UDP sockets: who gets which datagram, what is dropped, and what happens where a port or a family is not there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from real_sockets import until

from btfast.config import Settings
from btfast.engine import udp
from btfast.engine.udp import UdpSockets
from btfast.metainfo.addresses import PeerAddress

DHT = b"d1:q4:ping1:t2:aa1:y1:qe"
TRACKER = bytes(4) + b"tttt" + b"c" * 8


def sockets(bind: str = "127.0.0.1", port: int = 0, *, loop: Any = None) -> UdpSockets:
    context: Any = SimpleNamespace(loop=loop or asyncio.get_running_loop(), settings=Settings(bind=bind), port=port)
    return UdpSockets(context)


@pytest.fixture
def remote() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(60)
        yield sock


class Heard:
    """Notes what the two handlers get."""

    def __init__(self, ours: UdpSockets) -> None:
        self.dht: list[tuple[bytes, PeerAddress]] = []
        self.trackers: list[tuple[bytes, PeerAddress]] = []
        ours.dht_handler = lambda data, address: self.dht.append((data, address))
        ours.tracker_handler = lambda data, address: self.trackers.append((data, address))


async def test_nothing_is_opened_before_it_is_used(remote: socket.socket) -> None:
    before = len(os.listdir("/proc/self/fd"))
    ours = sockets()
    assert len(os.listdir("/proc/self/fd")) == before
    assert ours.port() == 0
    assert ours.send(DHT, PeerAddress(*remote.getsockname()))
    data, source = remote.recvfrom(100)
    assert (data, source) == (DHT, ("127.0.0.1", ours.port()))
    ours.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert not ours.send(DHT, PeerAddress(*remote.getsockname()))


async def test_each_protocol_has_its_handler_and_the_rest_is_counted(remote: socket.socket) -> None:
    ours = sockets()
    heard = Heard(ours)
    assert ours.open()
    utp = b"\x41\x00" + bytes(18)
    for data in (DHT, TRACKER, b"", b"d", b"de", b"x" * 60_000, utp, b"\0\0\0\4" + bytes(16), bytes(7), DHT[:-1], b"\0\0\1"):
        remote.sendto(data, ("127.0.0.1", ours.port()))
    await until(lambda: ours.received == 11)
    where = PeerAddress(*remote.getsockname())
    assert heard.dht == [(DHT, where)]
    assert heard.trackers == [(TRACKER, where)]
    assert ours.dropped == 9
    ours.close()


async def test_without_a_handler_everything_is_dropped(remote: socket.socket) -> None:
    ours = sockets()
    ours.open()
    rng = random.Random(5)
    for _ in range(100):
        remote.sendto(rng.randbytes(rng.randrange(40)), ("127.0.0.1", ours.port()))
    for data in (DHT, TRACKER):
        remote.sendto(data, ("127.0.0.1", ours.port()))
    await until(lambda: ours.dropped == 102)
    ours.close()


def listener_port(stack: contextlib.ExitStack) -> int:
    """That of a listener, which nobody has of UDP."""
    while True:
        port: int = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as four, contextlib.suppress(OSError):
            four.bind(("", port))
            if socket.has_ipv6:
                with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as six:
                    six.bind(("::1", port))
            return port


async def test_both_families_share_the_port_of_the_listener(remote: socket.socket) -> None:
    with contextlib.ExitStack() as stack:
        port = listener_port(stack)
        ours = sockets("", port)
        heard = Heard(ours)
        assert ours.has(v6=False)
        assert ours.port() == port
        if not ours.has(v6=True):
            pytest.skip("no IPv6 here")
        assert ours.port(v6=True) == port
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as six:
            six.bind(("::1", 0))
            six.settimeout(60)
            six.sendto(DHT, ("::1", port))
            remote.sendto(DHT, ("127.0.0.1", port))
            await until(lambda: len(heard.dht) == 2)
            assert {address.host for _, address in heard.dht} == {"::1", "127.0.0.1"}
            assert ours.send(TRACKER, PeerAddress(*six.getsockname()[:2]))
            assert six.recv(100) == TRACKER
        ours.close()


async def test_a_taken_port_gives_way_to_a_free_one(remote: socket.socket) -> None:
    ours = sockets(port=remote.getsockname()[1])
    assert ours.open()
    assert ours.port() not in (0, remote.getsockname()[1])
    ours.close()


async def test_only_the_family_of_the_bound_address_is_there(remote: socket.socket) -> None:
    ours = sockets("127.0.0.1")
    assert not ours.has(v6=True)
    assert not ours.send(DHT, PeerAddress("::1", 9))
    assert ours.unsent == 1
    ours.close()


@pytest.mark.parametrize(
    "address",
    [PeerAddress("127.0.0.1", 70000), PeerAddress("127.0.0.1", -1), PeerAddress("240.0.0.1", 9)],
)
async def test_what_cannot_be_sent_is_false_and_no_more(address: PeerAddress) -> None:
    ours = sockets()
    assert not ours.send(DHT, address)
    assert ours.unsent == 1
    ours.close()


async def test_too_large_a_datagram_is_false() -> None:
    ours = sockets()
    assert not ours.send(bytes(70_000), PeerAddress("127.0.0.1", 9))
    ours.close()


async def test_an_address_that_is_not_ours_is_asked_for_again_only_after_a_while(
    monkeypatch: pytest.MonkeyPatch, remote: socket.socket
) -> None:
    asked = []
    bound = udp._bound
    monkeypatch.setattr(udp, "_bound", lambda v6, host, port: (asked.append(host), bound(v6, host, port))[1])
    loop = asyncio.get_running_loop()
    ahead = 0.0
    clock: Any = SimpleNamespace(time=lambda: loop.time() + ahead)
    ours = sockets("192.0.2.1", loop=clock)
    for _ in range(3):
        assert not ours.send(DHT, PeerAddress(*remote.getsockname()))
    assert asked == ["192.0.2.1"]
    assert "192.0.2.1: Cannot assign" in ours.problem
    ahead = 11.0
    assert not ours.open()
    assert len(asked) == 2
    ours.close()


async def test_a_handler_may_close_the_sockets(remote: socket.socket) -> None:
    ours = sockets()
    heard: list[bytes] = []

    def handler(data: bytes, address: PeerAddress) -> None:
        heard.append(data)
        ours.close()

    ours.dht_handler = handler
    ours.open()
    port = ours.port()
    for _ in range(5):
        remote.sendto(DHT, ("127.0.0.1", port))
    await until(lambda: heard)
    await asyncio.sleep(0)
    assert heard == [DHT]
