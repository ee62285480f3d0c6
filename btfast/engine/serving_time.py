"""How long a complete torrent is served: until `--seed-ratio` or `--seed-time` says that it is enough."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from btfast.config import Settings

LOOK = 0.5  # seconds between two looks


class Process(Protocol):
    """What is needed of the Context."""

    loop: asyncio.AbstractEventLoop
    settings: Settings


async def serve_long_enough(context: Process, uploaded: Callable[[], int], size: int) -> None:
    """Returns when it was; never where neither is asked for.

    `uploaded()`: payload bytes in all runs, since a ratio is one of the torrent and not of a run; `size`: of what is wanted.
    The time is that of this run.
    """
    settings, began = context.settings, context.loop.time()
    if settings.seed_ratio is None and settings.seed_time is None:
        await context.loop.create_future()  # until it is removed
    while True:
        if settings.seed_time is not None and context.loop.time() - began >= settings.seed_time:
            return
        if settings.seed_ratio is not None and uploaded() >= settings.seed_ratio * size:
            return
        await asyncio.sleep(LOOK)
