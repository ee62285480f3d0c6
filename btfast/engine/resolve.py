"""Host names to addresses, remembered for a minute and asked for once however many wait."""

from __future__ import annotations

import asyncio
import socket
from typing import NamedTuple

from btfast.errors import RemoteError

REMEMBERED_SECONDS = 60.0
MAX_NAMES = 1024
MAX_ADDRESSES = 8


class Address(NamedTuple):
    """An address family (socket.AF_INET, AF_INET6) and a literal address of it."""

    family: int
    host: str


def literal(host: str) -> Address | None:
    """The address that `host` already is, in its usual spelling, or None for a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            packed = socket.inet_pton(family, host)
        except OSError:
            continue
        return Address(family, socket.inet_ntop(family, packed))
    return None


class Resolver:
    """Remembers what names resolve to. Concurrent questions for one name share one look-up."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._known: dict[str, tuple[float, tuple[Address, ...]]] = {}
        self._asking: dict[str, asyncio.Task[tuple[Address, ...]]] = {}

    async def resolve(self, host: str, what: str) -> tuple[Address, ...]:
        """The addresses of a host in the system's order of preference. RemoteError when there are none."""
        address = literal(host)
        if address is not None:
            return (address,)
        known = self._known.get(host)
        if known is not None and known[0] > self._loop.time():
            return known[1]
        task = self._asking.get(host)
        if task is None:
            task = self._asking[host] = self._loop.create_task(self._ask(host))
            task.add_done_callback(lambda done: self._asked(host, done))
        try:
            addresses = await asyncio.shield(task)
        except (OSError, UnicodeError):
            addresses = ()
        if not addresses:
            raise RemoteError(
                f"{what}: host name {host!r} cannot be resolved: check it, or the network", what=what, host=host
            )
        return addresses

    async def _ask(self, host: str) -> tuple[Address, ...]:
        found = await self._loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        addresses = tuple(
            dict.fromkeys(
                Address(family, str(sockaddr[0]))
                for family, _, _, _, sockaddr in found
                if family in (socket.AF_INET, socket.AF_INET6)
            )
        )[:MAX_ADDRESSES]
        if len(self._known) >= MAX_NAMES:
            self._known.clear()
        self._known[host] = (self._loop.time() + REMEMBERED_SECONDS, addresses)
        return addresses

    def _asked(self, host: str, task: asyncio.Task[tuple[Address, ...]]) -> None:
        del self._asking[host]
        if not task.cancelled():
            task.exception()  # nobody may be left to hear of it

    def close(self) -> None:
        """Give up what is being asked."""
        for task in self._asking.values():
            task.cancel()
