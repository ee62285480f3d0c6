"""A small HTTP/1.1 client for many short GETs: tracker announces and .torrent files, on httptools.

Why not aiohttp's client: importing it takes 110-220 ms of the start of every download (httptools 10 ms), against a
budget of 350 ms from process start to the first connection, and a request on a warm connection costs about twice the
CPU.

One `HttpClient` serves all torrents. Connections are kept alive and shared. Each host, and the whole, has a limit of
requests under way; the rest wait in order. Waiting does not count against a request's timeout, but when a host turns
out to be dead, those who wait for it fail with the one who found out, instead of each finding out in turn.

Answers are hostile: header and body sizes are cut while they arrive, the body's limit holds after decompression,
redirects are counted, and a redirect leads only where the source policy allows.
"""

from __future__ import annotations

import asyncio
import binascii
import os
import re
import ssl
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from btfast.discovery.announce import safe_url
from btfast.engine.http_connection import Connection, Response
from btfast.engine.resolve import Address, Resolver, literal
from btfast.errors import Error, InputError, RemoteError
from btfast.metainfo.reach import Reach, reach_of
from btfast.swarm.source_policy import may_redirect

if TYPE_CHECKING:
    from btfast.engine.http_proxy import Proxies, Proxy

PER_HOST = 64
IN_ALL = 192
IDLE_SECONDS = 30.0
MAX_IDLE = 128
ADDRESS_SECONDS = 5.0
MAX_HOSTS = 1024
REDIRECTS = 5

_URL = re.compile(r"(https?)://([^/?#]*)([^#]*)", re.IGNORECASE)
_AUTHORITY = re.compile(
    r"(?:(?P<user>[^@]*)@)?(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^:@\[\]]+))(?::(?P<port>[0-9]{1,5})?)?"
)
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}")
_REDIRECTING = frozenset((301, 302, 303, 307, 308))


class _Host:
    """One origin as seen by one address family: its idle connections and who waits for a turn."""

    __slots__ = (
        "active", "answered", "family", "head", "idle", "name", "origin", "port", "proxy", "tls", "urgent", "waiting",
    )  # fmt: skip

    def __init__(
        self, name: str, port: int, family: int, *, tls: bool, head: str, proxy: Proxy | None, origin: str
    ) -> None:
        self.name = name
        self.port = port
        self.family = family
        self.tls = tls
        self.head = head
        self.idle: list[Connection] = []
        self.active = 0
        self.proxy = proxy
        self.origin = origin  # what stands before the path when a proxy is asked
        self.urgent: deque[asyncio.Future[None]] = deque()
        self.waiting: deque[asyncio.Future[None]] = deque()
        self.answered = 0.0


class _Ask(NamedTuple):
    """What stays the same over the redirects of one request."""

    what: str
    limit: int
    timeout: float
    deadline: asyncio.Timeout
    urgent: bool


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
        self._user_agent = user_agent
        self._bind = literal(bind)
        self._proxies: Proxies | None = None
        if any(name.lower().endswith("_proxy") for name in environment):
            from btfast.engine.http_proxy import Proxies

            self._proxies = Proxies(environment)
        self._per_host = per_host
        self._turns = asyncio.Semaphore(in_all)
        self._hosts: dict[tuple[str, int], _Host] = {}
        self._connections: set[Connection] = set()
        self._idle = 0
        self._resolver = Resolver(self._loop)
        self._tls: asyncio.Task[ssl.SSLContext] | None = None
        self._reaper: asyncio.TimerHandle | None = None
        self._closed = False

    async def fetch(
        self, url: str, *, what: str, limit: int, timeout: float, family: int = 0, urgent: bool = False  # noqa: ASYNC109
    ) -> Response:  # fmt: skip
        """GET `url`, following up to 5 redirects; any other status is returned.

        `what` begins the message of errors. `limit` is the largest body in bytes, after decompression. `timeout`, in
        seconds, runs over all redirects, from leaving the queue. `family` (socket.AF_INET, AF_INET6) restricts the
        addresses. `urgent` ones do not wait behind others. Raises RemoteError, one line, when there is no whole
        answer; InputError for a URL that is none.
        """
        before: Reach | None = None
        try:
            async with asyncio.timeout(None) as deadline:
                ask = _Ask(what, limit, timeout, deadline, urgent)
                for _ in range(REDIRECTS + 1):
                    host, target = self._locate(url, what, family)
                    response, before = await self._turn(host, target, ask, before)
                    location = response.headers.get(b"location")
                    if response.status not in _REDIRECTING or not location:
                        return response
                    url = _joined(url, location, what)
        except TimeoutError:
            raise _no_answer(what, timeout) from None
        raise RemoteError(f"{what}: more than {REDIRECTS} redirects: check the address", what=what)

    async def families(self, url: str, *, what: str) -> list[int]:
        """The address families in which the URL's host has an address. RemoteError when it has none."""
        host, _ = self._locate(url, what, 0)
        if host.proxy is not None:
            return [0]  # the proxy chooses
        found = await self._resolver.resolve(host.name, what)
        return sorted({address.family for address in found if self._bind is None or address.family == self._bind.family})

    async def close(self) -> None:
        """Close every connection; what is under way fails."""
        self._closed = True
        if self._reaper is not None:
            self._reaper.cancel()
        self._resolver.close()
        if self._tls is not None:
            self._tls.cancel()
        for host in self._hosts.values():
            _fail_waiting(host, RemoteError("HTTP client: closed: make a new one"))
        lost = [connection.abort() for connection in list(self._connections)]
        if lost:
            await asyncio.wait(lost, timeout=1.0)

    def _locate(self, url: str, what: str, family: int) -> tuple[_Host, str]:
        match = _URL.match(url)
        if match is None:
            raise InputError(f"{what}: not an http or https address: check it", what=what)
        scheme, authority, target = match.groups()
        key = f"{scheme}://{authority}", family
        host = self._hosts.get(key)
        if host is None:
            if len(self._hosts) >= MAX_HOSTS:
                self._hosts = {k: h for k, h in self._hosts.items() if h.active or h.idle}
            host = self._hosts[key] = self._new_host(scheme.lower() == "https", authority, family, what)
        target = safe_url(target)
        return host, target if target.startswith("/") else f"/{target}"

    def _new_host(self, tls: bool, authority: str, family: int, what: str) -> _Host:
        parts = _AUTHORITY.fullmatch(authority)
        name = (parts["v6"] or _ascii_host(parts["host"])) if parts else ""
        if parts is None or not name:
            raise InputError(f"{what}: the address has no usable host name: check it", what=what)
        usual = 443 if tls else 80
        port = int(parts["port"] or usual)
        if not 0 < port < 65536:
            raise InputError(f"{what}: port {port} is out of range: check the address", what=what)
        shown = f"[{name}]" if parts["v6"] else name
        if port != usual:
            shown += f":{port}"
        head = (
            f" HTTP/1.1\r\nHost: {shown}\r\nUser-Agent: {self._user_agent}\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n"
        )
        if parts["user"] is not None:
            from urllib.parse import unquote_to_bytes

            credentials = binascii.b2a_base64(unquote_to_bytes(parts["user"]), newline=False).decode()
            head += f"Authorization: Basic {credentials}\r\n"
        proxy = self._proxies.of(name, port, tls=tls) if self._proxies is not None else None
        if proxy is not None and not tls:
            head += proxy.authorization
        origin = f"http://{shown}" if proxy is not None and not tls else ""
        return _Host(name, port, family, tls=tls, head=f"{head}\r\n", proxy=proxy, origin=origin)

    async def _turn(self, host: _Host, target: str, ask: _Ask, before: Reach | None) -> tuple[Response, Reach]:
        """One hop, in a turn of the host; also says how near the host is. `before`: how near the one was that led here."""
        await self._enter(host, urgent=ask.urgent)
        began = self._loop.time()
        try:
            async with self._turns:
                if ask.deadline.when() is None:
                    ask.deadline.reschedule(began + ask.timeout)
                return await self._exchange(host, target, ask, before)
        except asyncio.CancelledError:
            if ask.deadline.expired() and host.answered < began:
                _fail_waiting(host, _no_answer(ask.what, ask.timeout))
            raise
        finally:
            self._leave(host)

    async def _exchange(self, host: _Host, target: str, ask: _Ask, before: Reach | None) -> tuple[Response, Reach]:
        data = f"GET {host.origin}{target}{host.head}".encode("ascii")
        while True:
            connection = self._take_idle(host, before)
            reused = connection is not None
            if connection is None:
                connection = await self._connect(host, ask.what, before)
            try:
                response = await connection.exchange(data, ask.limit, ask.what)
                if response is not None:
                    host.answered = self._loop.time()
                    return response, connection.reach
            finally:
                self._put_back(host, connection)
            # A kept connection may be closed by the server just when it is used again; only then the request is
            # repeated.
            if not reused:
                raise RemoteError(
                    f"{ask.what}: closed the connection without an answer: try again later", what=ask.what
                )

    async def _connect(self, host: _Host, what: str, before: Reach | None) -> Connection:
        try:
            return await self._connect_any(host, what, before)
        except (RemoteError, OSError) as error:
            failure = error if isinstance(error, RemoteError) else RemoteError(f"{what}: {_reason(error)}", what=what)
            if before is None:  # where nobody may be led to, others may go by themselves
                _fail_waiting(host, failure)
            raise failure from None

    async def _connect_any(self, host: _Host, what: str, before: Reach | None) -> Connection:
        tls = await self._tls_context() if host.tls else None
        if host.proxy is not None:
            return await self._connect_through(host.proxy, host, tls, what, before)
        found = await self._resolver.resolve(host.name, what)
        if self._bind is not None:
            found = tuple(address for address in found if address.family == self._bind.family)
            if not found:
                raise RemoteError(f"{what}: has no address of the same kind as {self._bind.host}: check --bind", what=what)
        addresses = [a for a in found if host.family in (0, a.family) and _may_go(before, reach_of(a.host), host.port)]
        if not addresses:
            why = (
                "has no address of this kind"
                if before is None
                else "redirects to a local address or a port of another service, which it may not"
            )
            raise RemoteError(f"{what}: {why}: check the address", what=what)
        failure: OSError | None = None
        for address in addresses:
            # The last one has all the time that is left, the others only some of it.
            patience = None if address is addresses[-1] else ADDRESS_SECONDS
            try:
                async with asyncio.timeout(patience):
                    return await self._connect_to(address, host, tls)
            except TimeoutError as error:
                failure = error
            except OSError as error:
                failure = error
        assert failure is not None
        raise failure

    async def _connect_to(self, address: Address, host: _Host, tls: ssl.SSLContext | None) -> Connection:
        _, connection = await self._loop.create_connection(
            lambda: Connection(self._loop, self._connections),
            address.host,
            host.port,
            ssl=tls,
            server_hostname=host.name if tls is not None else None,
            local_addr=(self._bind.host, 0) if self._bind is not None else None,
        )
        connection.reach = reach_of(address.host)
        if self._closed:
            connection.abort()
        return connection

    async def _connect_through(
        self, proxy: Proxy, host: _Host, tls: ssl.SSLContext | None, what: str, before: Reach | None
    ) -> Connection:
        # What a name leads to is for the proxy to know; an address written out is held to the rule.
        reach = reach_of(host.name) if literal(host.name) is not None else Reach.PUBLIC
        if not _may_go(before, reach, host.port):
            raise RemoteError(f"{what}: redirects to a local address, which it may not: check the address", what=what)
        connection = Connection(self._loop, self._connections)
        found = await self._resolver.resolve(proxy.host, f"{what}: {proxy}")
        try:
            transport, _ = await self._loop.create_connection(
                (lambda: connection) if tls is None else asyncio.Protocol,
                found[0].host,
                proxy.port,
                local_addr=(self._bind.host, 0) if self._bind is not None else None,
            )
        except OSError as error:
            raise RemoteError(f"{what}: {proxy}: {_reason(error)}", what=what) from None
        if tls is not None:
            from btfast.engine.http_proxy import open_tunnel, start_tls

            try:
                await open_tunnel(self._loop, transport, proxy, host.name, host.port, what)
                await start_tls(self._loop, transport, connection, tls, host.name)
            except BaseException:
                transport.abort()
                raise
        connection.reach = reach
        if self._closed:
            connection.abort()
        return connection

    async def _tls_context(self) -> ssl.SSLContext:
        """Made once, in a thread: reading the system's certificates takes 20-30 ms."""
        if self._tls is None:
            self._tls = self._loop.create_task(asyncio.to_thread(ssl.create_default_context))
        return await asyncio.shield(self._tls)

    async def _enter(self, host: _Host, *, urgent: bool) -> None:
        if self._closed:
            raise RemoteError("HTTP client: closed: make a new one")
        if host.active < self._per_host:
            host.active += 1
            return
        turn = self._loop.create_future()
        (host.urgent if urgent else host.waiting).append(turn)
        try:
            await turn  # the one who leaves hands its turn over: `active` stays as it is
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._leave(host)
            raise

    def _leave(self, host: _Host) -> None:
        while host.urgent or host.waiting:
            turn = (host.urgent or host.waiting).popleft()
            if not turn.done():
                turn.set_result(None)
                return
        host.active -= 1

    def _take_idle(self, host: _Host, before: Reach | None) -> Connection | None:
        while host.idle:
            connection = host.idle.pop()
            self._idle -= 1
            if not connection.closed and _may_go(before, connection.reach, host.port):
                return connection
            connection.abort()
        return None

    def _put_back(self, host: _Host, connection: Connection) -> None:
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
        for host in self._hosts.values():
            for connection in host.idle:
                if connection.idle_since <= limit:
                    connection.abort()
            host.idle = [connection for connection in host.idle if not connection.closed]
        self._idle = sum(len(host.idle) for host in self._hosts.values())
        if self._idle:
            self._reaper = self._loop.call_later(IDLE_SECONDS / 2, self._reap)


def _may_go(before: Reach | None, after: Reach, port: int) -> bool:
    return before is None or may_redirect(before, after, port)


def _fail_waiting(host: _Host, error: Error) -> None:
    waiting = [*host.urgent, *host.waiting]
    host.urgent.clear()
    host.waiting.clear()
    for turn in waiting:
        if not turn.done():
            turn.set_exception(error)


def _no_answer(what: str, timeout: float) -> RemoteError:
    return RemoteError(f"{what}: no answer within {timeout:g} s: try again later", what=what, timeout=timeout)


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its TLS certificate is not trusted ({error.verify_message}): check the address"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({(error.reason or 'handshake').lower().replace('_', ' ')}): check the address"
    if isinstance(error, TimeoutError):
        return "cannot be reached (no answer to the connection): try again later"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused: check the address, or try again later"
    return f"cannot be reached ({(error.strerror or type(error).__name__).lower()}): check the address, or the network"


def _ascii_host(host: str) -> str:
    """The host name as DNS wants it, "" when it is none."""
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            return ""
    return host if _HOST.fullmatch(host) else ""


def _joined(url: str, location: bytes, what: str) -> str:
    from urllib.parse import urljoin

    try:
        joined = urljoin(url, location.decode("utf-8", "replace").strip())
    except ValueError:
        joined = ""
    if _URL.match(joined) is None:
        raise RemoteError(f"{what}: redirects to something that is not an http address: check the address", what=what)
    return joined
