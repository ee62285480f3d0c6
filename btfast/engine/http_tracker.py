"""HTTP trackers on the network: one object announces for all torrents of a process (BEP 3, 7, 24, 31)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from btfast import __version__
from btfast.discovery.announce import (
    LONGEST_RETRY,
    AnnounceRequest,
    AnnounceResponse,
    ScrapedSwarm,
    announce_url,
    parse_announce,
    parse_scrape,
    printable,
    scrape_query,
    scrape_url,
    tracker_name,
)
from btfast.engine.families import Families
from btfast.engine.fetch import MAX_TORRENT, fetch, length_of
from btfast.engine.fetch import TIMEOUT as FETCH_TIMEOUT
from btfast.errors import RemoteError
from btfast.metainfo.reach import Way

if TYPE_CHECKING:
    from btfast.engine.http_client import HttpClient
    from btfast.engine.http_connection import Response

MAX_BODY = 2 << 20
TIMEOUT = 15.0


class HttpTrackers:
    """Announces to http and https trackers. Use inside one running loop; `close` when done.

    A tracker whose host has IPv4 and IPv6 addresses hears of us over both: see `Families`.
    """

    def __init__(
        self, client: HttpClient | None = None, *, user_agent: str = f"btfast/{__version__}", bind: str = ""
    ) -> None:
        self._client = client
        self._own_client = client is None
        self._user_agent = user_agent
        self._bind = bind
        self._families = Families(asyncio.get_running_loop())

    async def announce(self, url: str, request: AnnounceRequest, *, timeout: float = TIMEOUT) -> AnnounceResponse:  # noqa: ASYNC109
        """Announce once. A failure reason is an answer, not an error.

        Raises RemoteError, one line that names the tracker by scheme, host and port (its path may hold a passkey),
        when there is no answer that can be read; its fact `retry_in`, seconds, is there when the server said when to
        come back.
        """
        client = self._open()
        name = f"tracker {tracker_name(url)}"
        full = announce_url(url, request)
        if (family := self._families.only(name)) is not None:
            return await _announce(client, full, request, name, timeout, family)
        return await self._families.announce(
            name,
            lambda: client.families(url, what=name),
            lambda family: _announce(client, full, request, name, timeout, family),
        )

    async def scrape(self, url: str, info_hashes: Sequence[bytes], *, timeout: float = TIMEOUT) -> dict[bytes, ScrapedSwarm]:  # noqa: ASYNC109
        """How swarms stand (BEP 48), by the announce URL of their tracker; what it does not know is left out.

        Raises RemoteError, also when the tracker refuses or its URL leads to no scrape.
        """
        name = f"tracker {tracker_name(url)}"
        base = scrape_url(url)
        if base is None:
            raise RemoteError(f"{name}: cannot be asked how swarms stand: its URL does not end in /announce", tracker=name)
        full = scrape_query(base, info_hashes)
        response = await self._open().fetch(full, what=name, limit=MAX_BODY, timeout=timeout)
        if response.status != 200 and not response.body.startswith(b"d"):
            raise _status_error(response, name)
        return parse_scrape(response.body, info_hashes, tracker=name)

    async def fetch(
        self, url: str, *, limit: int = MAX_TORRENT, timeout: float = FETCH_TIMEOUT,  # noqa: ASYNC109
        enough: Callable[[bytes], bool] | None = None, way: Way | None = None,
    ) -> bytes:  # fmt: skip
        """A file over HTTP on the same connections: see `btfast.engine.fetch.fetch`."""
        return await fetch(self._open(), url, limit=limit, timeout=timeout, enough=enough, way=way)

    async def length_of(self, url: str, *, way: Way | None = None) -> int | None:
        """How many bytes a file over HTTP has: see `btfast.engine.fetch.length_of`."""
        return await length_of(self._open(), url, way=way)

    async def close(self) -> None:
        """Close every connection."""
        client, self._client = self._client, None
        if client is not None and self._own_client:
            await client.close()

    def _open(self) -> HttpClient:
        if self._client is None:
            # Imported here: a download without HTTP trackers does not pay for the HTTP parser.
            from btfast.engine.http_client import HttpClient

            self._client = HttpClient(user_agent=self._user_agent, bind=self._bind)
        return self._client


async def _announce(
    client: HttpClient,
    full: str,
    request: AnnounceRequest,
    name: str,
    seconds: float,
    family: int,
) -> AnnounceResponse:
    urgent = request.event is not None
    response = await client.fetch(full, what=name, limit=MAX_BODY, timeout=seconds, family=family, urgent=urgent)
    if response.status == 200 and request.event == "stopped":
        return AnnounceResponse()  # what is said to a goodbye interests nobody
    if response.status == 200:
        return parse_announce(response.body, tracker=name, own_peer_id=request.peer_id)
    if response.body.startswith(b"d"):
        try:
            answer = parse_announce(response.body, tracker=name)
        except RemoteError:
            raise _status_error(response, name) from None
        if answer.failure_reason is not None:
            return answer
    raise _status_error(response, name)


def _status_error(response: Response, name: str) -> RemoteError:
    status = response.status
    what_to_do = "try again later" if status >= 500 or status == 429 else "check the tracker's URL"
    facts: dict[str, object] = {"status": status}
    seconds = response.headers.get(b"retry-after", b"").strip()
    if seconds.isdigit() and len(seconds) < 10:
        facts["retry_in"] = min(max(float(seconds), 1.0), LONGEST_RETRY)
    return RemoteError(f"{name}: HTTP {status} {printable(response.reason)[:60]}".rstrip() + f": {what_to_do}", **facts)
