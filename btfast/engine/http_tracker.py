"""HTTP trackers on the network: one object announces for all torrents of a process (BEP 3, 7, 24, 31)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from btfast import __version__
from btfast.discovery.announce import (
    LONGEST_RETRY,
    AnnounceRequest,
    AnnounceResponse,
    announce_url,
    parse_announce,
    printable,
    tracker_name,
)
from btfast.engine.fetch import MAX_TORRENT, fetch
from btfast.engine.fetch import TIMEOUT as FETCH_TIMEOUT
from btfast.errors import RemoteError

if TYPE_CHECKING:
    from btfast.engine.http_client import HttpClient
    from btfast.engine.http_connection import Response

MAX_BODY = 2 << 20
TIMEOUT = 15.0
OTHER_FAMILY_SECONDS = 2.0
FAMILY_REST_SECONDS = 1800.0


class HttpTrackers:
    """Announces to http and https trackers. Use inside one running loop; `close` when done.

    A tracker whose host has IPv4 and IPv6 addresses hears of us over both (BEP 7): that is how it learns both of
    ours. The answer is the sum of the two; a family that fails where the other works is left alone for half an hour.
    """

    def __init__(self, client: HttpClient | None = None, *, user_agent: str = f"btfast/{__version__}") -> None:
        self._client = client
        self._own_client = client is None
        self._user_agent = user_agent
        self._families: dict[str, tuple[float, list[int]]] = {}

    async def announce(self, url: str, request: AnnounceRequest, *, timeout: float = TIMEOUT) -> AnnounceResponse:  # noqa: ASYNC109
        """Announce once. A failure reason is an answer, not an error.

        Raises RemoteError, one line that names the tracker by scheme, host and port (its path may hold a passkey),
        when there is no answer that can be read; its fact `retry_in`, seconds, is there when the server said when to
        come back.
        """
        client = self._open()
        name = f"tracker {tracker_name(url)}"
        full = announce_url(url, request)
        families = await self._families_of(client, url, name)
        if len(families) < 2:
            return await _announce(client, full, request, name, timeout, families[0] if families else 0)
        return await self._announce_over(families, client, full, request, name, timeout)

    async def fetch(self, url: str, *, limit: int = MAX_TORRENT, timeout: float = FETCH_TIMEOUT) -> bytes:  # noqa: ASYNC109
        """A file over HTTP on the same connections: see `btfast.engine.fetch.fetch`."""
        return await fetch(self._open(), url, limit=limit, timeout=timeout)

    async def close(self) -> None:
        """Close every connection."""
        client, self._client = self._client, None
        if client is not None and self._own_client:
            await client.close()

    def _open(self) -> HttpClient:
        if self._client is None:
            # Imported here: a download without HTTP trackers does not pay for the HTTP parser.
            from btfast.engine.http_client import HttpClient

            self._client = HttpClient(user_agent=self._user_agent)
        return self._client

    async def _families_of(self, client: HttpClient, url: str, name: str) -> list[int]:
        now = asyncio.get_running_loop().time()
        key = tracker_name(url)
        known = self._families.get(key)
        if known is None or known[0] <= now:
            if len(self._families) >= 1024:
                self._families.clear()
            known = self._families[key] = (now + FAMILY_REST_SECONDS, await client.families(url, what=name))
        return known[1]

    async def _announce_over(
        self,
        families: list[int],
        client: HttpClient,
        full: str,
        request: AnnounceRequest,
        name: str,
        seconds: float,
    ) -> AnnounceResponse:
        tasks = {
            asyncio.ensure_future(_announce(client, full, request, name, seconds, family)): family
            for family in families
        }
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
            until = asyncio.get_running_loop().time() + FAMILY_REST_SECONDS
            self._families[tracker_name(full)] = (until, worked)
        return _merged(good)


async def _announce(
    client: HttpClient,
    full: str,
    request: AnnounceRequest,
    name: str,
    seconds: float,
    family: int,
) -> AnnounceResponse:
    response = await client.fetch(full, what=name, limit=MAX_BODY, timeout=seconds, family=family)
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


def _merged(answers: list[AnnounceResponse]) -> AnnounceResponse:
    answers = [answer for answer in answers if answer.failure_reason is None] or answers[:1]
    first, *others = answers
    for other in others:
        first = msgspec.structs.replace(
            first,
            peers=tuple(dict.fromkeys(first.peers + other.peers)),
            hostnames=tuple(dict.fromkeys(first.hostnames + other.hostnames)),
            interval=max(first.interval, other.interval),
            min_interval=max(first.min_interval or 0.0, other.min_interval or 0.0) or None,
            tracker_id=first.tracker_id if first.tracker_id is not None else other.tracker_id,
            warning_message=first.warning_message or other.warning_message,
            external_ip=first.external_ip or other.external_ip,
        )
    return first
