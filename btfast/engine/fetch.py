"""A file over HTTP, such as a .torrent: whole, in memory, up to a limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from btfast.discovery.announce import printable, tracker_name
from btfast.errors import RemoteError, SourceNotFoundError
from btfast.metainfo.reach import Way

if TYPE_CHECKING:
    from btfast.engine.http_client import HttpClient

MAX_TORRENT = 64 << 20
TIMEOUT = 60.0
LENGTH_TIMEOUT = 15.0


async def fetch(
    client: HttpClient, url: str, *, limit: int = MAX_TORRENT, timeout: float = TIMEOUT,  # noqa: ASYNC109
    enough: Callable[[bytes], bool] | None = None, way: Way | None = None,
) -> bytes:  # fmt: skip
    """The body behind an http or https URL, at most `limit` bytes; `timeout` in seconds for the whole. `enough`: given
    the first bytes, whether those will do. `way`: who led here; it goes on.

    Raises SourceNotFoundError when the server says that there is no such file (404, 410), InputError for a URL that
    is none, RemoteError for every other failure.
    """
    what = tracker_name(url) + _file_name(url)
    response = await client.fetch(url, what=what, limit=limit, timeout=timeout, enough=enough, way=way)
    status, reason = response.status, printable(response.reason)[:60]
    if status == 200:
        return response.body
    why = f"HTTP {status} {reason}".rstrip()
    if status in (404, 410):
        raise SourceNotFoundError(f"{what}: {why}: check the address", url=url, status=status)
    what_to_do = "try again later" if status >= 500 or status == 429 else "check the address"
    raise RemoteError(f"{what}: {why}: {what_to_do}", url=url, status=status)


async def length_of(client: HttpClient, url: str, *, way: Way | None = None) -> int | None:
    """How many bytes the file behind an http or https URL has, of which no more than the first are read; None where the
    server does not say. `way`: who led here. Raises InputError, RemoteError.
    """
    what = tracker_name(url) + _file_name(url)
    response = await client.fetch(url, what=what, limit=0, timeout=LENGTH_TIMEOUT, enough=lambda _: True, way=way)
    said = response.headers.get(b"content-length", b"")
    coded = response.headers.get(b"content-encoding", b"identity") != b"identity"
    return int(said) if response.status == 200 and not coded and said.isdigit() and len(said) < 19 else None


def _file_name(url: str) -> str:
    """The end of the URL's path, for messages; queries hold secrets."""
    path = url.partition("://")[2].partition("?")[0].partition("#")[0]
    name = printable(path.rpartition("/")[2].encode("utf-8", "replace")) if "/" in path else ""
    return f"/.../{name}" if path.count("/") > 1 and name else f"/{name}"
