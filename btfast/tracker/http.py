"""The embedded tracker over HTTP: /announce and /scrape, alone or below a key (BEP 3, 7, 23, 24, 48)."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

from btfast._bencode import encode
from btfast.errors import RemoteError
from btfast.tracker.access import Access
from btfast.tracker.http_server import Answer, HttpServer
from btfast.tracker.store import Announced, TrackerStore

MAX_FIELDS = 100
MAX_SCRAPED = 200

_OK, _NO_STORE = b"200 OK", b"Cache-Control: no-store\r\n"
_NOT_HERE = Answer(b"404 Not Found", b"btfast tracker: announce at /announce\n")
_NOT_SO = Answer(b"405 Method Not Allowed", b"", b"Allow: GET, HEAD\r\n")
_EVENTS = {b"": None, b"started": "started", b"completed": "completed", b"stopped": "stopped"}


class HttpFace:
    """Answers HTTP on a socket that it is given."""

    def __init__(self, store: TrackerStore, access: Access, interval: int, now: Callable[[], float]) -> None:
        self._store = store
        self._access = access
        self._interval = interval
        self._now = now
        self._server = HttpServer(self.answer)

    async def start(self, listening: socket.socket) -> None:
        await self._server.start(listening)

    async def close(self) -> None:
        """Stop listening and close every connection."""
        await self._server.close()

    def answer(self, method: bytes, target: bytes, address: bytes) -> Answer:
        """What a request gets; `address`: the packed one of who asks."""
        path, _, query = target.partition(b"?")
        kind = path.rpartition(b"/")[2]
        if kind not in (b"announce", b"scrape"):
            return _NOT_HERE
        if method not in (b"GET", b"HEAD"):
            return _NOT_SO
        try:
            fields = _fields(query)
            self._access.check_key(target)
            answer = self._announce(address, fields) if kind == b"announce" else self._scrape(fields)
        except RemoteError as error:
            answer = {b"failure reason": str(error).encode()}
        return Answer(_OK, encode(answer), _NO_STORE)

    def _announce(self, address: bytes, fields: dict[bytes, list[bytes]]) -> dict[bytes, object]:
        """An `ip` field is not believed, it could point at anybody."""
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


def _fields(query: bytes) -> dict[bytes, list[bytes]]:
    """The query's names and values as raw bytes: an info-hash is not text, and "+" stands for itself."""
    parts = query.split(b"&", MAX_FIELDS + MAX_SCRAPED)
    if len(parts) > MAX_FIELDS + MAX_SCRAPED:
        raise RemoteError("too many fields in the query")
    fields: dict[bytes, list[bytes]] = {}
    for part in parts:
        name, equals, value = part.partition(b"=")
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


def _dictionaries(announced: Announced, *, ids: bool) -> list[dict[bytes, object]]:
    peers = []
    for compact, peer_id in announced.peers:
        host = str(ipaddress.ip_address(compact[:-2])).encode()
        peer: dict[bytes, object] = {b"ip": host, b"port": int.from_bytes(compact[-2:], "big")}
        if ids:
            peer[b"peer id"] = peer_id
        peers.append(peer)
    return peers
