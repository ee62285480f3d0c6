"""Bytes a second over a moving window."""

from __future__ import annotations

_BUCKETS = 8


class Rate:
    """Mean rate over about the last `window` seconds; costs one addition a call while a bucket lasts."""

    __slots__ = ("_bucket", "_first", "_ring", "_sum", "_width", "total")

    total: int

    def __init__(self, now: float, *, window: float = 4.0) -> None:
        self._width = window / _BUCKETS
        self._first = now
        self._bucket = int(now / self._width)
        self._ring = [0] * _BUCKETS
        self._sum = 0
        self.total = 0

    def add(self, now: float, count: int) -> None:
        """`count` bytes passed at `now`; time never runs backwards."""
        bucket = int(now / self._width)
        if bucket != self._bucket:
            self._advance(bucket)
        self._ring[bucket % _BUCKETS] += count
        self._sum += count
        self.total += count

    def value(self, now: float) -> float:
        """Bytes a second; measured over what has passed when that is less than the window."""
        bucket = int(now / self._width)
        if bucket != self._bucket:
            self._advance(bucket)
        # The oldest bucket has just been emptied, so the ring covers the full ones and a part of the current one.
        covered = (_BUCKETS - 1) * self._width + (now - bucket * self._width)
        return self._sum / max(min(covered, now - self._first), self._width / 2)

    def _advance(self, bucket: int) -> None:
        steps = bucket - self._bucket
        if steps <= 0:
            return
        if steps >= _BUCKETS:
            self._ring = [0] * _BUCKETS
            self._sum = 0
        else:
            for place in range(self._bucket + 1, bucket + 1):
                self._sum -= self._ring[place % _BUCKETS]
                self._ring[place % _BUCKETS] = 0
        self._bucket = bucket
