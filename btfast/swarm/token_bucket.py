"""How many bytes may pass now under a cap of so many a second."""

from __future__ import annotations

BURST = 0.1  # seconds of the rate that may pass at once after a pause: 1 % of what passes in ten seconds


class TokenBucket:
    """`rate`: bytes a second. What was taken beyond what there was (a read that had begun) is paid back first."""

    __slots__ = ("_filled", "_tokens", "rate", "taken")

    def __init__(self, rate: float, now: float) -> None:
        self.rate = float(rate)
        self.taken = 0  # bytes so far
        self._tokens = 0.0
        self._filled = now

    def room(self, now: float) -> int:
        """Bytes that may pass now."""
        self._fill(now)
        return max(0, int(self._tokens))

    def take(self, count: int) -> None:
        """`count` bytes have passed."""
        self._tokens -= count
        self.taken += count

    def wait(self, now: float, count: int) -> float:
        """Seconds until `count` bytes may pass; no more is waited for than the bucket holds."""
        self._fill(now)
        return max(0.0, (min(count, self.rate * BURST) - self._tokens) / self.rate)

    def _fill(self, now: float) -> None:
        if now > self._filled:
            self._tokens = min(self._tokens + (now - self._filled) * self.rate, max(1.0, self.rate * BURST))
        self._filled = now
