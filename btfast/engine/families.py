"""A tracker hears of us over each address family that we share (BEP 7): that is how it learns both our addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from btfast.discovery.announce import AnnounceResponse, merged

OTHER_FAMILY_SECONDS = 2.0
REST_SECONDS = 1800.0
MAX_KNOWN = 1024


class Families:
    """Asks over every family and adds the answers up; one that fails where the other works is left alone for a while."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._known: dict[str, tuple[float, list[int]]] = {}

    def only(self, name: str) -> int | None:
        """The family that alone is worth asking over, as far as that is known."""
        known = self._known.get(name)
        if known is None or len(known[1]) != 1 or known[0] <= self._loop.time():
            return None
        return known[1][0]

    async def announce(
        self, name: str, find: Callable[[], Awaitable[list[int]]], ask: Callable[[int], Awaitable[AnnounceResponse]]
    ) -> AnnounceResponse:
        """`find` tells the families of the tracker `name`, `ask` announces over one. Raises what the first `ask` does."""
        known = self._known.get(name)
        if known is None or known[0] <= self._loop.time():
            known = self._remember(name, await find())
        families = known[1]
        if len(families) < 2:
            return await ask(families[0] if families else 0)
        return await self._announce_over(families, name, ask)

    def _remember(self, name: str, families: list[int]) -> tuple[float, list[int]]:
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        known = self._known[name] = (self._loop.time() + REST_SECONDS, families)
        return known

    async def _announce_over(
        self, families: list[int], name: str, ask: Callable[[int], Awaitable[AnnounceResponse]]
    ) -> AnnounceResponse:
        tasks = {asyncio.ensure_future(ask(family)): family for family in families}
        try:
            pending = set(tasks)
            good: list[AnnounceResponse] = []
            while pending:
                # Once one family has answered, the other has a little time left: broken IPv6 is common, and peers are
                # wanted now.
                done, pending = await asyncio.wait(
                    pending, timeout=OTHER_FAMILY_SECONDS if good else None, return_when=asyncio.FIRST_COMPLETED
                )
                good += [task.result() for task in done if not task.cancelled() and task.exception() is None]
                if not done:
                    break
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        worked = [family for task, family in tasks.items() if not task.cancelled() and task.exception() is None]
        if not worked:
            failures = [task.exception() for task in tasks if not task.cancelled()]
            raise next(failure for failure in failures if failure is not None)
        if len(worked) < len(families):
            self._remember(name, worked)
        return merged(good)
