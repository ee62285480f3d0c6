"""A small HTTP/1.1 client for many short GETs: tracker announces and .torrent files, on httptools.

Why not aiohttp's client: importing it takes 110-220 ms of the start of every download (httptools 10 ms), against a
budget of 350 ms from process start to the first connection, and a request on a warm connection costs about twice the
CPU.

One `HttpClient` serves all torrents. Connections are kept alive and shared. Each host, and the whole, has a limit of
requests under way, a lower one while it has not answered; the rest wait in order. Waiting does not count against a
request's timeout, but when a host turns out to be dead, those who wait for it fail with the one who found out, instead
of each finding out in turn.

Answers are hostile: header and body sizes are cut while they arrive, the body's limit holds after decompression,
redirects are counted, and a redirect leads only where the source policy allows.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

from btfast.engine.http_connection import Connection, Response
from btfast.engine.http_hosts import Host, HttpHosts, joined, may_go, reason_of
from btfast.errors import Error, RemoteError
from btfast.metainfo.reach import Reach, Way

PER_HOST = 64  # requests under way
PER_SILENT_HOST = 4  # to one that has not answered yet, or has failed since
IN_ALL = 192  # to hosts that answer
SILENT_IN_ALL = 96  # to the others: dead ones must not hold the turns of those that live
IDLE_SECONDS = 30.0
MAX_IDLE = 128
REDIRECTS = 5
_REDIRECTING = frozenset((301, 302, 303, 307, 308))


class _Ask(NamedTuple):
    """What stays the same over the redirects of one request."""

    what: str
    limit: int
    timeout: float
    deadline: asyncio.Timeout
    urgent: bool
    enough: Callable[[bytes], bool] | None


class HttpClient:
    """GETs with shared connections. Made inside the running loop that it is used and closed in.

    `bind`: the local address to connect from; hosts are then reached over its family alone. `environment` may name
    proxies: see http_proxy.
    """

    def __init__(
        self, *, user_agent: str, bind: str = "", environment: Mapping[str, str] = os.environ, per_host: int = PER_HOST,
        in_all: int = IN_ALL,
    ) -> None:  # fmt: skip
        self._loop = asyncio.get_running_loop()
        self._hosts = HttpHosts(user_agent=user_agent, bind=bind, environment=environment)
        self._per_host = per_host
        self._turns = asyncio.Semaphore(in_all)
        self._silent_turns = asyncio.Semaphore(min(in_all, SILENT_IN_ALL))
        self._connections: set[Connection] = set()
        self._idle = 0
        self._reaper: asyncio.TimerHandle | None = None
        self._closed = False

    async def fetch(
        self, url: str, *, what: str, limit: int, timeout: float, family: int = 0, urgent: bool = False,  # noqa: ASYNC109
        enough: Callable[[bytes], bool] | None = None, way: Way | None = None,
    ) -> Response:  # fmt: skip
        """GET `url`, following up to 5 redirects; any other status is returned.

        `what` begins the message of errors. `limit` is the largest body in bytes, after decompression. `timeout`, in
        seconds, runs over all redirects, from leaving the queue. `family` (socket.AF_INET, AF_INET6) restricts the
        addresses. `urgent` ones do not wait behind others. `enough`: given the first bytes of the body, whether those will
        do. `way`: who led here; it goes on. Raises RemoteError, one line, when there is no whole answer; InputError for
        a URL that is none.
        """
        way = way or Way()
        try:
            async with asyncio.timeout(None) as deadline:
                ask = _Ask(what, limit, timeout, deadline, urgent, enough)
                for _ in range(REDIRECTS + 1):
                    host, target = self._hosts.locate(url, what, family)
                    response, reach = await self._turn(host, target, ask, way.reach)
                    way.lead(reach)
                    location = response.headers.get(b"location")
                    if response.status not in _REDIRECTING or not location:
                        return response
                    url = joined(url, location, what)
        except TimeoutError:
            raise _no_answer(what, timeout) from None
        raise RemoteError(f"{what}: more than {REDIRECTS} redirects: check the address", what=what)

    async def families(self, url: str, *, what: str) -> list[int]:
        """The address families in which the URL's host has an address. RemoteError when it has none."""
        host, _ = self._hosts.locate(url, what)
        if host.proxy is not None:
            return [0]  # the proxy chooses
        found = await self._hosts.resolver.resolve(host.name, what)
        bind = self._hosts.bind
        return sorted({address.family for address in found if bind is None or address.family == bind.family})

    async def close(self) -> None:
        """Close every connection; what is under way fails."""
        self._closed = True
        if self._reaper is not None:
            self._reaper.cancel()
        self._hosts.close()
        for host in self._hosts:
            _fail_waiting(host, RemoteError("HTTP client: closed: make a new one"))
        lost = [connection.abort() for connection in list(self._connections)]
        if lost:
            await asyncio.wait(lost, timeout=1.0)

    async def _turn(self, host: Host, target: str, ask: _Ask, before: Reach | None) -> tuple[Response, Reach]:
        """One hop, in a turn of the host; also says how near the host is. `before`: how near the one was that led here."""
        await self._enter(host, urgent=ask.urgent)
        began = self._loop.time()
        try:
            async with self._turns if host.answers else self._silent_turns:
                if ask.deadline.when() is None:
                    ask.deadline.reschedule(began + ask.timeout)
                return await self._exchange(host, target, ask, before)
        except asyncio.CancelledError:
            if ask.deadline.expired() and host.answered < began:
                host.answers = False
                _fail_waiting(host, _no_answer(ask.what, ask.timeout))
            raise
        finally:
            self._leave(host)

    async def _exchange(self, host: Host, target: str, ask: _Ask, before: Reach | None) -> tuple[Response, Reach]:
        data = f"GET {host.origin}{target}{host.head}Accept-Encoding: gzip\r\n\r\n".encode("ascii")
        while True:
            connection = self._take_idle(host, before)
            reused = connection is not None
            if connection is None:
                connection = await self._connect(host, ask.what, before)
            try:
                response = await connection.exchange(data, ask.limit, ask.what, ask.enough)
                if response is not None:
                    host.answered = self._loop.time()
                    if not host.answers:
                        host.answers = True
                        self._admit(host)
                    return response, connection.reach
            finally:
                self._put_back(host, connection)
            # A kept connection may be closed by the server just when it is used again; only then the request is
            # repeated.
            if not reused:
                raise RemoteError(
                    f"{ask.what}: closed the connection without an answer: try again later", what=ask.what
                )

    async def _connect(self, host: Host, what: str, before: Reach | None) -> Connection:
        try:
            return await self._hosts.connect(host, what, before, lambda: Connection(self._loop, self._connections))
        except (RemoteError, OSError) as error:
            failure = error if isinstance(error, RemoteError) else RemoteError(f"{what}: {reason_of(error)}", what=what)
            host.answers = False
            if before is None:  # where nobody may be led to, others may go by themselves
                _fail_waiting(host, failure)
            raise failure from None

    async def _enter(self, host: Host, *, urgent: bool) -> None:
        if self._closed:
            raise RemoteError("HTTP client: closed: make a new one")
        if host.active < self._most(host):
            host.active += 1
            return
        turn = self._loop.create_future()
        (host.urgent if urgent else host.waiting).append(turn)
        try:
            await turn  # whoever gives it has counted it
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._leave(host)
            raise

    def _most(self, host: Host) -> int:
        return self._per_host if host.answers else min(self._per_host, PER_SILENT_HOST)

    def _leave(self, host: Host) -> None:
        host.active -= 1
        self._admit(host)

    def _admit(self, host: Host) -> None:
        """Gives turns to those who wait."""
        while (host.urgent or host.waiting) and host.active < self._most(host):
            turn = (host.urgent or host.waiting).popleft()
            if not turn.done():
                host.active += 1
                turn.set_result(None)

    def _take_idle(self, host: Host, before: Reach | None) -> Connection | None:
        while host.idle:
            connection = host.idle.pop()
            self._idle -= 1
            if not connection.closed and may_go(before, connection.reach, host.port):
                return connection
            connection.abort()
        return None

    def _put_back(self, host: Host, connection: Connection) -> None:
        if not connection.reusable or self._closed or self._idle >= MAX_IDLE:
            connection.abort()
            return
        connection.idle_since = self._loop.time()
        host.idle.append(connection)
        self._idle += 1
        if self._reaper is None:
            self._reaper = self._loop.call_later(IDLE_SECONDS, self._reap)

    def _reap(self) -> None:
        """Close what has been idle for long."""
        self._reaper = None
        limit = self._loop.time() - IDLE_SECONDS / 2
        for host in self._hosts:
            for connection in host.idle:
                if connection.idle_since <= limit:
                    connection.abort()
            host.idle = [connection for connection in host.idle if not connection.closed]
        self._idle = sum(len(host.idle) for host in self._hosts)
        if self._idle:
            self._reaper = self._loop.call_later(IDLE_SECONDS / 2, self._reap)


def _fail_waiting(host: Host, error: Error) -> None:
    waiting = [*host.urgent, *host.waiting]
    host.urgent.clear()
    host.waiting.clear()
    for turn in waiting:
        if not turn.done():
            turn.set_exception(error)


def _no_answer(what: str, timeout: float) -> RemoteError:
    return RemoteError(f"{what}: no answer within {timeout:g} s: try again later", what=what, timeout=timeout)
