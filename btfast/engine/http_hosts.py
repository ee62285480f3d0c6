"""Web servers: what their addresses say, and connections to them, for every kind of request that we make.

Straight, through the proxy that the environment names, over TLS; and where a redirect leads, only as far as the source
policy allows.
"""

from __future__ import annotations

import asyncio
import binascii
import os
import re
import ssl
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from btfast.discovery.announce import safe_url
from btfast.engine.resolve import Address, Resolver, literal
from btfast.errors import InputError, RemoteError
from btfast.metainfo.reach import Reach, reach_of
from btfast.swarm.source_policy import may_redirect

if TYPE_CHECKING:
    from btfast.engine.http_connection import Connection
    from btfast.engine.http_proxy import Proxies, Proxy

ADDRESS_SECONDS = 5.0
MAX_HOSTS = 1024

_URL = re.compile(r"(https?)://([^/?#]*)([^#]*)", re.IGNORECASE)
_AUTHORITY = re.compile(
    r"(?:(?P<user>[^@]*)@)?(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^:@\[\]]+))(?::(?P<port>[0-9]{1,5})?)?"
)
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}")


class Reached(Protocol):
    """A connection's protocol: it is told how near its remote address is, and can be ended at once."""

    reach: Reach

    def abort(self) -> object: ...


P = TypeVar("P", bound=Reached)


class Host:
    """One origin as seen by one address family: its idle connections and who waits for a turn."""

    __slots__ = (
        "active", "answered", "answers", "family", "head", "idle", "name", "origin", "port", "proxy", "tls", "urgent", "waiting",
    )  # fmt: skip

    def __init__(
        self, name: str, port: int, family: int, *, tls: bool, head: str, proxy: Proxy | None, origin: str
    ) -> None:
        self.name = name
        self.port = port
        self.family = family
        self.tls = tls
        self.head = head  # of every request: what follows its target, but for the last headers and the empty line
        self.idle: list[Connection] = []
        self.active = 0
        self.proxy = proxy
        self.origin = origin  # what stands before the path when a proxy is asked
        self.urgent: deque[asyncio.Future[None]] = deque()
        self.waiting: deque[asyncio.Future[None]] = deque()
        self.answered = 0.0
        self.answers = False  # it has answered, and not failed since


class HttpHosts:
    """Every origin that a client speaks with. Made inside the running loop that it is used and closed in.

    `bind`: the local address to connect from; hosts are then reached over its family alone. `environment` may name
    proxies: see http_proxy.
    """

    def __init__(self, *, user_agent: str, bind: str = "", environment: Mapping[str, str] = os.environ) -> None:
        self._loop = asyncio.get_running_loop()
        self._user_agent = user_agent
        self.bind = literal(bind)
        self._proxies: Proxies | None = None
        if any(name.lower().endswith("_proxy") for name in environment):
            from btfast.engine.http_proxy import Proxies

            self._proxies = Proxies(environment)
        self.resolver = Resolver(self._loop)
        self._hosts: dict[tuple[str, int], Host] = {}
        self._tls: asyncio.Task[ssl.SSLContext] | None = None
        self._closed = False

    def __iter__(self) -> Iterator[Host]:
        return iter(self._hosts.values())

    def close(self) -> None:
        """Gives up what is being looked up; connections that are being made end at once."""
        self._closed = True
        self.resolver.close()
        if self._tls is not None:
            self._tls.cancel()

    def locate(self, url: str, what: str, family: int = 0) -> tuple[Host, str]:
        """The origin of a URL, and what to ask it for. InputError for a URL that is none."""
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

    def _new_host(self, tls: bool, authority: str, family: int, what: str) -> Host:
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
        head = f" HTTP/1.1\r\nHost: {shown}\r\nUser-Agent: {self._user_agent}\r\nAccept: */*\r\n"
        if parts["user"] is not None:
            from urllib.parse import unquote_to_bytes

            credentials = binascii.b2a_base64(unquote_to_bytes(parts["user"]), newline=False).decode()
            head += f"Authorization: Basic {credentials}\r\n"
        proxy = self._proxies.of(name, port, tls=tls) if self._proxies is not None else None
        if proxy is not None and not tls:
            head += proxy.authorization
        origin = f"http://{shown}" if proxy is not None and not tls else ""
        return Host(name, port, family, tls=tls, head=head, proxy=proxy, origin=origin)

    async def connect(self, host: Host, what: str, before: Reach | None, make: Callable[[], P]) -> P:
        """A connection to a host, for the protocol that `make` makes. RemoteError, OSError.

        `before`: how near the host was that led here, None when nobody did.
        """
        tls = await self._tls_context() if host.tls else None
        if host.proxy is not None:
            return await self._connect_through(host.proxy, host, tls, what, before, make)
        found = await self.resolver.resolve(host.name, what)
        if self.bind is not None:
            found = tuple(address for address in found if address.family == self.bind.family)
            if not found:
                raise RemoteError(f"{what}: has no address of the same kind as {self.bind.host}: check --bind", what=what)
        addresses = [a for a in found if host.family in (0, a.family) and may_go(before, reach_of(a.host), host.port)]
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
                    return await self._connect_to(address, host, tls, make)
            except TimeoutError as error:
                failure = error
            except OSError as error:
                failure = error
        assert failure is not None
        raise failure

    async def _connect_to(self, address: Address, host: Host, tls: ssl.SSLContext | None, make: Callable[[], P]) -> P:
        _, protocol = await self._loop.create_connection(
            cast(Callable[[], asyncio.BaseProtocol], make),
            address.host,
            host.port,
            ssl=tls,
            server_hostname=host.name if tls is not None else None,
            local_addr=(self.bind.host, 0) if self.bind is not None else None,
        )
        connection = cast(P, protocol)
        connection.reach = reach_of(address.host)
        if self._closed:
            connection.abort()
        return connection

    async def _connect_through(
        self, proxy: Proxy, host: Host, tls: ssl.SSLContext | None, what: str, before: Reach | None,
        make: Callable[[], P],
    ) -> P:  # fmt: skip
        # What a name leads to is for the proxy to know; an address written out is held to the rule.
        reach = reach_of(host.name) if literal(host.name) is not None else Reach.PUBLIC
        if not may_go(before, reach, host.port):
            raise RemoteError(f"{what}: redirects to a local address, which it may not: check the address", what=what)
        connection = make()
        found = await self.resolver.resolve(proxy.host, f"{what}: {proxy}")
        try:
            transport, _ = await self._loop.create_connection(
                (lambda: cast(asyncio.BaseProtocol, connection)) if tls is None else asyncio.Protocol,
                found[0].host,
                proxy.port,
                local_addr=(self.bind.host, 0) if self.bind is not None else None,
            )
        except OSError as error:
            raise RemoteError(f"{what}: {proxy}: {reason_of(error)}", what=what) from None
        if tls is not None:
            from btfast.engine.http_proxy import open_tunnel, start_tls

            try:
                await open_tunnel(self._loop, transport, proxy, host.name, host.port, what)
                await start_tls(self._loop, transport, cast(asyncio.Protocol, connection), tls, host.name)
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


def may_go(before: Reach | None, after: Reach, port: int) -> bool:
    """Whether the one that is `before` near may lead us there; None: nobody leads us."""
    return before is None or may_redirect(before, after, port)


def reason_of(error: OSError) -> str:
    """Why a connection failed, and what to do."""
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


def joined(url: str, location: bytes, what: str) -> str:
    """Where a redirect leads. RemoteError when that is no web address."""
    from urllib.parse import urljoin

    try:
        found = urljoin(url, location.decode("utf-8", "replace").strip())
    except ValueError:
        found = ""
    if _URL.match(found) is None:
        raise RemoteError(f"{what}: redirects to something that is not an http address: check the address", what=what)
    return found
