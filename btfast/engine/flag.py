"""Something that comes true once, or again: asyncio.Event without the 600 bytes that one takes while nobody waits."""

from __future__ import annotations

import asyncio


class Flag:
    """Many torrents have several each."""

    __slots__ = ("_set", "_waiting")

    def __init__(self) -> None:
        self._set = False
        self._waiting: tuple[asyncio.Future[None], ...] = ()

    def set(self) -> None:
        """All who wait go on."""
        self._set = True
        waiting, self._waiting = self._waiting, ()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def clear(self) -> None:
        self._set = False

    async def wait(self) -> None:
        """Returns when it is set, or was meanwhile."""
        if not self._set:
            future = asyncio.get_running_loop().create_future()
            self._waiting = (*(other for other in self._waiting if not other.done()), future)
            await future
