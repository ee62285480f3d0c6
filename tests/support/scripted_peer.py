"""A small BitTorrent seeder on real sockets whose behaviour each test bends by overriding what it does.

It speaks through btfast's own codecs, in a thread a connection. What it does in `on_...` may block: the peer is then
slow, and nobody else is.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType

from support.accepting import Accepting, Life
from support.torrents import Made

from btfast.wire import ids, messages
from btfast.wire.extensions import encode_extended_handshake
from btfast.wire.handshake import Handshake, decode_handshake, encode_handshake

Request = tuple[int, int, int]


class Gone(Exception):
    """The other side has closed the connection, or this peer is being stopped."""


class Link:
    """One connection of a ScriptedPeer."""

    def __init__(self, peer: ScriptedPeer, sock: socket.socket) -> None:
        self.socket = sock
        self.peer = peer
        self.handshake: Handshake | None = None
        self.received: list[tuple[object, ...]] = []  # every message, as decode_message gives it
        self.choking = True
        self.sent = 0  # blocks
        self.closed = threading.Event()
        self._buffer = b""

    def send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Gone from error

    def close(self) -> None:
        """Hangs up at once."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        while len(self._buffer) < size:
            self._more()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def read_messages(self) -> list[tuple[object, ...]]:
        """Waits for at least one message; returns all that have come."""
        while True:
            bodies, taken = messages.split_messages(self._buffer)
            self._buffer = self._buffer[taken:]
            if bodies:
                found = [messages.decode_message(body) for body in bodies]
                self.received += found
                return found
            self._more()

    def drain(self) -> None:
        """Reads and forgets until the other side hangs up."""
        while True:
            self._buffer = b""
            self._more()

    def _more(self) -> None:
        try:
            data = self.socket.recv(1 << 16)
        except OSError as error:
            raise Gone from error
        if not data:
            raise Gone
        self._buffer += data

    def count(self, kind: int) -> int:
        """Messages of one id that have come."""
        return sum(1 for message in list(self.received) if message and message[0] == kind)


class ScriptedPeer:
    """Serves `made` on loopback as long as the `with` block lasts. Override `on_...` and `block` to misbehave.

    `have` limits what it offers; `rate` is in bytes a second, 0 for as fast as it can. After `holds` blocks, if it is not
    0, it sends none until `go_on`, or `drip` bytes a second: what a test does in the middle of a download is then done in
    the middle, however long that takes.
    """

    fast = True
    extensions = True

    def __init__(
        self, made: Made, *, have: set[int] | None = None, rate: int = 0, holds: int = 0, drip: int = 0,
        host: str = "127.0.0.1",
    ) -> None:  # fmt: skip
        self.made = made
        self.have = set(range(made.pieces)) if have is None else have
        self.rate = rate
        self.holds = holds
        self.drip = drip
        self.links: list[Link] = []
        self.peer_id = b"-XX0001-" + random.Random(id(self)).randbytes(12)
        self.failures: list[BaseException] = []
        self._lock = threading.Lock()
        self._due = 0.0
        self._going_on = threading.Event()
        self._accepting = Accepting(partial(self._begin, self.on_connection), host)
        self.stopping = self._accepting.stopping
        self.port = self._accepting.port
        self.address = f"{host}:{self.port}"

    @property
    def blocks_sent(self) -> int:
        return sum(link.sent for link in self.links)

    # what tests override

    def on_connection(self, link: Link) -> None:
        """A connection was made: the whole of its life."""
        self.on_handshake(link)
        self.on_greeted(link)
        while True:
            self.on_messages(link, link.read_messages())

    def on_handshake(self, link: Link) -> None:
        link.handshake = decode_handshake(link.read(68))
        link.send(self.handshake())

    def on_greeted(self, link: Link) -> None:
        """Says what it has."""
        if self.extensions:
            link.send(encode_extended_handshake(m={}, client="scripted", reqq=500))
        if self.fast and len(self.have) == self.made.pieces:
            link.send(messages.HAVE_ALL)
        elif self.fast and not self.have:
            link.send(messages.HAVE_NONE)
        else:
            link.send(messages.encode_bitfield(self.bitfield()))

    def on_messages(self, link: Link, found: list[tuple[object, ...]]) -> None:
        """All that came in one read."""
        for message in found:
            if message and message[0] == ids.INTERESTED:
                self.on_interested(link)
        requests: list[Request] = []
        for message in found:
            if message and message[0] == ids.REQUEST:
                requests.append(message[1:])  # type: ignore[arg-type]
            elif message and message[0] == ids.CANCEL and message[1:] in requests:
                requests.remove(message[1:])  # type: ignore[arg-type]
        self.on_requests(link, requests)

    def on_interested(self, link: Link) -> None:
        link.choking = False
        link.send(messages.UNCHOKE)

    def on_requests(self, link: Link, requests: list[Request]) -> None:
        for request in requests:
            self.on_request(link, *request)

    def on_request(self, link: Link, index: int, begin: int, length: int) -> None:
        self.pace(length)
        link.send(messages.encode_piece(index, begin, self.block(index, begin, length)))
        link.sent += 1

    def block(self, index: int, begin: int, length: int) -> bytes:
        """The bytes that answer a request."""
        return self.made.block(index, begin, length)

    # what they use

    def handshake(self) -> bytes:
        reserved = bytearray(8)
        if self.fast:
            reserved[ids.RESERVED_FAST[0]] |= ids.RESERVED_FAST[1]
        if self.extensions:
            reserved[ids.RESERVED_EXTENSIONS[0]] |= ids.RESERVED_EXTENSIONS[1]
        whole = encode_handshake(self.made.info_hash, self.peer_id)
        return whole[:20] + bytes(reserved) + whole[28:]

    def bitfield(self) -> bytes:
        field = bytearray(-(-self.made.pieces // 8))
        for index in self.have:
            field[index // 8] |= 128 >> index % 8
        return bytes(field)

    def pace(self, length: int) -> None:
        """Sleeps as long as `length` bytes take at the peer's rate, and where it holds until it goes on."""
        if self.holds and self.blocks_sent >= self.holds:
            self._going_on.wait(length / self.drip if self.drip else None)
            if self.stopping.is_set():
                raise Gone
        if not self.rate:
            return
        with self._lock:
            self._due = max(self._due, time.monotonic()) + length / self.rate
            due = self._due
        if self.stopping.wait(max(0.0, due - time.monotonic())):
            raise Gone

    def go_on(self, rate: int = 0) -> None:
        """From now on at that rate, or at full speed."""
        self.holds, self.rate = 0, rate
        self._going_on.set()

    def wait(self, seconds: float) -> None:
        """Does nothing for so long, or until the test is over."""
        if self.stopping.wait(seconds):
            raise Gone

    # life

    def __enter__(self) -> ScriptedPeer:
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stopping.set()
        self._going_on.set()
        self._accepting.stop()
        if kind is None:
            assert self.failures == []

    def dial(self, port: int) -> None:
        """Connects to a downloader, which answers; then serves it like one that came by itself."""
        self._accepting.adopt(socket.create_connection(("127.0.0.1", port)), partial(self._begin, self._dialed))

    def _dialed(self, link: Link) -> None:
        link.send(self.handshake())
        link.handshake = decode_handshake(link.read(68))
        self.on_greeted(link)
        while True:
            self.on_messages(link, link.read_messages())

    def _begin(self, live: Callable[[Link], None], sock: socket.socket) -> Life:
        link = Link(self, sock)
        self.links.append(link)
        return partial(self._serve, link, live)

    def _serve(self, link: Link, live: Callable[[Link], None]) -> None:
        try:
            live(link)
        except Gone:
            pass
        except BaseException as error:  # noqa: BLE001 - shown by the test, in its own thread
            self.failures.append(error)
        finally:
            link.close()
            link.closed.set()


class Later(ScriptedPeer):
    """Lets itself be asked once `condition` holds: when others have done their worst."""

    def __init__(self, made: Made, condition: Callable[[], object], *, rate: int = 0) -> None:
        super().__init__(made, rate=rate)
        self._condition = condition

    def on_interested(self, link: Link) -> None:
        while not self._condition():
            self.wait(0.01)
        super().on_interested(link)


@contextlib.contextmanager
def serving(*peers: ScriptedPeer) -> Iterator[tuple[ScriptedPeer, ...]]:
    """Several peers at once."""
    with contextlib.ExitStack() as stack:
        for peer in peers:
            stack.enter_context(peer)
        yield peers
