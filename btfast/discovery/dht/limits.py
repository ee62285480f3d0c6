"""How much strangers may make us do: packets and bytes a host, and all together.

Addresses of datagrams can be forged. What we send to one host that never answered anything stays below what a line
notices, so that nobody can use us to flood another.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from btfast.discovery.dht.endpoints import Endpoint, host_key, is_public

MAX_HOSTS = 4096
AWAITED = 0.1  # of a packet: what one counts for from a host that owes us an answer


class Bucket:
    """A token bucket: `rate` a second, at most `burst` at once."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._at = now

    def _refill(self, now: float) -> None:
        self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._rate)
        self._at = now

    def take(self, amount: float, now: float) -> bool:
        """Takes it if it is there."""
        self._refill(now)
        if self._left < amount:
            return False
        self._left -= amount
        return True

    def spend(self, amount: float, now: float) -> None:
        """Takes it, on credit where it is not there."""
        self._refill(now)
        self._left -= amount

    def when(self, amount: float, now: float) -> float:
        """When that much will be there."""
        self._refill(now)
        return now + max(0.0, amount - self._left) / self._rate


class HostBuckets:
    """One bucket a host, for the last MAX_HOSTS hosts."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._hosts: OrderedDict[bytes, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._hosts)

    def take(self, host: bytes, amount: float, now: float) -> bool:
        """Takes it from the host's bucket if it is there."""
        bucket = self._hosts.get(host)
        if bucket is None:
            if len(self._hosts) >= MAX_HOSTS:
                self._hosts.popitem(last=False)
            bucket = self._hosts[host] = Bucket(self._rate, self._burst, now)
        else:
            self._hosts.move_to_end(host)
        return bucket.take(amount, now)


class Limits(NamedTuple):
    """Per second, and at once. A host on the open internet; then all together."""

    host_packets: tuple[float, float] = (10.0, 100.0)  # looked at
    host_bytes: tuple[float, float] = (4096.0, 32768.0)  # answered
    host_questions: tuple[float, float] = (20.0, 100.0)
    packets: tuple[float, float] = (3000.0, 6000.0)
    bytes: tuple[float, float] = (1e6, 2e6)
    questions: tuple[float, float] = (300.0, 600.0)


class Guard:
    """What of the limits is left. Hosts of a private network count towards the totals only: no stranger can be one."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._host_packets = HostBuckets(*limits.host_packets)
        self._host_bytes = HostBuckets(*limits.host_bytes)
        self._host_questions = HostBuckets(*limits.host_questions)
        self._packets = Bucket(*limits.packets, now)
        self._bytes = Bucket(*limits.bytes, now)
        self._questions = Bucket(*limits.questions, now)

    def may_enter(self, endpoint: Endpoint, now: float, *, awaited: bool) -> bool:
        """Whether a packet is looked at; an answer of this host's is `awaited`, so that a flood of others' can't drown it."""
        weight = AWAITED if awaited else 1.0
        if is_public(endpoint[:-2]) and not self._host_packets.take(host_key(endpoint), weight, now):
            return False
        return awaited or self._packets.take(1, now)

    def may_answer(self, endpoint: Endpoint, size: int, now: float) -> bool:
        """Whether an answer of that many bytes may leave."""
        if is_public(endpoint[:-2]) and not self._host_bytes.take(host_key(endpoint), size, now):
            return False
        return self._bytes.take(size, now)

    def may_ask(self, endpoint: Endpoint, now: float) -> bool:
        """Whether this host may be asked something; where it may, the totals are charged."""
        if is_public(endpoint[:-2]) and not self._host_questions.take(host_key(endpoint), 1, now):
            return False
        self._questions.spend(1, now)
        return True

    def questions_at(self, count: int, now: float) -> float:
        """When that many questions may leave."""
        return self._questions.when(count, now)
