"""The web servers that web seeds are fetched from, for all torrents of the process: connections, and politeness."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeVar

from btfast import __version__
from btfast.engine.http_hosts import Host, HttpHosts, Reached, reason_of
from btfast.errors import RemoteError
from btfast.metainfo.reach import Reach

PER_HOST = 16  # connections to one host by all torrents together, whatever its ports and paths
CONNECT_SECONDS = 15.0

P = TypeVar("P", bound=Reached)


class Holder(Protocol):
    """Who has a place at a host."""

    @property
    def idle(self) -> bool:
        """It does not need it now."""

    def give_way(self) -> None:
        """Leaves its place to another."""


class WebHosts:
    """One a network process."""

    def __init__(self, *, bind: str) -> None:
        self._hosts = HttpHosts(user_agent=f"btfast/{__version__}", bind=bind)
        self._holders: dict[str, dict[Holder, None]] = {}

    def locate(self, url: str, what: str) -> tuple[Host, str]:
        """The origin of a URL, and what to ask it for. InputError for a URL that is none."""
        return self._hosts.locate(url, what)

    def enter(self, host: Host, holder: Holder) -> bool:
        """Takes one of the host's places, from somebody who has no use for it if need be; False when there is none. Who got
        one must `leave`.
        """
        holders = self._holders.setdefault(_name(host), {})
        if len(holders) >= PER_HOST:
            idle = next((other for other in holders if other.idle), None)
            if idle is None:
                return False
            idle.give_way()
            holders = self._holders.setdefault(_name(host), {})
        holders[holder] = None
        return True

    def leave(self, host: Host, holder: Holder) -> None:
        name = _name(host)
        holders = self._holders[name]
        del holders[holder]
        if not holders:
            del self._holders[name]

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


def _name(host: Host) -> str:
    return host.name.lower().rstrip(".")
