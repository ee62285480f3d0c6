"""The web servers that web seeds are fetched from, for all torrents of the process: connections, and politeness."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from btfast import __version__
from btfast.engine.http_hosts import Host, HttpHosts, Reached, reason_of
from btfast.errors import RemoteError
from btfast.metainfo.reach import Reach

PER_HOST = 16  # connections to one server by all torrents together
CONNECT_SECONDS = 15.0

P = TypeVar("P", bound=Reached)


class WebHosts:
    """One a network process."""

    def __init__(self, *, bind: str) -> None:
        self._hosts = HttpHosts(user_agent=f"btfast/{__version__}", bind=bind)
        self._taken: Counter[tuple[str, int]] = Counter()

    def locate(self, url: str, what: str) -> tuple[Host, str]:
        """The origin of a URL, and what to ask it for. InputError for a URL that is none."""
        return self._hosts.locate(url, what)

    def enter(self, host: Host) -> bool:
        """Takes one of the host's places; False when there is none free. Who got one must `leave`."""
        place = host.name, host.port
        if self._taken[place] >= PER_HOST:
            return False
        self._taken[place] += 1
        return True

    def leave(self, host: Host) -> None:
        place = host.name, host.port
        self._taken[place] -= 1
        if self._taken[place] <= 0:
            del self._taken[place]

    async def connect(self, host: Host, before: Reach | None, make: Callable[[], P]) -> P:
        """A connection, in one of the host's places. RemoteError with the bare reason. `before`: how near who led here is."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await self._hosts.connect(host, "", before, make)
        except TimeoutError:
            raise RemoteError("cannot be reached (no answer to the connection): try again later") from None
        except RemoteError as error:
            raise RemoteError(str(error).removeprefix(": ")) from None
        except OSError as error:
            raise RemoteError(reason_of(error)) from None

    def close(self) -> None:
        self._hosts.close()
