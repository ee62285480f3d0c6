"""Connections in: one port for all torrents, on both address families; a handshake's info-hash says which is meant.

Who floods the port must cost little and keep nobody out: what has not named a torrent is bounded, a newcomer takes the
place of one from the host that has the most, and key exchanges of encrypted connections are rationed.
"""

from __future__ import annotations

import collections
import errno
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from btfast.engine.arrival import Arrival
from btfast.engine.connection import PeerConnection, remote_address
from btfast.engine.context import Context
from btfast.engine.greeting import GREETING_TIMEOUT
from btfast.engine.turns import KeyTurns
from btfast.errors import InputError

if TYPE_CHECKING:
    from btfast.wire.mse import Secured

PENDING = 512  # connections that have not said which torrent they mean
BACKLOG = 512
ACCEPTS = 64  # taken in one wake-up
GRACE = 1.0  # seconds that each has to say so when there are too many
# What Linux hands to accept() of a single connection that has failed already (accept(2)), or that a firewall forbids.
OF_ONE = frozenset(
    {errno.ECONNABORTED, errno.EPROTO, errno.ENOPROTOOPT, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN,
     errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.EPERM}
)  # fmt: skip
LONGEST = 30.0  # seconds that an encrypted handshake may take, each step of it in its own limit


class Host(Protocol):
    """A torrent that can take a connection over."""

    def handle_incoming(self, peer: PeerConnection, events: list[tuple[Any, ...]], now: float) -> None: ...


class _Nobody:
    """The owner of a connection until its torrent has taken it over or closed it."""

    def handle_events(self, peer: PeerConnection, events: list[tuple[Any, ...]], now: float) -> None:
        """It is not watched yet."""

    def handle_closed(self, peer: PeerConnection, reason: str) -> None:
        """Nobody knows of it."""


NOBODY = _Nobody()


class Listener:
    """`find(info_hash)` gives the torrent that a connection is for, or None; `find_skey` the info-hash with that
    `skey_hash` (MSE). Raises InputError when it cannot listen.
    """

    def __init__(
        self,
        context: Context,
        find: Callable[[bytes], Host | None],
        find_skey: Callable[[bytes], bytes | None] = lambda hashed: None,
    ) -> None:
        self._context = context
        self._find = find
        self._find_skey = find_skey
        self.turns = KeyTurns(context.loop)
        self._pending: dict[Arrival, None] = {}  # oldest first
        self._hosts: collections.Counter[str] = collections.Counter()  # of those
        self._sockets: list[socket.socket] = []
        self._resting: list[socket.socket] = []  # those that found no descriptor free
        self.port = self._listen(context.settings.bind, context.settings.port)
        for sock in self._sockets:
            context.loop.add_reader(sock.fileno(), self._accept, sock)

    def _listen(self, bind: str, port: int) -> int:
        families = [(socket.AF_INET6 if ":" in bind else socket.AF_INET, bind)] if bind else [
            (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"),
        ]  # fmt: skip
        for attempt in (port, 0):
            try:
                return self._listen_all(families, attempt)
            except OSError as error:
                for sock in self._sockets:
                    sock.close()
                self._sockets.clear()
                if error.errno != errno.EADDRINUSE or attempt == 0:
                    raise InputError(
                        f"listening on {bind or 'all addresses'} port {attempt}: {error.strerror}: choose another "
                        "--bind or --port"
                    ) from None
        raise AssertionError("unreachable")

    def _listen_all(self, families: list[tuple[socket.AddressFamily, str]], port: int) -> int:
        for family, host in families:
            try:
                sock = socket.socket(family, socket.SOCK_STREAM)
            except OSError:
                if family == socket.AF_INET6 and len(families) > 1:
                    continue  # a kernel without IPv6
                raise
            self._sockets.append(sock)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind((host, port))
            except OSError as error:
                if family == socket.AF_INET6 and len(families) > 1 and error.errno == errno.EADDRNOTAVAIL:
                    sock.close()
                    self._sockets.remove(sock)
                    continue  # IPv6 is switched off
                raise
            sock.listen(BACKLOG)
            port = sock.getsockname()[1]
        return port

    def _accept(self, listening: socket.socket) -> None:
        now = self._context.loop.time()
        for _ in range(ACCEPTS):
            try:
                sock, name = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in OF_ONE:
                    continue
                # No descriptor is free, or worse. The backlog stays readable, so until the next tick nobody looks.
                self._context.loop.remove_reader(listening.fileno())
                self._resting.append(listening)
                return
            address = remote_address(name)
            if not self._make_room(address.host, now):
                sock.close()
                continue
            self._pending[Arrival(self._context, self, sock, address, now)] = None
            self._hosts[address.host] += 1

    def _make_room(self, host: str, now: float) -> bool:
        """Room for one more, at need in the place of one from a host that fills more of it, or that was silent longest."""
        if len(self._pending) < min(PENDING, self._context.places.pending):
            return True
        crowd, count = self._hosts.most_common(1)[0]
        if self._hosts[host] + 1 < count:
            oldest = next(arrival for arrival in self._pending if arrival.address.host == crowd)
        else:
            oldest = next(iter(self._pending))
            if now - oldest.began < GRACE:
                return False
        oldest.close("too many say nothing")
        return True

    # arrival.House

    def handle_named(self, arrival: Arrival, info_hash: bytes, secured: Secured | None, said: bytes) -> None:
        self._forget(arrival)
        host = self._find(info_hash)
        if host is None:
            arrival.socket.close()
            return
        try:
            peer = PeerConnection(
                self._context.loop, arrival.socket, arrival.address, NOBODY, outgoing=False, secured=secured,
                info_hash=info_hash,
            )
        except OSError:
            arrival.socket.close()  # it is gone already
            return
        host.handle_incoming(peer, peer.stream.handle_bytes(said), self._context.loop.time())

    def handle_gone(self, arrival: Arrival, why: str) -> None:
        self._forget(arrival)

    def find_skey(self, skey_hash: bytes) -> bytes | None:
        return self._find_skey(skey_hash)

    def _forget(self, arrival: Arrival) -> None:
        del self._pending[arrival]
        host = arrival.address.host
        self._hosts[host] -= 1
        if not self._hosts[host]:
            del self._hosts[host]

    def tick(self, now: float) -> None:
        """Once a second: drops the silent, tries again to accept."""
        resting, self._resting = self._resting, []
        for sock in resting:
            self._context.loop.add_reader(sock.fileno(), self._accept, sock)
        for arrival in list(self._pending):
            if now - arrival.began > (LONGEST if arrival.securing else GREETING_TIMEOUT):
                arrival.close("no handshake came")

    def close(self) -> None:
        for sock in self._sockets:
            self._context.loop.remove_reader(sock.fileno())
            sock.close()
        self.turns.close()
        for arrival in list(self._pending):
            arrival.close("closing")
