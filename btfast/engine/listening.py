"""Connections in: one port for all torrents, on both address families; a handshake's info-hash says which is meant."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any, Protocol

from btfast._peer_stream import CLOSED_EVENT, INFO_HASH_EVENT
from btfast.engine.connection import PeerConnection, remote_address
from btfast.engine.context import Context
from btfast.engine.greeting import GREETING_TIMEOUT, info_hash_of
from btfast.errors import InputError

PENDING = 512  # connections that have not said which torrent they mean
BACKLOG = 512
ACCEPTS = 64  # taken in one wake-up


class Host(Protocol):
    """A torrent that can take a connection over."""

    def handle_incoming(self, peer: PeerConnection, events: list[tuple[Any, ...]], now: float) -> None: ...


class Listener:
    """`find(info_hash)` gives the torrent that a connection is for, or None. Raises InputError when it cannot listen."""

    def __init__(self, context: Context, find: Callable[[bytes], Host | None]) -> None:
        self._context = context
        self._find = find
        self._pending: set[PeerConnection] = set()
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
        for _ in range(ACCEPTS):
            try:
                sock, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    # The backlog holds them. It stays readable, so until the next tick nobody looks.
                    self._context.loop.remove_reader(listening.fileno())
                    self._resting.append(listening)
                    return
                raise
            if len(self._pending) >= PENDING:
                sock.close()
                continue
            try:
                address = remote_address(sock)
                peer = PeerConnection(self._context.loop, sock, address, self, outgoing=False)
            except OSError:
                sock.close()  # it is gone already
                continue
            self._pending.add(peer)

    # Owner of connections that have not said what they want

    def handle_events(self, peer: PeerConnection, events: list[tuple[Any, ...]], now: float) -> None:
        event = events[0]
        if event[0] == CLOSED_EVENT:
            peer.close(event[1])
            return
        info_hash = info_hash_of(event) if event[0] == INFO_HASH_EVENT else None
        host = self._find(info_hash) if info_hash is not None else None
        if host is None:
            peer.close("it asks for something that is not here")
            return
        self._pending.discard(peer)
        host.handle_incoming(peer, events[1:], now)

    def handle_closed(self, peer: PeerConnection, reason: str) -> None:
        self._pending.discard(peer)

    def tick(self, now: float) -> None:
        """Once a second: drops the silent, tries again to accept."""
        resting, self._resting = self._resting, []
        for sock in resting:
            self._context.loop.add_reader(sock.fileno(), self._accept, sock)
        for peer in list(self._pending):
            if now - peer.connected_at > GREETING_TIMEOUT:
                peer.close("no handshake came")

    def close(self) -> None:
        for sock in self._sockets:
            self._context.loop.remove_reader(sock.fileno())
            sock.close()
        for peer in list(self._pending):
            peer.close("closing")
