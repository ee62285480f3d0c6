"""What is done to files that are there before anything may be written: names taken back, shares of kept pieces given out."""

from __future__ import annotations

import asyncio

from btfast.engine.finishing import Finishing
from btfast.engine.selected import Selected


async def prepare(finishing: Finishing, selected: Selected, restore: list[int], done: asyncio.Future[None]) -> bool:
    """Returns when files may be written. False: something was refused, and `done` has the reason."""
    if not finishing.demoting and not restore:
        return True

    async def both() -> None:
        await finishing.demoted()
        await selected.restore(restore)

    preparing = asyncio.ensure_future(both())
    try:
        await asyncio.wait((preparing, done), return_when=asyncio.FIRST_COMPLETED)
        if not preparing.done():
            return False
        preparing.result()
    finally:
        preparing.cancel()
    return True
