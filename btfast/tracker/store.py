"""The embedded tracker's memory: swarms and their peers. No socket, no clock: `now` comes in, in seconds.

A swarm keeps its peers in the order of their last announce, so that what expired is at the front, and in four lists
(seeds and leechers, IPv4 and IPv6) from which random peers are drawn without walking the swarm. Every size has a
limit, and a full tracker refuses newcomers instead of growing.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple, Protocol

import msgspec

from btfast.errors import RemoteError


class Rng(Protocol):
    """What is needed of a random source."""

    def randrange(self, start: int, /) -> int: ...


_LOOPBACK6 = bytes(15) + b"\1"
SEEDS_FOR_SEEDS = 3  # aria2 says that nothing is left while it has no metadata yet: it needs a seed to get it from


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much is kept and given. `expiry` in seconds: a peer that did not announce for so long is forgotten."""

    swarms: int = 100_000
    peers: int = 1_000_000
    per_host: int = 200_000  # of them, from one IPv4 address or IPv6 /64: a seed of every torrent, not all the room there is
    numwant: int = 50
    most_numwant: int = 200
    expiry: float = 3900.0


class Announced(NamedTuple):
    """The answer to an announce. A peer is its compact address (6 bytes, BEP 23; 18 bytes, BEP 7) and its peer id."""

    peers: list[tuple[bytes, bytes]]
    complete: int
    incomplete: int
    downloaded: int


class Scraped(NamedTuple):
    """Seeds, completed downloads, leechers (BEP 48)."""

    complete: int
    downloaded: int
    incomplete: int


class _Peer:
    __slots__ = ("compact", "peer_id", "place", "pool", "seen")

    def __init__(self, compact: bytes) -> None:
        self.compact = compact
        self.peer_id = b""
        self.seen = 0.0
        self.pool: list[_Peer] = []
        self.place = -1


class _Swarm:
    __slots__ = ("downloaded", "leechers", "leechers6", "peers", "seeds", "seeds6", "seen")

    def __init__(self) -> None:
        self.peers: OrderedDict[bytes, _Peer] = OrderedDict()
        self.seeds: list[_Peer] = []
        self.leechers: list[_Peer] = []
        self.seeds6: list[_Peer] = []
        self.leechers6: list[_Peer] = []
        self.downloaded = 0
        self.seen = 0.0

    @property
    def complete(self) -> int:
        return len(self.seeds) + len(self.seeds6)

    @property
    def incomplete(self) -> int:
        return len(self.leechers) + len(self.leechers6)

    def is_seed(self, peer: _Peer) -> bool:
        return peer.pool is self.seeds or peer.pool is self.seeds6

    def place(self, peer: _Peer, *, seed: bool) -> None:
        seeds, leechers = (self.seeds, self.leechers) if len(peer.compact) == 6 else (self.seeds6, self.leechers6)
        pool = seeds if seed else leechers
        if peer.place >= 0:
            if peer.pool is pool:
                return
            self._unplace(peer)
        peer.pool = pool
        peer.place = len(pool)
        pool.append(peer)

    def remove(self, peer: _Peer) -> None:
        del self.peers[peer.compact]
        self._unplace(peer)

    @staticmethod
    def _unplace(peer: _Peer) -> None:
        """Take a peer out of its list in constant time: the last one moves to its place."""
        last = peer.pool.pop()
        if last is not peer:
            peer.pool[peer.place] = last
            last.place = peer.place
        peer.place = -1


class TrackerStore:
    """All swarms of a tracker."""

    def __init__(self, rng: Rng, limits: Limits | None = None) -> None:
        self._rng = rng
        self._limits = limits if limits is not None else Limits()
        self._swarms: OrderedDict[bytes, _Swarm] = OrderedDict()
        self._count = 0
        self._per_host: dict[bytes, int] = {}  # an address of 4 bytes, or the first 8 of 16: peers from there

    @property
    def swarms(self) -> int:
        """How many torrents are known."""
        return len(self._swarms)

    @property
    def peers(self) -> int:
        """How many peers are known, over all torrents; those that expired may still be counted."""
        return self._count

    def announce(
        self,
        now: float,
        info_hash: bytes,
        compact: bytes,
        peer_id: bytes,
        *,
        left: int,
        event: str | None,
        numwant: int | None = None,
        same_family: bool = False,
    ) -> Announced:
        """A peer at `compact` (address and port, 6 or 18 bytes) says where it stands; returns others to connect to.

        The peer itself is never among them (nor its other address, told by the peer id), a seed is given few seeds, and
        a peer that stopped gets none. `same_family`: only those whose address is of the same kind.
        Raises RemoteError when the tracker is full.
        """
        self._expire(now)
        swarm = self._swarms.get(info_hash)
        if swarm is None:
            if event == "stopped":
                return Announced([], 0, 0, 0)
            if len(self._swarms) >= self._limits.swarms:
                raise RemoteError("tracker: full, no more torrents are taken: try again later")
            swarm = self._swarms[info_hash] = _Swarm()
        self._expire_peers(swarm, now)
        swarm.seen = now
        self._swarms.move_to_end(info_hash)
        peer = swarm.peers.get(compact)
        if event == "stopped":
            if peer is not None:
                self._remove(swarm, peer)
            return Announced([], swarm.complete, swarm.incomplete, swarm.downloaded)
        if peer is None:
            if self._count >= self._limits.peers:
                raise RemoteError("tracker: full, no more peers are taken: try again later")
            host = _host_of(compact)
            from_there = self._per_host.get(host, 0)
            if from_there >= self._limits.per_host and not _is_loopback(compact):
                raise RemoteError("tracker: too many peers from one host: try again later")
            self._per_host[host] = from_there + 1
            peer = swarm.peers[compact] = _Peer(compact)
            self._count += 1
        elif event == "completed" and left == 0 and not swarm.is_seed(peer):
            swarm.downloaded += 1
        swarm.peers.move_to_end(compact)
        peer.peer_id = peer_id
        peer.seen = now
        swarm.place(peer, seed=left == 0)
        limits = self._limits
        wanted = limits.numwant if numwant is None or numwant < 0 else min(numwant, limits.most_numwant)
        return self._answer(swarm, peer, seed=left == 0, wanted=wanted, same_family=same_family)

    def scrape(self, now: float, info_hash: bytes) -> Scraped | None:
        """How a swarm stands, None when it is not known."""
        self._expire(now)
        swarm = self._swarms.get(info_hash)
        if swarm is None:
            return None
        self._expire_peers(swarm, now)
        return Scraped(swarm.complete, swarm.downloaded, swarm.incomplete)

    def info_hashes(self) -> list[bytes]:
        """The torrents that are known."""
        return list(self._swarms)

    def _answer(self, swarm: _Swarm, peer: _Peer, *, seed: bool, wanted: int, same_family: bool) -> Announced:
        v6 = len(peer.compact) == 18
        # The peer's own address family first: it can surely be reached.
        pools = [swarm.leechers6, swarm.leechers] if v6 else [swarm.leechers, swarm.leechers6]
        if not seed:
            pools = [swarm.seeds6, *pools] if v6 else [swarm.seeds, *pools]
            pools.append(swarm.seeds if v6 else swarm.seeds6)
        own = 2 if not seed else 1
        chosen = self._draw(pools[:own], peer, wanted)
        if len(chosen) < wanted and not same_family:
            chosen += self._draw(pools[own:], peer, wanted - len(chosen))
        if seed:
            chosen += self._draw([swarm.seeds6 if v6 else swarm.seeds], peer, min(SEEDS_FOR_SEEDS, wanted - len(chosen)))
        return Announced(
            [(other.compact, other.peer_id) for other in chosen],
            swarm.complete,
            swarm.incomplete,
            swarm.downloaded,
        )

    def _draw(self, pools: list[list[_Peer]], asking: _Peer, wanted: int) -> list[_Peer]:
        """Up to `wanted` random peers of the pools, without the one that asks."""
        total = sum([len(pool) for pool in pools])
        if not total or wanted <= 0:
            return []
        if total <= wanted + 1:
            chosen = [peer for pool in pools for peer in pool]
        else:
            chosen = []
            passed = 0
            chance = self._rng.randrange(total)  # it rounds the shares, so that the few seeds of a swarm have their turn
            for pool in pools:
                passed += len(pool)
                share = ((wanted + 1) * passed + chance) // total - len(chosen)
                if share:
                    chosen += self._spread(pool, share)
        return [peer for peer in chosen if peer is not asking and peer.peer_id != asking.peer_id][:wanted]

    def _spread(self, pool: list[_Peer], count: int) -> list[_Peer]:
        """So many different ones: from a random place at a random distance from one to the next, round the list."""
        size = len(pool)
        step = 1 + self._rng.randrange(size // count)
        start = self._rng.randrange(size)
        chosen = pool[start : start + step * count : step]
        lacking = count - len(chosen)
        if lacking:
            again = start + step * len(chosen) - size
            chosen += pool[again : again + step * lacking : step]
        return chosen

    def _remove(self, swarm: _Swarm, peer: _Peer) -> None:
        swarm.remove(peer)
        self._forget(peer)

    def _forget(self, peer: _Peer) -> None:
        self._count -= 1
        host = _host_of(peer.compact)
        left = self._per_host[host] - 1
        if left:
            self._per_host[host] = left
        else:
            del self._per_host[host]

    def _expire_peers(self, swarm: _Swarm, now: float) -> None:
        oldest = now - self._limits.expiry
        while swarm.peers:
            peer = next(iter(swarm.peers.values()))
            if peer.seen > oldest:
                return
            self._remove(swarm, peer)

    def _expire(self, now: float) -> None:
        """Forget swarms that nobody announced to for long: they come first."""
        oldest = now - self._limits.expiry
        while self._swarms:
            swarm = next(iter(self._swarms.values()))
            if swarm.seen > oldest:
                return
            self._swarms.popitem(last=False)
            for peer in swarm.peers.values():
                self._forget(peer)


def _host_of(compact: bytes) -> bytes:
    """What one host has: its IPv4 address, or the /64 of its IPv6 address."""
    return compact[:4] if len(compact) == 6 else compact[:8]


def _is_loopback(compact: bytes) -> bool:
    """This machine itself, where a whole laboratory may stand."""
    return compact[0] == 127 if len(compact) == 6 else compact[:16] == _LOOPBACK6
