"""Local service discovery (BEP 14): its datagrams as bytes and values, and when which torrents are announced."""

from __future__ import annotations

import re
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Final, NamedTuple

from btfast.errors import RemoteError

GROUP_V4: Final = "239.192.152.143"
GROUP_V6: Final = "ff15::efc0:988f"
PORT: Final = 6771
MAX_DATAGRAM: Final = 1400  # bytes, sent; BEP 14's
MAX_READ: Final = 4096  # bytes of a datagram that is read at all
MAX_HASHES: Final = 64  # read from one datagram
MAX_COOKIE: Final = 64  # bytes

START: Final = 1.0  # seconds until a torrent's first announce: many are done by then
INTERVAL: Final = 300.0  # seconds between its announces
LEAST: Final = 60.0  # and when it urgently wants peers
A_POLL: Final = 2  # datagrams; a poll a second spreads those of many torrents

_HASH = re.compile(rb"[0-9A-Fa-f]{40}")


class LsdAnnounce(NamedTuple):
    """Somebody in the local network has these torrents, and accepts connections at `port`."""

    port: int
    info_hashes: tuple[bytes, ...]
    cookie: bytes


def encode_lsd(info_hashes: Sequence[bytes], *, v6: bool, port: int, cookie: bytes) -> bytes:
    """One datagram. As many info-hashes as `room` says fit."""
    lines = [
        b"BT-SEARCH * HTTP/1.1", b"Host: %b:%d" % (b"[%b]" % GROUP_V6.encode() if v6 else GROUP_V4.encode(), PORT),
        b"Port: %d" % port, *[b"Infohash: " + info_hash.hex().encode() for info_hash in info_hashes],
        b"cookie: " + cookie, b"", b"", b"",
    ]  # fmt: skip
    return b"\r\n".join(lines)


def room(*, cookie: bytes) -> int:
    """How many info-hashes fit one datagram."""
    return (MAX_DATAGRAM - len(encode_lsd([], v6=True, port=65535, cookie=cookie))) // len(b"Infohash: \r\n" + b"0" * 40)


def decode_lsd(data: bytes) -> LsdAnnounce:
    """Reads a datagram; header names in any case, unknown ones are left. Raises RemoteError."""
    if len(data) > MAX_READ:
        raise RemoteError(f"LSD: {len(data)} bytes in one datagram: it is ignored", length=len(data))
    first, *lines = data.split(b"\r\n")
    if not first.upper().startswith(b"BT-SEARCH * HTTP/1."):
        raise RemoteError("LSD: not an announce: it is ignored")
    port = 0
    cookie = b""
    hashes: dict[bytes, None] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        name, value = name.strip().lower(), value.strip()
        if name == b"port" and value.isdigit() and len(value) <= 5:
            port = int(value)
        elif name == b"cookie":
            cookie = value[:MAX_COOKIE]
        elif name == b"infohash" and len(hashes) < MAX_HASHES and _HASH.fullmatch(value):
            hashes[bytes.fromhex(value.decode())] = None
    if not 0 < port < 65536:
        raise RemoteError("LSD: no usable port: it is ignored")
    if not hashes:
        raise RemoteError("LSD: no usable info-hash: it is ignored")
    return LsdAnnounce(port, tuple(hashes), cookie)


class LsdSchedule:
    """Which torrents to announce now. Reckons with any number of them that come and go."""

    def __init__(self, per_datagram: int) -> None:
        self._per_datagram = per_datagram
        self._due: dict[bytes, float] = {}
        self._last: dict[bytes, float] = {}
        self._queue: list[tuple[float, bytes]] = []

    def __len__(self) -> int:
        return len(self._due)

    def add(self, info_hash: bytes, now: float) -> None:
        """A torrent that others may have."""
        self._plan(info_hash, now + START)

    def remove(self, info_hash: bytes) -> None:
        """It has ended."""
        self._due.pop(info_hash, None)
        self._last.pop(info_hash, None)

    def want(self, info_hash: bytes, now: float) -> None:
        """It has too few peers: announce it as soon as BEP 14 allows."""
        if info_hash in self._last:
            at = max(now, self._last[info_hash] + LEAST)
            if at < self._due[info_hash]:
                self._plan(info_hash, at)

    def poll(self, now: float) -> list[list[bytes]]:
        """The info-hashes of each datagram to send now; the rest follows at the next poll."""
        batches: list[list[bytes]] = []
        while self._queue and self._queue[0][0] <= now:
            at, info_hash = self._queue[0]
            if self._due.get(info_hash) == at:
                if not batches or len(batches[-1]) == self._per_datagram:
                    if len(batches) == A_POLL:
                        break
                    batches.append([])
                batches[-1].append(info_hash)
                self._last[info_hash] = now
                self._plan(info_hash, now + INTERVAL)
            heappop(self._queue)
        if len(self._queue) > 2 * len(self._due) + 64:  # most have ended
            self._queue = sorted((at, info_hash) for info_hash, at in self._due.items())
        return batches

    def _plan(self, info_hash: bytes, at: float) -> None:
        self._due[info_hash] = at
        heappush(self._queue, (at, info_hash))


class Dampers:
    """How many datagrams of one host are heard: a few in a while, whatever it sends."""

    def __init__(self, most: int = 20, seconds: float = 10.0, hosts: int = 256) -> None:
        self._most = most
        self._seconds = seconds
        self._hosts = hosts
        self._heard: dict[str, int] = {}
        self._until = -1.0

    def hears(self, host: str, now: float) -> bool:
        """Whether one more of `host` is listened to."""
        if now >= self._until:
            self._heard.clear()
            self._until = now + self._seconds
        count = self._heard.get(host, 0)
        if count >= self._most or (not count and len(self._heard) >= self._hosts):
            return False
        self._heard[host] = count + 1
        return True
