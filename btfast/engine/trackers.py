"""All trackers of the process: which of the two kinds is meant is in a URL's scheme."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from btfast.discovery.announce import AnnounceRequest, AnnounceResponse, ScrapedSwarm
from btfast.engine.fetch import MAX_TORRENT
from btfast.engine.http_tracker import TIMEOUT, HttpTrackers
from btfast.engine.resolve import Resolver
from btfast.engine.udp import UdpSockets
from btfast.metainfo.reach import Way

if TYPE_CHECKING:
    from btfast.engine.udp_tracker import UdpTrackers

MAX_MENTIONED = 100


class Trackers:
    """Announces, scrapes and fetches; both kinds are made when they are first needed."""

    def __init__(self, sockets: UdpSockets, resolver: Resolver, bind: str = "") -> None:
        self._sockets = sockets
        self._resolver = resolver
        self._http = HttpTrackers(bind=bind)
        self._udp: UdpTrackers | None = None
        self._mentioned: set[str] = set()

    def first_mention(self, name: str) -> bool:
        """Whether this is the first torrent of the process that names a tracker of a kind that cannot be asked."""
        if name in self._mentioned or len(self._mentioned) >= MAX_MENTIONED:
            return False
        self._mentioned.add(name)
        return True

    async def announce(self, url: str, request: AnnounceRequest, *, patience: float | None = None) -> AnnounceResponse:
        """Announce once. A failure reason is an answer; RemoteError when there is none that can be read.

        `patience`: seconds in which the answer has to come, if not as long as is usual.
        """
        if _is_udp(url):
            return await self._open_udp().announce(url, request, patience=patience)
        return await self._http.announce(url, request, timeout=patience or TIMEOUT)

    async def scrape(self, url: str, info_hashes: Sequence[bytes]) -> dict[bytes, ScrapedSwarm]:
        """How swarms stand (BEP 48), by the announce URL of their tracker. What it does not know is left out."""
        if _is_udp(url):
            return await self._open_udp().scrape(url, info_hashes)
        return await self._http.scrape(url, info_hashes)

    async def fetch(
        self, url: str, *, limit: int = MAX_TORRENT, enough: Callable[[bytes], bool] | None = None, way: Way | None = None
    ) -> bytes:
        """A file over HTTP: see `btfast.engine.fetch.fetch`."""
        return await self._http.fetch(url, limit=limit, enough=enough, way=way)

    async def length_of(self, url: str, *, way: Way | None = None) -> int | None:
        """How many bytes a file over HTTP has: see `btfast.engine.fetch.length_of`."""
        return await self._http.length_of(url, way=way)

    async def close(self) -> None:
        """Give up what is under way."""
        if self._udp is not None:
            self._udp.close()
        await self._http.close()

    def _open_udp(self) -> UdpTrackers:
        if self._udp is None:
            # Imported here: a download without UDP trackers does not pay for them.
            from btfast.engine.udp_tracker import UdpTrackers

            self._udp = UdpTrackers(self._sockets, self._resolver)
        return self._udp


def _is_udp(url: str) -> bool:
    return url[:4].lower() == "udp:"
