"""An HTTP tracker on a real socket that answers what a test tells it to, right or wrong."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from functools import partial
from types import TracebackType
from urllib.parse import parse_qsl, unquote_to_bytes, urlsplit

from support.accepting import Accepting

from btfast._bencode import encode

Answer = Callable[["Exchange"], None]


class Exchange:
    """One request. `query` holds its parameters as text; `info_hash` is bytes."""

    def __init__(self, tracker: ScriptedTracker, sock: socket.socket, target: str) -> None:
        self._tracker = tracker
        self._socket = sock
        parts = urlsplit(target)
        self.path = parts.path
        self.query = dict(parse_qsl(parts.query, encoding="latin-1"))
        raw = dict(word.partition("=")[::2] for word in parts.query.split("&"))
        self.info_hash = unquote_to_bytes(raw.get("info_hash", ""))

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def reply(self, body: bytes, *, status: str = "200 OK", headers: str = "") -> None:
        """A whole answer."""
        self.send(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n".encode() + body)

    def peers(self, *addresses: str, **more: object) -> None:
        """A right answer with these peers."""
        found = b""
        for address in addresses:
            host, _, port = address.rpartition(":")
            found += socket.inet_aton(host) + int(port).to_bytes(2, "big")
        self.reply(encode({"interval": 1800, "peers": found, **more}))

    def waits(self) -> bool:
        """Whether who asked has not hung up."""
        return not select.select([self._socket], [], [], 0)[0]

    def hang(self) -> None:
        """Says nothing until the test is over."""
        self._tracker.stopping.wait()


class ScriptedTracker:
    """Answers every request by `answer(exchange)`, as long as the `with` block lasts."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._accepting = Accepting(lambda sock: partial(self._serve, sock))
        self.stopping = self._accepting.stopping
        self.port = self._accepting.port
        self.url = f"http://127.0.0.1:{self.port}/announce"
        self.exchanges: list[Exchange] = []

    def events(self) -> list[str]:
        """`started`, `completed`, `stopped` or "" of each announce, in order."""
        return [exchange.query.get("event", "") for exchange in self.exchanges]

    def __enter__(self) -> ScriptedTracker:
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._accepting.stop()

    def _serve(self, sock: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            data = sock.recv(65536)
            if not data:
                return
            head += data
        exchange = Exchange(self, sock, head.split(b" ", 2)[1].decode("ascii"))
        self.exchanges.append(exchange)
        self._answer(exchange)
