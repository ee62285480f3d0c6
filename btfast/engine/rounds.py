"""Who is looked after each second, and who rests: who rests costs nothing."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T")
_SPARE = 64  # void entries, beyond as many as rest


class Rounds(Generic[T]):
    """Each is awake, or rests until a time or until it is woken."""

    def __init__(self) -> None:
        self._awake: dict[T, None] = {}
        self._resting: dict[T, float] = {}
        self._queue: list[tuple[float, int, T]] = []  # one whose time is not the one in `_resting` is void
        self._tickets = 0

    def add(self, who: T) -> None:
        """It begins awake."""
        self._awake[who] = None

    def remove(self, who: T) -> None:
        self._awake.pop(who, None)
        self._resting.pop(who, None)

    def wake(self, who: T) -> None:
        """Something has happened to it. Those who are not there any more are not woken."""
        if self._resting.pop(who, None) is not None:
            self._awake[who] = None

    def rest(self, who: T, until: float) -> None:
        """There is nothing to do for it before `until`, which may be infinite."""
        if who not in self._awake:
            return
        del self._awake[who]
        self._resting[who] = until
        if until != float("inf"):
            self._tickets += 1
            heappush(self._queue, (until, self._tickets, who))
            if len(self._queue) > 2 * len(self._resting) + _SPARE:
                self._queue = [entry for entry in self._queue if self._resting.get(entry[2]) == entry[0]]
                heapify(self._queue)

    def awake(self, now: float) -> list[T]:
        """All who are to be looked after now."""
        while self._queue and self._queue[0][0] <= now:
            until, _, who = heappop(self._queue)
            if self._resting.get(who) == until:
                self.wake(who)
        return list(self._awake)
