"""The caps of --max-up and --max-down: what may pass, of all torrents together and of each, shared out in turn.

A connection whose line has room sends and reads as it likes. When the room is used up it waits, and is handed some of
what comes in, each in its turn: blocks stay in the outbox; bytes stay in the socket, where TCP holds the sender back.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from btfast.swarm.token_bucket import TokenBucket

QUANTUM = 16 << 10  # bytes handed to a connection at least
LUMP = 128 << 10  # and at once where the cap is high, to few in each round: small sends cost both sides a wake-up each
LUMP_SECONDS = 0.02  # of the cap, where that is less
SOONEST = 0.01  # seconds between two rounds
LATEST = 0.25


class Waiter(Protocol):
    """A connection that was held back in one direction."""

    def go_on(self, line: Line, most: int) -> None:
        """So many bytes may pass now; calls `line.take`, and `line.wait` again if it has more."""


class Throttle:
    """One direction of the whole process. `rate`: bytes a second, 0: no cap."""

    def __init__(self, loop: asyncio.AbstractEventLoop, rate: int) -> None:
        self._loop = loop
        self._bucket = TokenBucket(rate, loop.time()) if rate else None
        self._hungry: dict[Line, None] = {}  # lines with somebody who waits, whose turn it is first
        self._timer: asyncio.TimerHandle | None = None

    def line(self, rate: int) -> Line | None:
        """One torrent's share, capped at `rate` as well; None when there is no cap at all."""
        if not rate and self._bucket is None:
            return None
        return Line(self, self._bucket, TokenBucket(rate, self._loop.time()) if rate else None)

    @property
    def busy(self) -> bool:
        """Whether anybody waits for what all lines share."""
        return self._bucket is not None and bool(self._hungry)

    def time(self) -> float:
        """The loop's clock."""
        return self._loop.time()

    def close(self) -> None:
        """No more turns."""
        self._hungry.clear()
        if self._timer is not None:
            self._timer.cancel()

    def handle_hungry(self, line: Line) -> None:
        """Somebody on the line waits."""
        self._hungry[line] = None
        if self._timer is None:
            self._start(self._loop.time())

    def _start(self, now: float) -> None:
        soonest = min(line.delay(now) for line in self._hungry)
        self._timer = self._loop.call_later(min(max(soonest, SOONEST), LATEST), self._share_out)

    def _share_out(self) -> None:
        now = self._loop.time()
        lines, self._hungry = list(self._hungry), {}
        for left, line in zip(range(len(lines), 0, -1), lines, strict=True):
            line.share_out(now, left)
            if line.waiting:
                self._hungry[line] = None
        if len(self._hungry) > 1:
            first = next(iter(self._hungry))
            del self._hungry[first]
            self._hungry[first] = None
        self._timer = None
        if self._hungry:
            self._start(now)


class Line:
    """One direction of one torrent."""

    __slots__ = ("_buckets", "_held", "_held_since", "_lump", "_shared", "_sharing", "_throttle", "waiting")

    def __init__(self, throttle: Throttle, shared: TokenBucket | None, own: TokenBucket | None) -> None:
        self._throttle = throttle
        self._shared = shared
        self._buckets = tuple(bucket for bucket in (shared, own) if bucket is not None)
        self._lump = max(QUANTUM, min(LUMP, int(min(bucket.rate for bucket in self._buckets) * LUMP_SECONDS)))
        self._sharing = False
        self._held = 0.0
        self._held_since: float | None = None
        self.waiting: dict[Waiter, None] = {}

    def room(self, now: float) -> int:
        """Bytes that may pass now without waiting: none while others wait."""
        if self.waiting or self._throttle.busy:
            return 0
        return min(bucket.room(now) for bucket in self._buckets)

    def take(self, count: int) -> None:
        """So many bytes have passed."""
        for bucket in self._buckets:
            bucket.take(count)

    def wait(self, waiter: Waiter) -> None:
        """Has `waiter` go on when it is its turn."""
        self.waiting[waiter] = None
        if self._held_since is None:
            self._held_since = self._throttle.time()
        if not self._sharing:
            self._throttle.handle_hungry(self)

    def forget(self, waiter: Waiter) -> None:
        self.waiting.pop(waiter, None)
        self._count_held(self._throttle.time())

    def held(self) -> float:
        """Seconds so far in which somebody waited."""
        since = self._held_since
        return self._held if since is None else self._held + self._throttle.time() - since

    def _count_held(self, now: float) -> None:
        if not self.waiting and self._held_since is not None:
            self._held += now - self._held_since
            self._held_since = None

    def delay(self, now: float) -> float:
        """Seconds until there is something worth sharing out."""
        return max(bucket.wait(now, self._lump) for bucket in self._buckets)

    def share_out(self, now: float, lines: int) -> None:
        """Hands out what there is to those who wait; `lines`: how many lines share the rest of this round."""
        room = min(bucket.room(now) for bucket in self._buckets)
        if self._shared is not None:
            room = min(room, max(QUANTUM, self._shared.room(now) // lines))
        self._sharing = True
        turn, self.waiting = self.waiting, {}
        try:
            while turn and room > 0:
                waiter = next(iter(turn))
                del turn[waiter]
                most = min(room, max(self._lump, room // (len(turn) + 1)))
                before = self._buckets[0].taken
                waiter.go_on(self, most)
                room -= self._buckets[0].taken - before
                if room < self._lump:
                    break
        finally:
            self._sharing = False
            self.waiting = {**turn, **self.waiting}
            self._count_held(now)
