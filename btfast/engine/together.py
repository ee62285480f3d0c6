"""Tasks: several things at once, which most often are one and need none of their own; and what becomes of one that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from btfast.errors import Error, bug


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


def tell(task: asyncio.Task[None], what: str, fail: Callable[[Error], None]) -> None:
    """The task has ended: what it has raised ends `what` it belongs to."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        fail(error if isinstance(error, Error) else bug(what, error))
