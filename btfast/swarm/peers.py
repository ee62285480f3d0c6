"""Known addresses of one torrent: where from, tried, failed, connected, banned; and which to dial next.

Each address is in one state: waiting (fresh, or until its backoff is over), dialing, connected. Fresh ones are dialed
by source, best first, and in the order they came; ones that failed come back when their time is due: the first time
before the fresh ones, later after them.
"""

from __future__ import annotations

import ipaddress
from collections import deque
from enum import IntEnum
from heapq import heappop, heappush

from btfast.metainfo.addresses import PeerAddress


class Source(IntEnum):
    """Who named an address; lower is dialed first."""

    OPTION = 0  # the user
    TRACKER = 1
    LSD = 2
    DHT = 3
    PEX = 4
    INCOMING = 5  # it connected to us and said where it listens


# The share of the limit that one source may fill: peers can invent any number of addresses.
_SHARE = {
    Source.OPTION: 1.0,
    Source.TRACKER: 1.0,
    Source.LSD: 0.5,
    Source.DHT: 0.5,
    Source.PEX: 0.5,
    Source.INCOMING: 0.25,
}
_WAITING, _DIALING, _CONNECTED = range(3)
_HOPELESS = 3  # failures in a row after which an address may be dropped for a new one
_MAX_BANNED = 10_000
_MAX_DOUBLINGS = 20


def host_group(host: str) -> str:
    """What one party has at the least: an IPv4 address, or the /64 of a public IPv6 address. `host` is a literal."""
    if ":" not in host:
        return host
    address = ipaddress.IPv6Address(host)
    if not address.is_global:
        return host  # a private network may be one /64 with many hosts
    return str(ipaddress.IPv6Address(int(address) >> 64 << 64)) + "/64"


class _Known:
    __slots__ = ("address", "failures", "source", "state", "ticket")

    def __init__(self, address: PeerAddress, source: Source) -> None:
        self.address = address
        self.source = source
        self.state = _WAITING
        self.failures = 0
        self.ticket = 0  # which entry of the waiting lists counts; older ones are void


class KnownPeers:
    """At most `limit` addresses, `half_open` of them being dialed at once.

    A failed dial waits `backoff` seconds, twice as long each further time, never above `backoff_cap`.
    """

    def __init__(
        self, *, limit: int = 4000, half_open: int = 100, backoff: float = 5.0, backoff_cap: float = 1800.0
    ) -> None:
        self._limit = limit
        self._half_open = half_open
        self._backoff = backoff
        self._backoff_cap = backoff_cap
        self._known: dict[PeerAddress, _Known] = {}
        self._fresh: list[deque[tuple[int, _Known]]] = [deque() for _ in Source]
        self._later: list[tuple[float, int, _Known]] = []
        self._hopeless: dict[PeerAddress, _Known] = {}
        self._per_source = [0] * len(Source)
        self._own: set[PeerAddress] = set()
        self._banned: dict[PeerAddress | str, None] = {}
        self._tickets = 0
        self.dialing = 0
        self.connected_count = 0

    def __len__(self) -> int:
        return len(self._known)

    def add(self, address: PeerAddress, source: Source, now: float) -> bool:
        """Learns an address. True when it is new and kept: not banned, not our own, with a port, and there is room."""
        if address in self._known or not address.port or address in self._own or self.is_banned(address):
            return False
        if not self._has_room(source):
            return False
        known = self._known[address] = _Known(address, source)
        self._per_source[source] += 1
        self._queue_fresh(known)
        return True

    def next_dial(self, now: float, *, half_open: int | None = None) -> PeerAddress | None:
        """An address to connect to now, which counts as being dialed from here on; None when there is none."""
        if self.dialing >= (self._half_open if half_open is None else half_open):
            return None
        known = self._due(now, patient=False) or self._first_fresh() or self._due(now, patient=True)
        if known is None:
            return None
        known.state = _DIALING
        known.ticket = 0
        self.dialing += 1
        return known.address

    def next_time(self) -> float | None:
        """When next_dial has something at the latest: 0.0 for at once, None for never as things stand."""
        if any(ticket == known.ticket for queue in self._fresh for ticket, known in queue):
            return 0.0
        self._drop_void()
        return self._later[0][0] if self._later else None

    def failed(self, address: PeerAddress, now: float) -> None:
        """Dialing it, or its handshake, failed."""
        known = self._known.get(address)
        if known is None:
            return
        self._leave_state(known)
        known.failures += 1
        if known.failures >= _HOPELESS:
            self._hopeless[address] = known
        self._queue_later(known, now)

    def connected(self, address: PeerAddress) -> None:
        """The handshake with it is done, whoever dialed."""
        known = self._known.get(address)
        if known is None:
            return
        self._leave_state(known)
        known.state = _CONNECTED
        known.ticket = 0
        self.connected_count += 1

    def disconnected(self, address: PeerAddress, now: float, *, useful: bool = True) -> None:
        """A connection to it ended. One that was `useful` starts with a clean record."""
        known = self._known.get(address)
        if known is None or known.state != _CONNECTED:
            return
        self._leave_state(known)
        if useful:
            known.failures = 0
            self._hopeless.pop(address, None)
        known.failures += 1
        self._queue_later(known, now)

    def banned(self, address: PeerAddress, *, whole_host: bool = False) -> None:
        """Never again: this address, or every port of its host, with `host_group`'s idea of a host."""
        if len(self._banned) >= _MAX_BANNED:
            del self._banned[next(iter(self._banned))]
        self._banned[host_group(address.host) if whole_host else address] = None
        gone = [known for known in self._known.values() if self.is_banned(known.address)] if whole_host else []
        if not whole_host and address in self._known:
            gone.append(self._known[address])
        for known in gone:
            self._forget(known)

    def is_banned(self, address: PeerAddress) -> bool:
        """Whether it was banned."""
        return bool(self._banned) and (address in self._banned or host_group(address.host) in self._banned)

    def set_own(self, address: PeerAddress) -> None:
        """One of our own addresses: trackers and peers hand it to us."""
        self._own.add(address)
        known = self._known.get(address)
        if known is not None:
            self._forget(known)

    def is_own(self, address: PeerAddress) -> bool:
        """Whether set_own named it."""
        return address in self._own

    def source(self, address: PeerAddress) -> Source | None:
        """Who named it first."""
        known = self._known.get(address)
        return known.source if known else None

    def _has_room(self, source: Source) -> bool:
        """Whether one more of `source` fits, at need in the place of one that keeps failing."""
        share_full = self._per_source[source] >= self._limit * _SHARE[source]
        if not share_full and len(self._known) < self._limit:
            return True
        for known in self._hopeless.values():
            if not share_full or known.source is source:
                self._forget(known)
                return True
        return False

    def _queue_fresh(self, known: _Known) -> None:
        self._tickets += 1
        known.ticket = self._tickets
        self._fresh[known.source].append((known.ticket, known))

    def _queue_later(self, known: _Known, now: float) -> None:
        self._tickets += 1
        known.state = _WAITING
        known.ticket = self._tickets
        wait = min(self._backoff * 2.0 ** min(known.failures - 1, _MAX_DOUBLINGS), self._backoff_cap)
        heappush(self._later, (now + wait, known.ticket, known))

    def _due(self, now: float, *, patient: bool) -> _Known | None:
        self._drop_void()
        if self._later and self._later[0][0] <= now and (patient or self._later[0][2].failures <= 1):
            return heappop(self._later)[2]
        return None

    def _drop_void(self) -> None:
        while self._later and self._later[0][1] != self._later[0][2].ticket:
            heappop(self._later)

    def _first_fresh(self) -> _Known | None:
        for queue in self._fresh:
            while queue:
                ticket, known = queue.popleft()
                if ticket == known.ticket:
                    return known
        return None

    def _leave_state(self, known: _Known) -> None:
        if known.state == _DIALING:
            self.dialing -= 1
        elif known.state == _CONNECTED:
            self.connected_count -= 1
        known.state = _WAITING

    def _forget(self, known: _Known) -> None:
        self._leave_state(known)
        known.ticket = -1
        del self._known[known.address]
        self._hopeless.pop(known.address, None)
        self._per_source[known.source] -= 1
