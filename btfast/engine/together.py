"""Waiting for several things at once, which most often are one: that needs no task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any


async def together(parts: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Returns when all have ended; raises as asyncio.gather does."""
    if len(parts) == 1:
        await parts[0]
    elif parts:
        await asyncio.gather(*parts)


async def end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancels them, and returns when all have ended, whatever came of them."""
    if tasks:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
