"""The embedded tracker over HTTP: /announce and /scrape, alone or below a key (BEP 3, 7, 23, 24, 48).

Importing this loads aiohttp.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

from aiohttp import web

from btfast._bencode import encode
from btfast.errors import RemoteError
from btfast.tracker.access import Access
from btfast.tracker.store import Announced, TrackerStore

MAX_FIELDS = 100
MAX_SCRAPED = 200
KEEPALIVE_SECONDS = 60.0
BACKLOG = 1024
SHUTDOWN_SECONDS = 0.05

_HEADERS = {"Content-Type": "text/plain", "Cache-Control": "no-store"}
_EVENTS = {b"": None, b"started": "started", b"completed": "completed", b"stopped": "stopped"}


class HttpFace:
    """Answers HTTP on a socket that it is given."""

    def __init__(self, store: TrackerStore, access: Access, interval: int, now: Callable[[], float]) -> None:
        self._store = store
        self._access = access
        self._interval = interval
        self._now = now
        self._web = web.Server(self._handle, access_log=None, keepalive_timeout=KEEPALIVE_SECONDS)
        self._server: asyncio.Server | None = None

    async def start(self, listening: socket.socket) -> None:
        self._server = await asyncio.get_running_loop().create_server(self._web, sock=listening, backlog=BACKLOG)

    async def close(self) -> None:
        """Stop listening and close every connection."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            await self._web.shutdown(timeout=SHUTDOWN_SECONDS)
            await server.wait_closed()

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        path, _, query = request.raw_path.partition("?")
        kind = path.rpartition("/")[2]
        if kind not in ("announce", "scrape"):
            return web.Response(status=404, text="btfast tracker: announce at /announce\n")
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, headers={"Allow": "GET, HEAD"})
        try:
            fields = _fields(query)
            self._access.check_key(request.raw_path.encode("utf-8", "surrogateescape"))
            answer = self._announce(request, fields) if kind == "announce" else self._scrape(fields)
        except RemoteError as error:
            answer = {b"failure reason": str(error).encode()}
        return web.Response(body=encode(answer), headers=_HEADERS)

    def _announce(self, request: web.BaseRequest, fields: dict[bytes, list[bytes]]) -> dict[bytes, object]:
        address = _address(request.remote)
        port = _number(fields, b"port", None)
        if not 0 < port < 65536:
            raise RemoteError("port is out of range")
        event = _first(fields, b"event", b"")
        numwant = _first(fields, b"numwant", b"")
        info_hash = _identifier(fields, b"info_hash")
        self._access.check_torrent(info_hash)
        announced = self._store.announce(
            self._now(),
            info_hash,
            address + port.to_bytes(2, "big"),
            _identifier(fields, b"peer_id"),
            left=_number(fields, b"left", 1),
            # Events this tracker has no use for, such as BEP 21's "paused", are plain updates.
            event=_EVENTS.get(event),
            numwant=int(numwant) if numwant.isdigit() and len(numwant) < 10 else None,
        )
        answer: dict[bytes, object] = {
            b"interval": self._interval,
            b"min interval": max(self._interval // 2, 1),
            b"complete": announced.complete,
            b"incomplete": announced.incomplete,
            b"downloaded": announced.downloaded,
            b"external ip": address,
        }
        if _first(fields, b"compact", b"1") == b"0":
            answer[b"peers"] = _dictionaries(announced, ids=_first(fields, b"no_peer_id", b"0") != b"1")
        else:
            answer[b"peers"] = b"".join([peer for peer, _ in announced.peers if len(peer) == 6])
            peers6 = b"".join([peer for peer, _ in announced.peers if len(peer) == 18])
            if peers6 or len(address) == 16:
                answer[b"peers6"] = peers6
        return answer

    def _scrape(self, fields: dict[bytes, list[bytes]]) -> dict[bytes, object]:
        wanted = fields.get(b"info_hash")
        if wanted is None:
            self._access.check_listing()
            wanted = self._store.info_hashes()
            if len(wanted) > MAX_SCRAPED:
                raise RemoteError("too many torrents to list: name some with info_hash")
        elif len(wanted) > MAX_SCRAPED:
            raise RemoteError(f"at most {MAX_SCRAPED} torrents can be asked for at once")
        files: dict[bytes, object] = {}
        now = self._now()
        for info_hash in wanted:
            if len(info_hash) != 20:
                raise RemoteError("info_hash is not 20 bytes long")
            scraped = self._store.scrape(now, info_hash)
            if scraped is not None:
                files[info_hash] = scraped._asdict()
        return {b"files": files, b"flags": {b"min_request_interval": max(self._interval // 2, 1)}}


def _fields(query: str) -> dict[bytes, list[bytes]]:
    """The query's names and values as raw bytes: an info-hash is not text, and "+" stands for itself."""
    parts = query.split("&", MAX_FIELDS + MAX_SCRAPED)
    if len(parts) > MAX_FIELDS + MAX_SCRAPED:
        raise RemoteError("too many fields in the query")
    fields: dict[bytes, list[bytes]] = {}
    for part in parts:
        name, equals, value = part.encode("utf-8", "surrogateescape").partition(b"=")
        if equals:
            fields.setdefault(unquote_to_bytes(name), []).append(unquote_to_bytes(value))
    return fields


def _first(fields: dict[bytes, list[bytes]], name: bytes, default: bytes) -> bytes:
    return fields[name][0] if name in fields else default


def _identifier(fields: dict[bytes, list[bytes]], name: bytes) -> bytes:
    value = _first(fields, name, b"")
    if len(value) != 20:
        raise RemoteError(f"{name.decode()} is missing or not 20 bytes long")
    return value


def _number(fields: dict[bytes, list[bytes]], name: bytes, default: int | None) -> int:
    value = _first(fields, name, b"")
    if not value and default is not None:
        return default
    if not value.isdigit() or len(value) > 19:
        raise RemoteError(f"{name.decode()} is missing or not a number")
    return int(value)


def _address(remote: str | None) -> bytes:
    """The packed address of who asks; an `ip` field is not believed, it could point at anybody."""
    if not remote:
        raise RemoteError("the connection has no address")
    address = ipaddress.ip_address(remote.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.packed


def _dictionaries(announced: Announced, *, ids: bool) -> list[dict[bytes, object]]:
    peers = []
    for compact, peer_id in announced.peers:
        host = str(ipaddress.ip_address(compact[:-2])).encode()
        peer: dict[bytes, object] = {b"ip": host, b"port": int.from_bytes(compact[-2:], "big")}
        if ids:
            peer[b"peer id"] = peer_id
        peers.append(peer)
    return peers
