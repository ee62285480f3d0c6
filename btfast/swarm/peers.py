"""Known addresses of one torrent: where from, tried, failed, connected, banned; and which to dial next.

Each address is in one state: waiting (fresh, or until its backoff is over), dialing, connected. Fresh ones are dialed
by source, best first, and among those of one source who named them take turns; ones that failed come back when their
time is due: the first time before the fresh ones, later after them.

DHT nodes and peers can name any number of addresses that are none (gossip, below). So their addresses fill only a share
of the table, each sender's and each public host's a small one; they get half of the attempts under way at most, none
that failed comes before a fresh one, and a sender that only ever named bad ones comes last.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Container
from enum import IntEnum
from heapq import heapify, heappop, heappush
from typing import cast

from btfast.metainfo.addresses import PeerAddress
from btfast.metainfo.reach import Reach, reach_of
from btfast.swarm.fresh import Fresh


class Source(IntEnum):
    """Who named an address; lower is dialed first."""

    OPTION = 0  # the user
    TRACKER = 1
    LSD = 2
    EARLIER = 3  # an earlier run, which was connected to it
    DHT = 4
    PEX = 5
    INCOMING = 6  # it connected to us and said where it listens


# The share of the limit that one source may fill: peers can invent any number of addresses.
_SHARE = {
    Source.OPTION: 1.0,
    Source.TRACKER: 0.75,
    Source.LSD: 0.5,
    Source.EARLIER: 0.25,
    Source.DHT: 0.5,
    Source.PEX: 0.5,
    Source.INCOMING: 0.25,
}
_GOSSIP = frozenset({Source.DHT, Source.PEX, Source.INCOMING})
_NAMED = _GOSSIP | {Source.TRACKER}  # sources of many senders, of whom one may name thousands
_NEAR = frozenset({Source.OPTION, Source.LSD})
_RESERVE = 16  # one in so many places is for those that the user or the local network names
_PER_SENDER = 200  # fresh addresses of one sender
_PER_TRACKER = 500  # those of one tracker
_PER_HOST = 8  # ports of one public host that gossip may name
_WAITING, _DIALING, _CONNECTED = range(3)
_HOPELESS = 3  # failures in a row after which an address may be dropped for a new one
_MAX_BANNED = 10_000
_MAX_DOUBLINGS = 20
_SPARE = 64  # void entries of those who wait, beyond as many as are known


def host_group(host: str) -> str:
    """What one party has at the least: an IPv4 address, or the /64 of a public IPv6 address. `host` is a literal."""
    if ":" not in host:
        return host
    address = ipaddress.IPv6Address(host)
    if not address.is_global:
        return host  # a private network may be one /64 with many hosts
    return str(ipaddress.IPv6Address(int(address) >> 64 << 64)) + "/64"


class _Known:
    __slots__ = ("address", "failures", "fresh", "group", "proved", "seed", "sender", "source", "state", "ticket")

    def __init__(self, address: PeerAddress, source: Source, sender: str, group: str, *, seed: bool) -> None:
        self.address = address
        self.source = source
        self.sender = sender
        self.group = group  # its host, where that counts
        self.seed = seed  # it wants nothing that we have
        self.proved = False  # it was connected once
        self.fresh = False
        self.state = _WAITING
        self.failures = 0
        self.ticket = 0  # which entry of the waiting lists counts; older ones are void


class KnownPeers:
    """At most `limit` addresses, `half_open` of them being dialed at once.

    A failed dial waits `backoff` seconds, twice as long each further time, never above `backoff_cap`.
    `priority(address)`: BEP 40's, 0 while it is not known.
    """

    def __init__(
        self, *, limit: int = 4000, half_open: int = 100, backoff: float = 5.0, backoff_cap: float = 1800.0,
        priority: Callable[[PeerAddress], int] | None = None,
    ) -> None:  # fmt: skip
        self._limit = limit
        self._half_open = half_open
        self._backoff = backoff
        self._backoff_cap = backoff_cap
        self._priority = priority
        self._known: dict[PeerAddress, _Known] = {}
        self._fresh: dict[Source, Fresh] = {}
        self._later: list[tuple[float, int, _Known]] = []
        self._gossip_later: list[tuple[float, int, _Known]] = []
        self._hopeless: dict[PeerAddress, _Known] = {}
        self._per_source = [0] * len(Source)
        self._per_host: dict[str, int] = {}
        self._own: set[PeerAddress] = set()
        self._banned: dict[PeerAddress | str, None] = {}
        self._tickets = 0
        self._gossip_dialing = 0
        self.dialing = 0
        self.connected_count = 0
        self.seeds_wanted = True  # False: those that have everything are not dialed

    def __len__(self) -> int:
        return len(self._known)

    def add(self, address: PeerAddress, source: Source, now: float, *, sender: str = "", seed: bool = False) -> bool:
        """Learns an address. True when it is new and kept: not banned, not our own, with a port, and there is room.

        `sender`: the host that named it. `seed`: it is said to want nothing.
        """
        if address in self._known or not address.port or address in self._own or self.is_banned(address):
            return False
        if seed and not self.seeds_wanted:
            return False
        group = ""
        if source in _GOSSIP:
            sender = host_group(sender) if sender else ""
            if reach_of(address.host) is Reach.PUBLIC:
                group = host_group(address.host)
                if self._per_host.get(group, 0) >= _PER_HOST:
                    return False
        if sender and source in self._fresh:
            most = _PER_TRACKER if source is Source.TRACKER else _PER_SENDER
            if self._fresh[source].waiting(sender) >= most:
                return False
        if not self._has_room(source, sender):
            return False
        known = self._known[address] = _Known(address, source, sender, group, seed=seed)
        self._per_source[source] += 1
        if group:
            self._per_host[group] = self._per_host.get(group, 0) + 1
        self._queue_fresh(known)
        return True

    def next_dial(self, now: float, *, half_open: int | None = None) -> PeerAddress | None:
        """An address to connect to now, which counts as being dialed from here on; None when there is none."""
        limit = self._half_open if half_open is None else half_open
        while self.dialing < limit:
            gossip = 2 * self._gossip_dialing < limit
            known = self._due(self._later, now, patient=False) or self._first_fresh(gossip=gossip) or self._any_due(now, gossip)
            if known is None:
                return None
            if known.seed and not self.seeds_wanted:
                self._forget(known)
                continue
            known.state = _DIALING
            known.ticket = 0
            self.dialing += 1
            self._gossip_dialing += known.source in _GOSSIP
            return known.address
        return None

    def next_time(self) -> float | None:
        """When next_dial has something at the latest: 0.0 for at once, None for never as things stand."""
        if any(map(len, self._fresh.values())):
            return 0.0
        times = [queue[0][0] for queue in (self._later, self._gossip_later) if self._drop_void(queue)]
        return min(times, default=None)

    def has_new(self, now: float) -> bool:
        """Whether an address that was never connected is waiting and due."""
        if any(map(len, self._fresh.values())):
            return True
        return any(
            self._drop_void(queue) and queue[0][0] <= now and not queue[0][2].proved
            for queue in (self._later, self._gossip_later)
        )

    def failed(self, address: PeerAddress, now: float) -> None:
        """Dialing it, or its handshake, failed."""
        known = self._known.get(address)
        if known is None or known.state == _CONNECTED:
            return  # the other connection to it is the good one
        self._leave_state(known)
        if not known.failures:
            self._judge(known, good=False)
        known.failures += 1
        if known.failures >= _HOPELESS:
            self._hopeless[address] = known
        self._queue_later(known, now)

    def connected(self, address: PeerAddress) -> bool:
        """The handshake with it is done, whoever dialed. False: it is not known, or was connected before."""
        known = self._known.get(address)
        if known is None or known.state == _CONNECTED:
            return False
        self._leave_state(known)
        if not known.proved:
            known.proved = True
            self._judge(known, good=True)
        known.state = _CONNECTED
        known.ticket = 0
        self.connected_count += 1
        return True

    def disconnected(self, address: PeerAddress, now: float, *, useful: bool = True, seed: bool = False) -> None:
        """A connection to it ended. One that was `useful` starts with a clean record; `seed`: it wants nothing."""
        known = self._known.get(address)
        if known is None or known.state != _CONNECTED:
            return
        self._leave_state(known)
        known.seed = seed
        if useful:
            known.failures = 0
            self._hopeless.pop(address, None)
        known.failures += 1
        self._queue_later(known, now)

    def set_aside(self, address: PeerAddress, now: float) -> None:
        """Its connection, which was of no use, has ended to make room: others come first."""
        known = self._known.get(address)
        if known is not None and known.state == _WAITING and not known.fresh:
            known.failures += 1
            self._queue_later(known, now)

    def renew(self, address: PeerAddress) -> None:
        """Its connection has ended because we wanted another one: it may be dialed at once."""
        known = self._known.get(address)
        if known is not None and known.state == _WAITING and not known.fresh:
            known.failures = 0
            self._queue_fresh(known)

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

    def forget_found(self, keep: Container[Source]) -> None:
        """All but those that the sources `keep` named."""
        for known in [known for known in self._known.values() if known.source not in keep]:
            self._forget(known)

    def proved(self, most: int) -> list[PeerAddress]:
        """Addresses that were connected, those that did not fail since before the others."""
        good = [known for known in self._known.values() if known.proved]
        good.sort(key=lambda known: known.failures)
        return [known.address for known in good[:most]]

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

    def _has_room(self, source: Source, sender: str) -> bool:
        """Whether one more of `source` fits, at need in the place of one that keeps failing or of a longer list."""
        share_full = self._per_source[source] >= self._limit * _SHARE[source]
        places = self._limit if source in _NEAR else self._limit - self._limit // _RESERVE
        if not share_full and len(self._known) < places:
            return True
        for known in self._hopeless.values():
            if not share_full or known.source is source:
                self._forget(known)
                return True
        if source in _NAMED and self._take_longest(source, self._waiting(source, sender) + 1):
            return True
        return not share_full and any(other > source and self._take_longest(other, 0) for other in _GOSSIP)

    def _waiting(self, source: Source, sender: str) -> int:
        fresh = self._fresh.get(source)
        return fresh.waiting(sender) if fresh is not None else 0

    def _take_longest(self, source: Source, above: int) -> bool:
        """Forgets the worst of the sender of `source` that has most waiting, where that is more than `above`."""
        fresh = self._fresh.get(source)
        if fresh is None:
            return False
        name, waiting = fresh.longest()
        worst = fresh.worst(name) if waiting > above else None
        if worst is None:
            return False
        self._forget(cast(_Known, worst))
        return True

    def _judge(self, known: _Known, *, good: bool) -> None:
        if known.sender and known.source in self._fresh:
            self._fresh[known.source].handle_tried(known.sender, good=good)

    def _queue_fresh(self, known: _Known) -> None:
        self._tickets += 1
        known.ticket = self._tickets
        known.fresh = True
        fresh = self._fresh.get(known.source)
        if fresh is None:
            fresh = self._fresh[known.source] = Fresh()
        fresh.add(known, self._priority(known.address) if self._priority is not None else 0)

    def _queue_later(self, known: _Known, now: float) -> None:
        self._tickets += 1
        known.state = _WAITING
        known.ticket = self._tickets
        wait = min(self._backoff * 2.0 ** min(known.failures - 1, _MAX_DOUBLINGS), self._backoff_cap)
        gossip = known.source in _GOSSIP and not known.proved
        queue = self._gossip_later if gossip else self._later
        heappush(queue, (now + wait, known.ticket, known))
        if len(queue) > 2 * len(self._known) + _SPARE:  # void ones hide behind any that waits for long
            queue[:] = [item for item in queue if item[1] == item[2].ticket]
            heapify(queue)

    def _due(self, queue: list[tuple[float, int, _Known]], now: float, *, patient: bool) -> _Known | None:
        if self._drop_void(queue) and queue[0][0] <= now and (patient or queue[0][2].failures <= 1):
            return heappop(queue)[2]
        return None

    def _any_due(self, now: float, gossip: bool) -> _Known | None:
        return self._due(self._later, now, patient=True) or (
            self._due(self._gossip_later, now, patient=True) if gossip else None
        )

    def _drop_void(self, queue: list[tuple[float, int, _Known]]) -> bool:
        """Whether something valid is in front."""
        while queue and queue[0][1] != queue[0][2].ticket:
            heappop(queue)
        return bool(queue)

    def _first_fresh(self, *, gossip: bool) -> _Known | None:
        for source in Source:
            if source in self._fresh and (gossip or source not in _GOSSIP):
                entry = self._fresh[source].pop()
                if entry is not None:
                    known = cast(_Known, entry)
                    known.fresh = False
                    return known
        return None

    def _leave_state(self, known: _Known) -> None:
        if known.state == _DIALING:
            self.dialing -= 1
            self._gossip_dialing -= known.source in _GOSSIP
        elif known.state == _CONNECTED:
            self.connected_count -= 1
        elif known.fresh:
            known.fresh = False
            self._fresh[known.source].forget(known)
        known.state = _WAITING

    def _forget(self, known: _Known) -> None:
        self._leave_state(known)
        known.ticket = -1
        del self._known[known.address]
        self._hopeless.pop(known.address, None)
        self._per_source[known.source] -= 1
        if known.group:
            self._per_host[known.group] -= 1
            if not self._per_host[known.group]:
                del self._per_host[known.group]
