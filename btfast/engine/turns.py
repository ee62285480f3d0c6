"""What the key exchanges of those who connect to us may cost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

KEYS_PER_SECOND = 250.0  # key exchanges: about 0.8 ms each, so a fifth of a core
KEYS_AT_ONCE = 50.0
TURN = 0.02  # seconds between looks at who waits


class KeyTurns:
    """Who has connected to us and wants a key exchange gets it in turn, so many a second."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[Callable[[], None], None] = {}  # in the order in which they came
        self._credit = KEYS_AT_ONCE
        self._at = loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, who: Callable[[], None]) -> None:
        """Calls `who` when it is its turn, perhaps at once. The caller bounds how many wait."""
        self._waiting[who] = None
        if self._timer is None:
            self._serve()

    def forget(self, who: Callable[[], None]) -> None:
        """It wants no turn any more: nobody waits behind those who have gone."""
        self._waiting.pop(who, None)

    def _serve(self) -> None:
        now = self._loop.time()
        self._credit = min(KEYS_AT_ONCE, self._credit + (now - self._at) * KEYS_PER_SECOND)
        self._at = now
        while self._waiting and self._credit >= 1:
            self._credit -= 1
            who = next(iter(self._waiting))
            del self._waiting[who]
            who()
        self._timer = self._loop.call_later(TURN, self._serve) if self._waiting else None

    def close(self) -> None:
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
