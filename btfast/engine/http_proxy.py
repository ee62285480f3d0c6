"""HTTP proxies, as the environment names them: http_proxy, https_proxy, all_proxy, no_proxy, in either case.

An http address is asked for through the proxy; to an https one the proxy opens a tunnel (CONNECT), so that it sees the
host and no more. Hosts on this machine are never asked for through a proxy. UDP trackers and peers know no proxy.
"""

from __future__ import annotations

import asyncio
import binascii
import ipaddress
import re
import ssl
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from btfast.discovery.announce import printable
from btfast.errors import InputError, RemoteError

MAX_HEAD = 16 << 10

_PROXY = re.compile(
    r"(?:(?P<scheme>[a-z0-9+.-]+)://)?(?:(?P<user>[^@/]*)@)?(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<host>[a-z0-9._-]+))"
    r"(?::(?P<port>[0-9]{1,5}))?/?",
    re.IGNORECASE,
)
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: ([^\r\n]*))?\r?\n")


class Proxy(NamedTuple):
    """`authorization`: a header line, with its end, or nothing."""

    host: str
    port: int
    authorization: str

    def __str__(self) -> str:
        return f"proxy {f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


class Proxies:
    """Which proxy leads to a host."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._by_tls = {tls: _named(environment, name) for tls, name in ((False, "http_proxy"), (True, "https_proxy"))}
        exceptions = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
        self._exceptions = [word.strip().lower() for word in exceptions.split(",") if word.strip()]

    def __bool__(self) -> bool:
        return any(self._by_tls.values())

    def of(self, host: str, port: int, *, tls: bool) -> Proxy | None:
        """The proxy for a host, None to go there directly. InputError when the environment's proxy cannot be used."""
        found = self._by_tls[tls]
        if not found or _on_this_machine(host) or any(_covers(word, host.lower(), port) for word in self._exceptions):
            return None
        name, text = found
        match = _PROXY.fullmatch(text)
        if match is None or (match["scheme"] or "http").lower() != "http":
            raise InputError(f"{name}: not a proxy that can be used: it is written http://host:port")
        authorization = ""
        if match["user"] is not None:
            credentials = binascii.b2a_base64(unquote_to_bytes(match["user"]), newline=False).decode()
            authorization = f"Proxy-Authorization: Basic {credentials}\r\n"
        return Proxy(match["v6"] or match["host"], int(match["port"] or 80), authorization)


async def open_tunnel(
    loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, proxy: Proxy, host: str, port: int, what: str
) -> None:
    """Has the proxy at the other end of `transport` connect to a host. RemoteError when it does not."""
    opening = _Opening(loop)
    transport.set_protocol(opening)
    place = f"{f'[{host}]' if ':' in host else host}:{port}"
    transport.write(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{proxy.authorization}\r\n".encode("ascii"))
    head = await opening.head
    match = _STATUS.match(head)
    if match is None:
        raise RemoteError(f"{what}: {proxy}: gives no tunnel: check the proxy", what=what)
    if not match[1].startswith(b"2"):
        said = f"{match[1].decode()} {printable(match[2])[:60]}".rstrip()
        raise RemoteError(f"{what}: {proxy}: HTTP {said}: check the proxy, or its no_proxy", what=what)


async def start_tls(
    loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, protocol: asyncio.Protocol, tls: ssl.SSLContext, host: str
) -> None:
    """TLS with a host at the end of a tunnel, for a protocol that begins there."""
    secured = await loop.start_tls(transport, protocol, tls, server_hostname=host)
    assert secured is not None
    protocol.connection_made(secured)


class _Opening(asyncio.Protocol):
    """Waits for the head of the answer to CONNECT; `head` is what has come when the connection ends before."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.head: asyncio.Future[bytes] = loop.create_future()
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        if (b"\r\n\r\n" in self._data or len(self._data) > MAX_HEAD) and not self.head.done():
            self.head.set_result(self._data[:MAX_HEAD])

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.head.done():
            self.head.set_result(self._data)


def _named(environment: Mapping[str, str], name: str) -> tuple[str, str] | None:
    for key in (name, name.upper(), "all_proxy", "ALL_PROXY"):
        if text := environment.get(key, "").strip():
            return key, text
    return None


def _on_this_machine(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _covers(word: str, host: str, port: int) -> bool:
    """Whether an entry of no_proxy means this host: `*`, a domain and all below it, an address, a network, each
    with a port or without.
    """
    if word == "*":
        return True
    name, colon, digits = word.rpartition(":")
    if colon and digits.isdigit() and (":" not in name or name.endswith("]")):
        if int(digits) != port:
            return False
        word = name
    word = word.strip("[]")
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(word, strict=False)
    except ValueError:
        pass  # one of them is a name
    domain = word.removeprefix("*").lstrip(".")
    return host == domain or host.endswith(f".{domain}")
