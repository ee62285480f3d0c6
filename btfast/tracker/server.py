"""The embedded tracker: one memory of swarms, and its two faces, HTTP and UDP, on one port."""

from __future__ import annotations

import errno
import random
import socket
import time
from collections.abc import Callable

from btfast.errors import InputError
from btfast.tracker.access import Access
from btfast.tracker.http import BACKLOG, HttpFace
from btfast.tracker.store import Limits, TrackerStore
from btfast.tracker.udp import UdpFace

DEFAULT_INTERVAL = 1800
ATTEMPTS = 20  # at a port that is free for TCP and UDP alike, when any will do


class TrackerServer:
    """A tracker that serves; made by `serve`."""

    def __init__(self, store: TrackerStore, access: Access, interval: int, now: Callable[[], float]) -> None:
        self.store = store
        self.access = access
        self.port = 0
        self._http = HttpFace(store, access, interval, now)
        self._udp = UdpFace(store, access, interval, now)

    async def start(self, bind: str | None, port: int) -> None:
        """Listen on `bind` (None: every address of the machine). InputError when that cannot be had."""
        for attempt in range(ATTEMPTS):
            sockets: list[socket.socket] = []
            try:
                listening = _listen(bind, port)
                sockets.append(listening)
                self.port = listening.getsockname()[1]
                sockets += _datagram_sockets(bind, self.port)
                break
            except (OSError, OverflowError) as error:
                for sock in sockets:
                    sock.close()
                if not port and attempt < ATTEMPTS - 1 and isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
                    continue
                why = (error.strerror if isinstance(error, OSError) else None) or str(error)
                raise InputError(
                    f"tracker: cannot listen on {bind or '*'} port {port}: {why.lower()}: choose another", port=port
                ) from None
        await self._http.start(listening)
        self._udp.start(sockets[1:])

    async def close(self) -> None:
        """Stop listening and close every connection."""
        self._udp.close()
        await self._http.close()


async def serve(
    bind: str | None = None,
    port: int = 0,
    *,
    interval: int = DEFAULT_INTERVAL,
    limits: Limits | None = None,
    access: Access | None = None,
    now: Callable[[], float] = time.monotonic,
) -> TrackerServer:
    """Start a tracker in the running loop; `port` 0 takes a free one (see `.port`); end it with `await .close()`.

    `interval`: seconds that clients are asked to leave between announces; a peer that misses two is forgotten.
    `access`: who may use it, everybody by default. Raises InputError when the address cannot be listened on.
    """
    if interval < 1:
        raise InputError(f"tracker: interval {interval}: must be at least 1 second", interval=interval)
    if limits is None:
        limits = Limits(expiry=2.0 * interval + 300.0)
    server = TrackerServer(TrackerStore(random.Random(), limits), access or Access(), interval, now)
    await server.start(bind, port)
    return server


def _listen(bind: str | None, port: int) -> socket.socket:
    """A listening socket; every address means both families in one socket where the system can."""
    if bind in (None, "", "::") and socket.has_dualstack_ipv6():
        return socket.create_server(("::", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)
    family, _, _, _, address = socket.getaddrinfo(bind or "0.0.0.0", port, type=socket.SOCK_STREAM)[0]
    return socket.create_server((str(address[0]), port), family=family, backlog=BACKLOG)


def _datagram_sockets(bind: str | None, port: int) -> list[socket.socket]:
    """One a family, so that every answer leaves in the family of its question."""
    places: list[tuple[socket.AddressFamily, str]]
    if bind in (None, "", "::"):
        places = [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]
    else:
        family, _, _, _, address = socket.getaddrinfo(bind, port, type=socket.SOCK_DGRAM)[0]
        places = [(family, str(address[0]))]
    sockets: list[socket.socket] = []
    try:
        for kind, host in places:
            try:
                sock = socket.socket(kind, socket.SOCK_DGRAM)
            except OSError:
                if kind == socket.AF_INET6 and sockets:
                    continue  # a kernel without IPv6
                raise
            sockets.append(sock)
            if kind == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind((host, port))
            except OSError as error:
                if len(sockets) < 2 or error.errno != errno.EADDRNOTAVAIL:
                    raise
                sockets.pop().close()  # IPv6 is switched off
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets
