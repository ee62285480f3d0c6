"""How long a complete torrent is served: until `--seed-ratio` or `--seed-time` says that it is enough."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from btfast.config import Settings
from btfast.engine.flag import Flag


class Process(Protocol):
    """What is needed of the Context."""

    loop: asyncio.AbstractEventLoop
    settings: Settings


class ServingTime:
    """Begins when it is made.

    `uploaded()`: payload bytes in all runs, since a ratio is one of the torrent and not of a run; `size`: of what is wanted.
    The time is that of this run.
    """

    def __init__(self, context: Process, uploaded: Callable[[], int], size: int) -> None:
        self._settings = context.settings
        self._uploaded = uploaded
        self._size = size
        self._over = Flag()
        seconds = context.settings.seed_time
        self._timer = context.loop.call_later(seconds, self._over.set) if seconds is not None else None
        self.tick()

    def tick(self) -> None:
        """Once a second while anything may have been sent."""
        ratio = self._settings.seed_ratio
        if ratio is not None and self._uploaded() >= ratio * self._size:
            self._over.set()

    async def enough(self) -> None:
        """Returns when it was; never where neither is asked for."""
        try:
            await self._over.wait()
        finally:
            if self._timer is not None:
                self._timer.cancel()
