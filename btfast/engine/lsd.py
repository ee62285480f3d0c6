"""Local service discovery (BEP 14) of all torrents of a process: multicast sockets, and who wants to know.

Nothing is opened before a torrent is old enough to be announced, so many short ones cost an entry in a table each. The
sockets are bound to the group's address: what was not sent to the group does not come in, from nowhere.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from typing import NamedTuple, Protocol

from btfast.config import Settings
from btfast.discovery.lsd import GROUP_V4, GROUP_V6, MAX_READ, PORT, Dampers, LsdSchedule, decode_lsd, encode_lsd, room
from btfast.errors import RemoteError
from btfast.metainfo.addresses import PeerAddress
from btfast.metainfo.reach import reach_of
from btfast.swarm.peers import Source
from btfast.swarm.source_policy import may_name

PATIENCE = 10.0  # seconds after a torrent's start in which somebody may still answer
DATAGRAMS = 32  # read in one wake-up
RETRY = 300.0  # seconds until the interfaces are looked at again: a laptop may have joined a network
HOPS = 1  # the group is wider; we ask the networks that we are in

Found = Callable[[PeerAddress], None]


class Interface(NamedTuple):
    """One that takes part."""

    number: int
    v4: bool
    v6: bool


class Process(Protocol):
    """What is needed of the Context."""

    loop: asyncio.AbstractEventLoop
    settings: Settings
    port: int


class LocalDiscovery:
    """One a network process. `add` a torrent, `tick` once a second."""

    def __init__(self, context: Process) -> None:
        self._context = context
        self._cookie = os.urandom(8).hex().encode()
        self._schedule = LsdSchedule(room(cookie=self._cookie))
        self._dampers = Dampers()
        self._wanted: dict[bytes, tuple[Found, float]] = {}
        self._sockets: dict[bool, socket.socket] = {}  # by whether it is IPv6
        self._interfaces: list[Interface] = []
        self._look_at = -1.0
        self.heard = 0  # announces
        self.sent = 0  # datagrams

    def add(self, info_hash: bytes, found: Found) -> None:
        """`found(address)` hears of peers in the local network until `remove`."""
        now = self._context.loop.time()
        self._wanted[info_hash] = (found, now)
        self._schedule.add(info_hash, now)

    def remove(self, info_hash: bytes) -> None:
        self._wanted.pop(info_hash, None)
        self._schedule.remove(info_hash)

    def want_peers(self, info_hash: bytes) -> None:
        """Announce it as soon as that may be."""
        self._schedule.want(info_hash, self._context.loop.time())

    def may_answer(self, info_hash: bytes) -> bool:
        """Whether somebody may still tell of a peer of it, soon."""
        known = self._wanted.get(info_hash)
        now = self._context.loop.time()
        return known is not None and now < known[1] + PATIENCE and self._open(now)

    def tick(self, now: float) -> None:
        batches = self._schedule.poll(now)
        if batches and self._open(now):
            for batch in batches:
                self._announce(batch)

    def close(self) -> None:
        for sock in self._sockets.values():
            self._context.loop.remove_reader(sock.fileno())
            sock.close()
        self._sockets.clear()
        self._interfaces = []

    # sockets

    def _open(self, now: float) -> bool:
        """Whether there is a network to ask; from time to time its interfaces may be others."""
        if now >= self._look_at:
            self._look_at = now + RETRY
            try:
                interfaces = _interfaces(self._context.settings.bind)
            except OSError:
                interfaces = self._interfaces  # no descriptor is free: the next look may tell
            if interfaces != self._interfaces:
                self.close()
                self._interfaces = interfaces
                for v6 in (False, True):
                    indexes = [one.number for one in interfaces if (one.v6 if v6 else one.v4)]
                    sock = _joined(v6, indexes) if indexes else None
                    if sock is not None:
                        self._sockets[v6] = sock
                        self._context.loop.add_reader(sock.fileno(), self._readable, sock)
        return bool(self._sockets)

    def _announce(self, info_hashes: list[bytes]) -> None:
        bind = self._context.settings.bind.partition("%")[0]  # where others are to connect to, if that matters
        for v6, sock in self._sockets.items():
            data = encode_lsd(info_hashes, v6=v6, port=self._context.port, cookie=self._cookie)
            for one in self._interfaces:
                try:
                    if v6 and one.v6:
                        come_from = socket.inet_pton(socket.AF_INET6, bind or "::") + struct.pack("@I", one.number)
                        control = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, come_from)]
                        sock.sendmsg([data], control, 0, (GROUP_V6, PORT, 0, one.number))
                    elif one.v4 and not v6:
                        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, _mreqn(one.number, bind))
                        sock.sendto(data, (GROUP_V4, PORT))
                    else:
                        continue
                except OSError:
                    continue  # the interface is gone, or its buffer full: the next announce may get through
                self.sent += 1

    def _readable(self, sock: socket.socket) -> None:
        now = self._context.loop.time()
        for _ in range(DATAGRAMS):
            try:
                data, source = sock.recvfrom(MAX_READ + 1)
            except OSError:
                return
            if self._dampers.hears(source[0], now):
                self._handle(data, str(source[0]))

    def _handle(self, data: bytes, host: str) -> None:
        try:
            said = decode_lsd(data)
        except RemoteError:
            return
        address = PeerAddress(host, said.port)
        if said.cookie == self._cookie or not may_name(Source.LSD, reach_of(host), address):
            return
        for info_hash in said.info_hashes:
            wanted = self._wanted.get(info_hash)
            if wanted is not None:
                self.heard += 1
                wanted[0](address)


def _interfaces(bind: str) -> list[Interface]:
    """Those that are up and carry multicast, and no loopback; with `bind` only the one that has this address."""
    import psutil  # here: 10 ms, which nobody who is done in a second pays

    found = []
    for name, addresses in psutil.net_if_addrs().items():
        state = psutil.net_if_stats().get(name)
        if state is None or not state.isup or "multicast" not in state.flags or "loopback" in state.flags:
            continue
        hosts = {address.address.partition("%")[0] for address in addresses}
        if bind and bind.partition("%")[0] not in hosts:
            continue
        families = {address.family for address in addresses if not bind or address.address.partition("%")[0] == bind}
        v4, v6 = socket.AF_INET in families, socket.AF_INET6 in families
        if v4 or v6:
            try:
                found.append(Interface(socket.if_nametoindex(name), v4, v6))
            except OSError:
                continue  # an alias, or gone already
    return found


def _joined(v6: bool, indexes: list[int]) -> socket.socket | None:
    """A socket that hears the group on these interfaces; None where there can be none."""
    try:
        sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
    except OSError:
        return None
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # every client of this machine listens here
        if v6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, HOPS)
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, HOPS)
        sock.bind((GROUP_V6 if v6 else GROUP_V4, PORT))
        joined = sum(_join(sock, v6, index) for index in indexes)
    except OSError:
        joined = 0
    if not joined:
        sock.close()
        return None
    return sock


def _join(sock: socket.socket, v6: bool, index: int) -> bool:
    try:
        if v6:
            group = socket.inet_pton(socket.AF_INET6, GROUP_V6) + struct.pack("@I", index)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, _mreqn(index))
    except OSError:
        return False
    return True


def _mreqn(index: int, bind: str = "") -> bytes:
    """struct ip_mreqn: the group, the address to send from, an interface."""
    return socket.inet_aton(GROUP_V4) + socket.inet_aton(bind or "0.0.0.0") + struct.pack("@i", index)
