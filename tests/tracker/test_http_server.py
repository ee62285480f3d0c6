"""The tracker's HTTP server, spoken to byte by byte: what it answers, and what a connection may hold."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from btfast.tracker import http_server
from btfast.tracker.http_server import Answer, HttpServer

LARGE = bytes(50_000)
HOME = bytes((127, 0, 0, 1))


class Server(HttpServer):
    """Says what it was asked."""

    def __init__(self) -> None:
        super().__init__(self.say)
        self.asked: list[tuple[bytes, bytes, bytes]] = []
        self.port = 0

    def say(self, method: bytes, target: bytes, address: bytes) -> Answer:
        self.asked.append((method, target, address))
        return Answer(b"200 OK", LARGE if target == b"/large" else target)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    listening = socket.create_server(("127.0.0.1", 0))
    server.port = listening.getsockname()[1]
    await server.start(listening)
    yield server
    await server.close()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def answer(self, *, body: bool = True) -> tuple[bytes, bytes]:
        """The next one's first line and body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
        return head.partition(b"\r\n")[0], await self.reader.readexactly(length if body else 0)

    async def ended(self) -> bool:
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


@pytest_asyncio.fixture
async def clients(server: Server) -> AsyncIterator[list[Client]]:
    async with asyncio.timeout(20):
        made = [Client(*await asyncio.open_connection("127.0.0.1", server.port)) for _ in range(3)]
        yield made
        for client in made:
            await client.close()


async def test_requests_are_answered_in_order_on_one_connection(server: Server, clients: list[Client]) -> None:
    client = clients[0]
    many = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(100))
    client.writer.write(many)
    for number in range(100):
        assert await client.answer() == (b"HTTP/1.1 200 OK", b"/%d" % number)
    for at in range(len(many) // 100):  # byte by byte
        client.writer.write(many[at : at + 1])
        await asyncio.sleep(0)
    assert await client.answer() == (b"HTTP/1.1 200 OK", b"/0")
    client.writer.write(b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\nGET /y HTTP/1.0\r\n\r\n")
    assert await client.answer(body=False) == (b"HTTP/1.1 200 OK", b"")
    assert await client.answer() == (b"HTTP/1.1 200 OK", b"/y")
    assert await client.ended()  # HTTP/1.0 keeps nothing
    assert server.asked[-2:] == [(b"HEAD", b"/x", HOME), (b"GET", b"/y", HOME)]


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"\x13BitTorrent protocol" + bytes(48), b"400"),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 4000, b"431"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n" + bytes(100_000), b"431"),
    ],
)
async def test_what_is_no_request_or_has_no_end_is_refused(clients: list[Client], said: bytes, status: bytes) -> None:
    clients[0].writer.write(said)
    assert (await clients[0].answer())[0].split()[1] == status
    assert await clients[0].ended()


async def test_who_reads_no_answers_is_not_listened_to_until_it_does(server: Server, clients: list[Client]) -> None:
    client, count = clients[0], 2000
    client.writer.write(b"GET /large HTTP/1.1\r\n\r\n" * count)
    clients[1].writer.write(b"GET /other HTTP/1.1\r\n\r\n")
    assert (await clients[1].answer())[1] == b"/other"
    assert len(server.asked) < count // 2  # 50 MB would be more than the sockets take
    for _ in range(count):
        assert (await client.answer())[1] == LARGE
    assert len(server.asked) == count + 1


async def test_the_silent_go(server: Server, clients: list[Client], monkeypatch: pytest.MonkeyPatch) -> None:
    clients[0].writer.write(b"GET /1 HTTP/1.1\r\n\r\nGET /half")
    await clients[0].answer()
    monkeypatch.setattr(http_server, "SILENCE", -1.0)
    server._look()
    assert [await client.ended() for client in clients] == [True] * 3
    assert not server.connections


async def test_of_too_many_connections_the_one_goes_that_was_silent_for_longest(server: Server, clients: list[Client]) -> None:
    for number, client in enumerate(clients):
        client.writer.write(b"GET /%d HTTP/1.1\r\n\r\n" % number)
        await client.answer()
    clients[0].writer.write(b"GET /again HTTP/1.1\r\n\r\n")
    await clients[0].answer()
    server._most = 3
    late = Client(*await asyncio.open_connection("127.0.0.1", server.port))
    assert await clients[1].ended()
    for client in (clients[0], clients[2], late):
        client.writer.write(b"GET /here HTTP/1.1\r\n\r\n")
        assert (await client.answer())[1] == b"/here"
    await late.close()
