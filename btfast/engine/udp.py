"""The UDP sockets of the network process: one an address family, for the DHT and for UDP trackers alike.

How to use it. `context.udp` is there from the start and costs nothing: no socket is made before the first `open` or
`send`. Who takes part in a protocol sets its handler, any time, and sends:

    context.udp.dht_handler = f          # f(data: bytes, address: PeerAddress), called in the loop, one datagram each
    context.udp.open()                   # to be reachable before anything was sent; cheap when it is open already
    context.udp.send(data, address)      # False, never an exception, when it did not leave
    context.udp.port(v6=False)           # where the family is reached, 0 where there is no such socket (PORT message)

`address.host` is always a literal address: what comes in is, and what goes out must be (a name would be looked up,
which blocks). Datagrams are told apart by their first bytes: `d...e` is the DHT's (BEP 5); four bytes 00 00 00 and 00
to 03 begin a UDP tracker's answer (BEP 15). All else, and what has no handler, is counted in `dropped`. Handlers get
hostile bytes from spoofed addresses, and must not raise.

The sockets are bound like the TCP listener: to `--bind`, on its port. Where that port is taken for UDP, a free one is
used; a family that the machine lacks is left out; with neither, `send` says False, and `problem` says why.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Protocol

from btfast.config import Settings
from btfast.metainfo.addresses import PeerAddress

DATAGRAMS = 64  # read in one wake-up: TCP has its turn between
RECEIVE_BUFFER = 1 << 20
RETRY_SECONDS = 10.0  # until sockets that could not be had are asked for again

Handler = Callable[[bytes, PeerAddress], None]


class Process(Protocol):
    """What is needed of the Context; `port` is looked at when the sockets are made."""

    loop: asyncio.AbstractEventLoop
    settings: Settings
    port: int


class UdpSockets:
    """One a network process."""

    def __init__(self, context: Process) -> None:
        self._context = context
        self._sockets: dict[bool, socket.socket] = {}  # by whether it is IPv6
        self._buffer = bytearray()
        self._try_at = -1.0
        self._closed = False
        self.dht_handler: Handler | None = None
        self.tracker_handler: Handler | None = None
        self.problem = ""
        self.received = 0
        self.dropped = 0
        self.unsent = 0

    def open(self) -> bool:
        """Makes the sockets; whether there is at least one."""
        if self._sockets:
            return True
        now = self._context.loop.time()
        if self._closed or now < self._try_at:
            return False
        self._try_at = now + RETRY_SECONDS
        self._buffer = bytearray(1 << 16)
        bind = self._context.settings.bind
        for v6, host in [(":" in bind, bind)] if bind else [(False, "0.0.0.0"), (True, "::")]:
            try:
                sock = _bound(v6, host, self._context.port)
            except OSError as error:
                self.problem = f"UDP on {host}: {error.strerror or error}"
                continue
            self._sockets[v6] = sock
            self._context.loop.add_reader(sock.fileno(), self._readable, sock)
        return bool(self._sockets)

    def has(self, *, v6: bool) -> bool:
        """Whether datagrams of this family can be sent."""
        return self.open() and v6 in self._sockets

    def port(self, *, v6: bool = False) -> int:
        """Where this family is reached, 0 when it is not."""
        sock = self._sockets.get(v6)
        return int(sock.getsockname()[1]) if sock is not None else 0

    def send(self, data: bytes, address: PeerAddress) -> bool:
        """Sends one datagram; False when it did not leave: a full buffer, no route, no such family."""
        if self.open():
            sock = self._sockets.get(":" in address.host)
            if sock is not None:
                try:
                    sock.sendto(data, address)
                except (OSError, OverflowError, ValueError):
                    pass  # counted below; who sent it has a timer, as for one that is lost on the way
                else:
                    return True
        self.unsent += 1
        return False

    def close(self) -> None:
        """Nothing is sent or handled any more."""
        self._closed = True
        for sock in self._sockets.values():
            self._context.loop.remove_reader(sock.fileno())
            sock.close()
        self._sockets.clear()

    def _readable(self, sock: socket.socket) -> None:
        buffer = self._buffer
        for _ in range(DATAGRAMS):
            try:
                size, source = sock.recvfrom_into(buffer)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP answer to something sent before, reported by some systems: not for anybody here
            self.received += 1
            handler = None
            if size >= 8 and buffer[0] == 0x64 and buffer[size - 1] == 0x65:
                handler = self.dht_handler
            elif size >= 8 and buffer.startswith(b"\0\0\0") and buffer[3] <= 3:
                handler = self.tracker_handler
            if handler is None:
                self.dropped += 1
                continue
            handler(bytes(memoryview(buffer)[:size]), PeerAddress(source[0], source[1]))
            if sock.fileno() < 0:
                return  # the handler closed it


def _bound(v6: bool, host: str, port: int) -> socket.socket:
    """A socket on that port, or on a free one when it is taken."""
    sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if v6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            sock.bind((host, 0))
    except OSError:
        sock.close()
        raise
    return sock
