"""A web server on a real socket: right about files, ranges and kept connections, until a test bends what it does."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from urllib.parse import unquote

from support.accepting import Accepting, Life

Bend = Callable[["Request"], bool]  # whether it has answered itself


class Request:
    """One request. `path` is decoded; `first` and `last`: the range that it asks for, both included, or None."""

    def __init__(self, server: WebServer, sock: socket.socket, head: bytes, count: int) -> None:
        self.server = server
        self.socket = sock
        self.number = count  # on its connection, from 0
        line, *lines = head.decode("latin-1").split("\r\n")
        self.target = line.split(" ")[1]
        self.path = unquote(self.target.partition("?")[0], errors="surrogateescape")
        self.headers = {name.lower(): value.strip() for name, _, value in (text.partition(":") for text in lines) if name}
        self.first: int | None = None
        self.last: int | None = None
        value = self.headers.get("range", "")
        if value.startswith("bytes="):
            one, _, other = value[6:].partition("-")
            self.first, self.last = int(one), int(other)

    @property
    def content(self) -> bytes:
        """The file that it asks for."""
        return self.server.files[self.path]

    @property
    def body(self) -> bytes:
        """What it should get."""
        return self.content if self.first is None or self.last is None else self.content[self.first : self.last + 1]

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def reply(self, body: bytes, status: str = "200 OK", headers: str = "", *, length: int | None = None) -> bool:
        """A whole answer; `length`: what it says of itself."""
        said = len(body) if length is None else length
        self.send(f"HTTP/1.1 {status}\r\nContent-Length: {said}\r\n{headers}\r\n".encode() + body)
        return True

    def part(self, body: bytes | None = None, headers: str = "", *, total: int | None = None) -> bool:
        """The part that it asks for."""
        if self.first is None:
            return self.reply(self.content if body is None else body, headers=headers)
        size = len(self.content) if total is None else total
        return self.reply(
            self.body if body is None else body, "206 Partial Content",
            f"Content-Range: bytes {self.first}-{self.last}/{size}\r\n{headers}",
        )  # fmt: skip

    def hang(self) -> bool:
        """Says nothing more until the test is over."""
        self.server.stopping.wait()
        return True

    def close(self) -> bool:
        """Hangs up."""
        self.socket.shutdown(socket.SHUT_RDWR)
        return True


class WebServer:
    """Serves `files` (by path, with the slash in front) as long as the `with` block lasts. `bend` comes first."""

    def __init__(
        self, files: Mapping[str, bytes], bend: Bend | None = None, *, headers: str = "", tls: ssl.SSLContext | None = None
    ) -> None:
        self._tls = tls
        self.files = dict(files)
        self.bend = bend
        self.headers = headers
        self.requests: list[Request] = []
        self.connections = 0
        self.sent: dict[str, list[tuple[int, int]]] = {}  # ranges that were sent in full by the usual way
        self._accepting = Accepting(self._begin)
        self.stopping = self._accepting.stopping
        self.port = self._accepting.port
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def bytes_sent(self) -> int:
        return sum(last - first + 1 for ranges in self.sent.values() for first, last in ranges)

    def __enter__(self) -> WebServer:
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._accepting.stop()

    def _begin(self, sock: socket.socket) -> Life:
        self.connections += 1
        return partial(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        buffer, count = b"", 0
        with contextlib.ExitStack() as stack:
            if self._tls is not None:
                sock = stack.enter_context(self._tls.wrap_socket(sock, server_side=True))
            while True:
                while b"\r\n\r\n" not in buffer:
                    data = sock.recv(65536)
                    if not data:
                        return
                    buffer += data
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                request = Request(self, sock, head, count)
                count += 1
                self.requests.append(request)
                if self.bend is None or not self.bend(request):
                    self.answer(request)

    def answer(self, request: Request) -> None:
        """What a right server says."""
        if request.path not in self.files:
            request.reply(b"<h1>Not Found</h1>", "404 Not Found")
            return
        size = len(request.content)
        if request.first is not None and request.last is not None:
            if request.first >= size:
                request.reply(b"", "416 Range Not Satisfiable", f"Content-Range: bytes */{size}\r\n")
                return
            request.last = min(request.last, size - 1)
        request.part(headers=self.headers)
        first, last = request.first, request.last
        self.sent.setdefault(request.path, []).append((first or 0, size - 1 if last is None else last))
