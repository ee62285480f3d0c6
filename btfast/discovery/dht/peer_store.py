"""Peers that announced themselves to us (BEP 5), with the counts of BEP 33 and the samples of BEP 51."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from btfast.discovery.dht.bloom import make_filter
from btfast.discovery.dht.endpoints import Endpoint, host_key, is_v6

LIFE = 1860.0  # seconds; announces come every 15 to 30 minutes
MAX_HASHES = 10_000
MAX_PEERS = 2_000  # of one info-hash and one family
MAX_TOTAL = 100_000
MAX_OF_HOST = 10_000  # entries of one host: in a small private network one seeder announces all it has to one node
SAMPLES = 20  # info-hashes in one answer
SAMPLE_INTERVAL = 600  # seconds that samples stay the same; others are told not to ask again before
FILTER_LIFE = 30.0  # seconds that a filter is kept


class _Peer(NamedTuple):
    until: float
    seed: bool


class _Swarm:
    __slots__ = ("filters", "peers")

    def __init__(self) -> None:
        self.peers: tuple[OrderedDict[Endpoint, _Peer], OrderedDict[Endpoint, _Peer]] = (OrderedDict(), OrderedDict())
        self.filters: tuple[float, bytes, bytes] | None = None


class PeerStore:
    """`random(n)` gives n random bytes."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._swarms: OrderedDict[bytes, _Swarm] = OrderedDict()  # who was announced longest ago comes first
        self._of_host: dict[bytes, int] = {}
        self._total = 0
        self._samples: list[bytes] = []
        self._sampled = float("-inf")

    def __len__(self) -> int:
        """Peers."""
        return self._total

    @property
    def hashes(self) -> int:
        return len(self._swarms)

    def announce(self, info_hash: bytes, endpoint: Endpoint, now: float, *, seed: bool = False) -> bool:
        """Remembers a peer for LIFE. False when there is no room."""
        swarm = self._swarms.get(info_hash)
        known = swarm is not None and endpoint in swarm.peers[is_v6(endpoint)]
        if not known and not self._make_room(info_hash, endpoint, now):
            return False
        swarm = self._swarms.get(info_hash)  # room may have been made at its cost
        if swarm is None:
            swarm = self._swarms[info_hash] = _Swarm()
        peers = swarm.peers[is_v6(endpoint)]
        if endpoint not in peers:
            self._total += 1
            key = host_key(endpoint)
            self._of_host[key] = self._of_host.get(key, 0) + 1
        peers[endpoint] = _Peer(now + LIFE, seed)
        peers.move_to_end(endpoint)
        self._swarms.move_to_end(info_hash)
        return True

    def peers(self, info_hash: bytes, now: float, *, v6: bool, count: int, noseed: bool = False) -> list[Endpoint]:
        """Up to `count` of those announced, from a random place on."""
        swarm = self._swarms.get(info_hash)
        if swarm is None:
            return []
        self._expire_swarm(info_hash, swarm, now)
        found = [endpoint for endpoint, peer in swarm.peers[v6].items() if not (noseed and peer.seed)]
        if len(found) <= count:
            return found
        start = int.from_bytes(self._random(3), "big") % len(found)
        return (found[start:] + found[:start])[:count]

    def filters(self, info_hash: bytes, now: float) -> tuple[bytes, bytes] | None:
        """Of seeds, and of other peers (BEP 33); None for an info-hash that nobody announced."""
        swarm = self._swarms.get(info_hash)
        if swarm is None:
            return None
        if swarm.filters is None or not 0 <= now - swarm.filters[0] < FILTER_LIFE:
            self._expire_swarm(info_hash, swarm, now)
            hosts: tuple[set[bytes], set[bytes]] = (set(), set())
            for peers in swarm.peers:
                for endpoint, peer in peers.items():
                    hosts[peer.seed].add(endpoint[:-2])
            swarm.filters = (now, make_filter(hosts[True]), make_filter(hosts[False]))
        return swarm.filters[1], swarm.filters[2]

    def samples(self, now: float) -> tuple[int, list[bytes]]:
        """How many seconds these samples stay the same, and the info-hashes (BEP 51)."""
        age = now - self._sampled
        if not 0 <= age < SAMPLE_INTERVAL:
            hashes = list(self._swarms)
            for place in range(min(SAMPLES, len(hashes))):
                other = place + int.from_bytes(self._random(4), "big") % (len(hashes) - place)
                hashes[place], hashes[other] = hashes[other], hashes[place]
            self._samples, self._sampled, age = hashes[:SAMPLES], now, 0.0
        return int(SAMPLE_INTERVAL - age), self._samples

    def expire(self, now: float) -> None:
        """Forgets what is too old."""
        for info_hash, swarm in list(self._swarms.items()):
            self._expire_swarm(info_hash, swarm, now)

    def _make_room(self, info_hash: bytes, endpoint: Endpoint, now: float) -> bool:
        if self._of_host.get(host_key(endpoint), 0) >= MAX_OF_HOST:
            return False
        swarm = self._swarms.get(info_hash)
        if swarm is not None and len(swarm.peers[is_v6(endpoint)]) >= MAX_PEERS:
            self._expire_swarm(info_hash, swarm, now)
            swarm = self._swarms.get(info_hash)
            if swarm is not None and len(swarm.peers[is_v6(endpoint)]) >= MAX_PEERS:
                return False
        while self._total >= MAX_TOTAL or (info_hash not in self._swarms and len(self._swarms) >= MAX_HASHES):
            oldest = next(iter(self._swarms))
            for peers in self._swarms[oldest].peers:
                for gone in list(peers):
                    self._forget(peers, gone)
            del self._swarms[oldest]
        return True

    def _expire_swarm(self, info_hash: bytes, swarm: _Swarm, now: float) -> None:
        for peers in swarm.peers:
            while peers:
                endpoint, peer = next(iter(peers.items()))  # the oldest
                if peer.until > now:
                    break
                self._forget(peers, endpoint)
        if not swarm.peers[0] and not swarm.peers[1]:
            del self._swarms[info_hash]

    def _forget(self, peers: OrderedDict[Endpoint, _Peer], endpoint: Endpoint) -> None:
        del peers[endpoint]
        self._total -= 1
        key = host_key(endpoint)
        self._of_host[key] -= 1
        if not self._of_host[key]:
            del self._of_host[key]
