"""An HTTP server of the tests that sends exactly the bytes it is told to, on loopback."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable

import pytest

from btfast._bencode import encode
from btfast.discovery.announce import AnnounceRequest
from btfast.engine.http_tracker import HttpTrackers
from btfast.errors import RemoteError

PEER_ID = b"-BF0001-0123456789ab"
REQUEST = AnnounceRequest(info_hash=bytes(range(20)), peer_id=PEER_ID, port=6881, left=10, event="started", key="k")
BODY = encode({"interval": 900, "peers": bytes([127, 0, 0, 1, 0x1A, 0xE1])})

Handler = Callable[[str, asyncio.StreamWriter], Awaitable[bytes | None]]


def response(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(head).encode() + body


class Server:
    """A raw HTTP server: the handler gets each request's target and returns bytes to send, None to close."""

    def __init__(self) -> None:
        self.handler: Handler = self.answer
        self.requests: list[str] = []
        self.clients: list[str] = []  # hosts that the connections came from
        self.connections = 0
        self.open = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @staticmethod
    async def answer(target: str, writer: asyncio.StreamWriter) -> bytes | None:
        return response(BODY)

    def always(self, data: bytes | None) -> None:
        async def handler(target: str, writer: asyncio.StreamWriter) -> bytes | None:
            return data

        self.handler = handler

    async def start(self, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self._server = await asyncio.start_server(self._serve, host, 0, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://{host}:{self.port}"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.clients.append(writer.get_extra_info("peername")[0])
        self.open += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(head.decode("ascii"))
                data = await self.handler(head.split(b" ")[1].decode(), writer)
                if data is None:
                    return
                writer.write(data)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.transport.abort()


def endless(first: bytes, chunk: bytes) -> Handler:
    async def handler(target: str, writer: asyncio.StreamWriter) -> bytes | None:
        writer.write(first)
        while not writer.is_closing():
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(0)
        return None

    return handler


async def failure(trackers: HttpTrackers, url: str, *, timeout: float = 60.0) -> str:  # noqa: ASYNC109
    with pytest.raises(RemoteError) as caught:
        await trackers.announce(url, REQUEST, timeout=timeout)
    message = str(caught.value)
    assert message.startswith("tracker http")
    assert message.isprintable()
    assert message.count(": ") >= 2
    return message
