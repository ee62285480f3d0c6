"""A UDP tracker on a real socket that answers what a test tells it to, right or wrong, in a thread of its own."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

from btfast.discovery.udp_tracker import url_data

CONNECTION = b"goodness"
EVENTS = ("", "completed", "started", "stopped")


class Asked(NamedTuple):
    """A datagram that came, taken apart. `event` and `url` are an announce's."""

    connection: bytes
    action: int
    tid: int
    body: bytes
    source: tuple[str, int]

    @property
    def event(self) -> str:
        return EVENTS[int.from_bytes(self.body[64:68], "big")]

    @property
    def url(self) -> bytes:
        return url_data(self.body[82:])

    def reply(self, body: bytes, *, action: int | None = None, tid: int | None = None) -> bytes:
        return struct.pack("!II", self.action if action is None else action, self.tid if tid is None else tid) + body


Answer = Callable[[Asked], list[bytes]]


def peers(*addresses: str, interval: int = 1800) -> bytes:
    """The body of an announce's answer."""
    found = struct.pack("!III", interval, 1, 1)
    for address in addresses:
        host, _, port = address.rpartition(":")
        found += socket.inet_aton(host) + int(port).to_bytes(2, "big")
    return found


class ScriptedUdpTracker:
    """`answer(asked)` gives the datagrams to send back. Without a say of its own it answers connects rightly."""

    def __init__(
        self, answer: Answer, *, connects: bool = True, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._answer = answer
        self._connects = connects
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.bind((host, port))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"udp://{f'[{host}]' if ':' in host else host}:{self.port}/announce"
        self.asked: list[Asked] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def events(self) -> list[str]:
        """The event of each announce, in order."""
        return [asked.event for asked in self.asked if asked.action == 1]

    def __enter__(self) -> ScriptedUdpTracker:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._socket.sendto(b"", self._socket.getsockname())  # it looks up
        self._thread.join(60)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            data, source = self._socket.recvfrom(4096)
            if self._stopping.is_set():
                return
            connection, action, tid = struct.unpack_from("!8sII", data)
            asked = Asked(connection, action, tid, data[16:], source[:2])
            self.asked.append(asked)
            answers = [asked.reply(CONNECTION)] if action == 0 and self._connects else self._answer(asked)
            for answer in answers:
                self._socket.sendto(answer, source)
