"""One client connection that speaks HTTP/1.1: a request out, a whole response in, sizes cut while it arrives."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from typing import NamedTuple, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from btfast.errors import RemoteError
from btfast.metainfo.reach import Reach

MAX_HEADER = 64 << 10
MAX_HEADERS = 128


class Response(NamedTuple):
    """A whole response. Header names are lower case; of a repeated header the last value counts; the body is
    decompressed.
    """

    status: int
    reason: bytes
    headers: dict[bytes, bytes]
    body: bytes


class Connection(asyncio.Protocol):
    """Carries one exchange after the other. `reach`: how near the remote address is."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connections: set[Connection]) -> None:
        self._loop = loop
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._parser = HttpResponseParser(self)
        # Old trackers end header lines with a bare line feed.
        self._parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True)
        self._waiter: asyncio.Future[Response | None] | None = None
        self._gone: asyncio.Future[None] | None = None
        self.reach = Reach.PUBLIC
        self.reusable = False
        self.idle_since = 0.0
        self._what = ""
        self._limit = 0
        self._enough: Callable[[bytes], bool] | None = None
        self._reset()

    def _reset(self) -> None:
        self._raw = 0
        self._reason = b""
        self._headers: dict[bytes, bytes] = {}
        self._headers_done = False
        self._ends_at_eof = False
        self._chunks: list[bytes] = []
        self._size = 0
        self._inflate: zlib._Decompress | None = None

    async def exchange(
        self, data: bytes, limit: int, what: str, enough: Callable[[bytes], bool] | None = None
    ) -> Response | None:
        """Send a request and wait for its response; None when the connection was closed before a byte of it came.

        `enough`, given the first bytes of a body, says whether the rest is of no interest.

        Raises RemoteError for anything else that is not a whole response with a body of at most `limit` bytes.
        """
        if self._transport is None or self._transport.is_closing():
            return None
        self._what = what
        self._limit = limit
        self._enough = enough
        self.reusable = False
        self._reset()
        self._waiter = self._loop.create_future()
        self._transport.write(data)
        try:
            return await self._waiter
        finally:
            self._waiter = None

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._transport is None or self._transport.is_closing()

    def abort(self) -> asyncio.Future[None]:
        """Close at once; the future is done when the socket is closed."""
        self.reusable = False
        gone = self._gone
        if gone is None:
            gone = self._gone = self._loop.create_future()
            if self._transport is None:
                gone.set_result(None)
            else:
                self._transport.abort()
        return gone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.reusable = False
        self._connections.discard(self)
        if self._gone is None:
            self._gone = self._loop.create_future()
        if not self._gone.done():
            self._gone.set_result(None)
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if self._headers_done and self._ends_at_eof and exc is None:
            self.on_message_complete()
        elif self._raw == 0:
            waiter.set_result(None)
        else:
            self._fail("closed the connection in the middle of the answer: try again later")

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:
            self.abort()  # nothing was asked: whatever this is, the next answer could not be told from it
            return
        self._raw += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._fail("switched to another protocol: check the address")
        except HttpParserError:
            self._fail("does not speak HTTP: check the address")
        # The body is counted as it comes; headers, trailers and the wrapping of chunks are only bounded in sum.
        if self._raw > MAX_HEADER and (not self._headers_done or self._raw > MAX_HEADER + 16 * self._limit):
            self._fail("sends endless headers: check the address")

    def on_message_begin(self) -> None:
        if self._waiter is None or self._waiter.done():
            self.abort()  # a second answer to one request
        self._headers = {}
        self._headers_done = False

    def on_status(self, reason: bytes) -> None:
        self._reason = reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._headers_done:
            self._headers[name.lower()] = value
            if len(self._headers) > MAX_HEADERS:
                self._fail("sends endless headers: check the address")

    def on_headers_complete(self) -> None:
        if self._parser.get_status_code() < 200:
            return
        headers = self._headers
        self._headers_done = True
        length = headers.get(b"content-length")
        self._ends_at_eof = length is None and b"transfer-encoding" not in headers
        if length is not None and length.isdigit() and int(length[:20]) > self._limit and self._enough is None:
            self._too_large()
        encoding = headers.get(b"content-encoding", b"identity").strip().lower()
        if encoding in (b"gzip", b"x-gzip", b"deflate"):
            self._inflate = zlib.decompressobj(wbits=47)
        elif encoding not in (b"identity", b""):
            self._fail("answers in an encoding that was not asked for: check the address")

    def on_body(self, data: bytes) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if self._inflate is not None:
            try:
                data = self._inflate.decompress(data, self._limit - self._size + 1)
            except zlib.error:
                self._fail("sends broken compressed data: try again later")
                return
        enough, self._enough = self._enough, None
        if enough is not None and data and self._parser.get_status_code() == 200 and enough(data):
            waiter.set_result(Response(200, self._reason, self._headers, data))
            self.abort()
            return
        self._size += len(data)
        if self._size > self._limit:
            self._too_large()
            return
        self._chunks.append(data)

    def on_message_complete(self) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done() or not self._headers_done:
            return
        if self._inflate is not None and self._size and not self._inflate.eof:
            self._fail("sends compressed data that ends too early: try again later")
            return
        self.reusable = self._gone is None and self._transport is not None and self._parser.should_keep_alive()
        chunks = self._chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        waiter.set_result(Response(self._parser.get_status_code(), self._reason, self._headers, body))

    def _too_large(self) -> None:
        self._fail(f"the answer is larger than {self._limit} bytes: check the address")

    def _fail(self, why: str) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_exception(RemoteError(f"{self._what}: {why}", what=self._what))
        self.abort()
