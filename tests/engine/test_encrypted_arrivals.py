"""Encrypted connections in: who gets through to which torrent, what stalls and floods cost, and who is kept out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from real_sockets import closed, connect, late, until, watched

from btfast._peer_stream import HANDSHAKE_EVENT, INFO_HASH_EVENT
from btfast.config import Settings
from btfast.engine import listening
from btfast.engine import turns as turns_module
from btfast.engine.arrival import Arrival
from btfast.engine.by_hash import ByHash
from btfast.engine.connection import PeerConnection
from btfast.engine.listening import Listener
from btfast.engine.places import Places
from btfast.engine.turns import KeyTurns
from btfast.wire import mse
from btfast.wire.handshake import encode_handshake
from btfast.wire.mse import PLAIN, RC4, Initiator, Responder

KNOWN, OTHER = b"k" * 20, b"o" * 20
FIRST = encode_handshake(KNOWN, b"p" * 20)


class Torrent:
    """Takes connections over."""

    def __init__(self) -> None:
        self.peers: list[PeerConnection] = []
        self.events: list[tuple[Any, ...]] = []

    def handle_incoming(self, peer: PeerConnection, events: list[tuple[Any, ...]], now: float) -> None:
        self.peers.append(peer)
        self.events += events
        peer.owner = self  # type: ignore[assignment]

    def handle_events(self, peer: PeerConnection, events: list[tuple[Any, ...]], now: float) -> None:
        self.events += events

    def handle_closed(self, peer: PeerConnection, reason: str) -> None:
        """Nothing to do."""


class House(Listener):
    """A listener that notes why it let connections go."""

    def __init__(self, *arguments: Any) -> None:
        self.gone: list[str] = []
        super().__init__(*arguments)

    def handle_gone(self, arrival: Arrival, why: str) -> None:
        super().handle_gone(arrival, why)
        self.gone.append(why)


MakeHouse = Callable[..., House]


@pytest.fixture
def torrents() -> ByHash[Torrent]:
    found: ByHash[Torrent] = ByHash()
    found[OTHER] = Torrent()
    found[KNOWN] = Torrent()
    return found


@pytest_asyncio.fixture
async def listen(torrents: ByHash[Torrent]) -> AsyncIterator[MakeHouse]:
    houses: list[House] = []

    def make(**settings: Any) -> House:
        context = SimpleNamespace(
            loop=asyncio.get_running_loop(), settings=Settings(bind="127.0.0.1", port=0, **settings), places=Places(2000)
        )
        houses.append(House(context, torrents.get, torrents.find_skey))
        return houses[-1]

    yield make
    for house in houses:
        house.close()
    for torrent in torrents.values():
        for peer in torrent.peers:
            peer.close("the test is over")


async def read(sock: socket.socket) -> bytes:
    async with asyncio.timeout(60):
        return await asyncio.get_running_loop().sock_recv(sock, 1 << 16)


async def shake(sock: socket.socket, side: Initiator, *, slowly: bool = False) -> None:
    """The initiator's part, until it is done."""
    said = side.begin()
    while True:
        for part in [bytes([byte]) for byte in said] if slowly else [said]:
            await asyncio.get_running_loop().sock_sendall(sock, part)
            if slowly:
                await asyncio.sleep(0)
        if side.secured is not None:
            return
        data = await read(sock)
        assert data, "it was closed"
        said = side.handle_bytes(data)


@pytest.mark.parametrize("slowly", [False, True])
@pytest.mark.parametrize(("policy", "provide"), [("allow", PLAIN | RC4), ("allow", RC4), ("require", PLAIN | RC4)])
async def test_an_encrypted_handshake_leads_to_its_torrent(
    listen: MakeHouse, torrents: ByHash[Torrent], slowly: bool, policy: str, provide: int
) -> None:
    house = listen(encryption=policy)
    with connect(house.port) as sock:
        side = Initiator(KNOWN, FIRST, os.urandom, provide)
        await shake(sock, side, slowly=slowly)
        torrent = torrents[KNOWN]
        await until(lambda: torrent.peers)
        assert torrent.events == [(INFO_HASH_EVENT, FIRST[:48]), (HANDSHAKE_EVENT, FIRST)]
        peer = torrent.peers[0]
        assert peer.encrypted
        assert side.secured is not None
        have = b"\0\0\0\5\4\0\0\0\7"
        out, inward = side.secured.outgoing, side.secured.incoming
        assert (out is None) == (policy == "allow" and provide == PLAIN | RC4)
        sock.send(have if out is None else out.crypt(have))
        await until(lambda: torrent.events[-1] == (4, 7))
        peer.send(have)
        peer.flush()
        data = await read(sock)
        assert (data if inward is None else inward.crypt(data)) == have
        assert torrents[OTHER].peers == []
        assert house.gone == []


async def test_its_first_word_may_come_later(listen: MakeHouse, torrents: ByHash[Torrent]) -> None:
    house = listen()
    with connect(house.port) as sock:
        side = Initiator(KNOWN, b"", os.urandom, RC4)
        await shake(sock, side)
        await until(lambda: torrents[KNOWN].peers)
        assert torrents[KNOWN].events == []
        assert side.secured is not None
        assert side.secured.outgoing is not None
        sock.send(side.secured.outgoing.crypt(FIRST))
        await until(lambda: len(torrents[KNOWN].events) == 2)


async def refused(house: House, said: bytes, *more: bytes) -> str:
    with connect(house.port) as sock:
        sock.send(said)
        for data in more:
            await read(sock)
            sock.send(data)
        await closed(sock)
        await until(lambda: house.gone)
    (why,) = house.gone
    return why


async def test_plain_text_is_refused_where_encryption_is_required(listen: MakeHouse) -> None:
    assert "plain text" in await refused(listen(encryption="require"), FIRST)


async def test_encryption_is_refused_where_it_is_off(listen: MakeHouse) -> None:
    why = await refused(listen(encryption="off"), Initiator(KNOWN, FIRST, os.urandom).begin())
    assert why == "it speaks another protocol"


async def test_a_torrent_that_has_gone_is_found_no_more(listen: MakeHouse, torrents: ByHash[Torrent]) -> None:
    del torrents[KNOWN]
    house = listen()
    with connect(house.port) as sock:
        with pytest.raises(AssertionError, match="it was closed"):
            await shake(sock, Initiator(KNOWN, FIRST, os.urandom))
    assert "not here" in house.gone[0]


async def test_only_handshake_encryption_is_refused_where_all_is_to_be(listen: MakeHouse) -> None:
    house = listen(encryption="require")
    with connect(house.port) as sock:
        with pytest.raises(AssertionError, match="it was closed"):
            await shake(sock, Initiator(KNOWN, FIRST, os.urandom, PLAIN))
    assert "no kind that is accepted" in house.gone[0]


@pytest.mark.parametrize("size", [1, 19, 95, 96, 300])
@pytest.mark.parametrize("then", ["silence", "end"])
async def test_a_stall_after_any_number_of_bytes_ends_with_one_reason(
    listen: MakeHouse, monkeypatch: pytest.MonkeyPatch, size: int, then: str
) -> None:
    under_way = watched(monkeypatch)
    house = listen()
    with connect(house.port) as sock:
        sock.send(random.Random(3).randbytes(size))
        if then == "end":
            sock.shutdown(socket.SHUT_WR)
        elif size < 96:
            await until(lambda: house._pending)
            house.tick(asyncio.get_running_loop().time() + 15)
        else:
            await until(lambda: under_way and under_way[0]._side.step == "proof that it has our key")
            late(under_way[0])
        await closed(sock)
    assert len(house.gone) == 1
    assert (
        house.gone[0]
        == {
            ("silence", True): "no handshake came",
            ("silence", False): "encryption: proof that it has our key did not come in 8 s",
            ("end", True): "closed by the peer",
            ("end", False): house.gone[0],
        }[then, size < 96]
    )
    if then == "end":
        assert "closed by the peer" in house.gone[0]


@pytest.mark.parametrize("step", [0, 20, 40, 54, 60])
async def test_a_stall_within_the_third_message_names_the_step(
    listen: MakeHouse, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    names = {
        0: "proof that it has our key",
        20: "the torrent it wants",
        40: "its offer",
        54: "its padding",
        60: "its handshake",
    }
    under_way = watched(monkeypatch)
    house = listen()
    side = Initiator(KNOWN, FIRST, os.urandom)
    with connect(house.port) as sock:
        sock.send(side.begin())
        said = b""
        while not said:
            said = side.handle_bytes(await read(sock))
        sock.send(said[:step])
        await until(lambda: under_way[0]._side.step == names[step])
        late(under_way[0])
        await closed(sock)
    assert house.gone == [f"encryption: {names[step]} did not come in 8 s"]


async def test_key_exchanges_are_rationed_and_given_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    clock = SimpleNamespace(time=lambda: now[0], call_later=lambda delay, call: later.append(call) or SimpleNamespace())
    now, later, served = [loop.time()], [], []
    began = now[0]
    turns = KeyTurns(clock)  # type: ignore[arg-type]
    for number in range(200):
        turns.ask(lambda number=number: served.append(number))
    assert served == list(range(int(turns_module.KEYS_AT_ONCE)))
    while later:
        now[0] += 0.1
        later.pop()()
        assert len(served) <= 50 + (now[0] - began) * turns_module.KEYS_PER_SECOND + 1
    assert len(served) == 200
    assert served == sorted(served)
    now[0] += 3600
    for number in range(200):
        turns.ask(lambda number=number: served.append(number))
    assert len(served) == 200 + turns_module.KEYS_AT_ONCE


@pytest.mark.parametrize("policy", ["allow", "require"])
async def test_a_flood_of_whole_key_exchanges_costs_so_many_a_second_and_keeps_nobody_out(
    listen: MakeHouse, torrents: ByHash[Torrent], monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    """Each of the crowd goes through with it, which costs it nothing: its secret exponent is 1."""
    exchanges = 0

    class Counted(Responder):
        def __init__(self, *arguments: Any) -> None:
            nonlocal exchanges
            exchanges += 1
            super().__init__(*arguments)

    monkeypatch.setattr(mse, "Responder", Counted)
    rate, once = turns_module.KEYS_PER_SECOND, int(turns_module.KEYS_AT_ONCE)
    monkeypatch.setattr(turns_module, "KEYS_PER_SECOND", 0.0)
    loop = asyncio.get_running_loop()
    house = listen(encryption=policy)
    crowd = [connect(house.port) for _ in range(300)]

    async def go_through(sock: socket.socket) -> None:
        with contextlib.suppress(OSError, AssertionError):  # some have to make room
            await shake(sock, Initiator(KNOWN, FIRST, lambda count: bytes(count - 1) + b"\1", RC4))

    tasks = [loop.create_task(go_through(sock)) for sock in crowd]
    await until(lambda: len(torrents[KNOWN].peers) == once)
    honest = []
    if policy == "allow":  # in plain text nobody waits for a turn
        honest.append(connect(house.port))
        honest[0].send(encode_handshake(OTHER, b"p" * 20))
        await until(lambda: torrents[OTHER].peers)
    assert exchanges == once
    began = loop.time()
    monkeypatch.setattr(turns_module, "KEYS_PER_SECOND", rate)
    with socket.create_connection(("127.0.0.1", house.port), source_address=("127.0.0.9", 0)) as sock:
        sock.setblocking(False)
        await shake(sock, Initiator(OTHER, encode_handshake(OTHER, b"q" * 20), os.urandom, RC4))
        await until(lambda: len(torrents[OTHER].peers) > len(honest))
    assert once < exchanges <= once + (loop.time() - began + turns_module.TURN) * rate + 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for one in (*crowd, *honest):
        one.close()


async def test_those_who_have_gone_hold_no_turn(listen: MakeHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_module, "KEYS_PER_SECOND", 0.0)
    house = listen()
    served: list[str] = []
    for _ in range(int(turns_module.KEYS_AT_ONCE)):
        house.turns.ask(lambda: served.append("first"))
    crowd = [connect(house.port) for _ in range(8)]
    for sock in crowd:
        sock.send(random.Random(3).randbytes(96))
    await until(lambda: len(house.turns._waiting) == 8)
    house.tick(asyncio.get_running_loop().time() + 60)
    assert len(house.gone) == 8
    assert not house.turns._waiting
    for sock in crowd:
        sock.close()


async def test_a_crowd_from_one_host_gives_way_to_another_host(
    listen: MakeHouse, torrents: ByHash[Torrent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "PENDING", 8)
    house = listen()
    crowd = [connect(house.port) for _ in range(8)]
    try:
        with socket.create_connection(("127.0.0.1", house.port), source_address=("127.0.0.9", 0)) as sock:
            sock.setblocking(False)
            await shake(sock, Initiator(KNOWN, FIRST, os.urandom))
            await until(lambda: torrents[KNOWN].peers)
        assert house.gone == ["too many say nothing"]
        assert await closed(crowd[0]) == b""
    finally:
        for one in crowd:
            one.close()


async def test_thousands_of_connections_are_bounded_and_keep_nobody_out(
    listen: MakeHouse, torrents: ByHash[Torrent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silent ones, and ones that want a key exchange each, from one host; another gets through meanwhile."""
    monkeypatch.setattr(listening, "PENDING", 64)
    house = listen()
    descriptors = len(os.listdir("/proc/self/fd"))
    noise = random.Random(3).randbytes(96)
    ours: list[socket.socket] = []
    most = 0

    async def flood() -> None:
        for number in range(3000):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", house.port))
            ours.append(sock)
            if len(ours) > 100:
                ours.pop(0).close()
            if number % 8 == 0:
                await asyncio.sleep(0)
                if number % 16 == 0:
                    with contextlib.suppress(OSError):
                        ours[-1].send(noise)

    task = asyncio.get_running_loop().create_task(flood())
    with socket.create_connection(("127.0.0.1", house.port), source_address=("127.0.0.9", 0)) as sock:
        sock.setblocking(False)
        await shake(sock, Initiator(KNOWN, FIRST, os.urandom))
        while not task.done():
            most = max(most, len(os.listdir("/proc/self/fd")) - descriptors - len(ours))
            await asyncio.sleep(0.005)
        await until(lambda: torrents[KNOWN].peers)
    await task
    assert most <= 64 + 3 + 2
    for one in ours:
        one.close()
    await until(lambda: not house._pending)
    assert not house._hosts
