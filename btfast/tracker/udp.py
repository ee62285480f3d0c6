"""The embedded tracker over UDP: connect, announce and scrape (BEP 15), with the announce URL's key (BEP 41).

It cannot be used against others. A connection id is a keyed hash of the asker's address and of the time, so that
nothing is stored for who only claims an address, and only who receives at an address is served there. Before that is
shown, no answer is longer than its question; what is too short to be a question is not answered at all.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import struct
from collections.abc import Callable

from btfast.discovery.udp_tracker import (
    ANNOUNCE,
    ANNOUNCE_BODY,
    CONNECT,
    ERROR,
    HEADER,
    MAX_SCRAPED,
    PROTOCOL_ID,
    REPLY,
    SCRAPE,
    SCRAPE_ENTRY,
    url_data,
)
from btfast.errors import RemoteError
from btfast.tracker.access import Access
from btfast.tracker.store import TrackerStore

DATAGRAMS = 256  # answered in one wake-up: HTTP has its turn between
LARGEST = 4096  # a scrape of 74 torrents has 1496 bytes, an announce URL may be long
SOCKET_BUFFER = 4 << 20
ID_SECONDS = 120  # a connection id is good for one to two times as long
REMEMBERED_IDS = 4096
NUMWANT_V6 = 50  # of 18 bytes each; 74 of 6 bytes, or 200, still fit one packet

_ANNOUNCE_SIZE = HEADER.size + ANNOUNCE_BODY.size
_EVENTS = (None, "completed", "started", "stopped")
_ANSWER = struct.Struct("!IIIII")
_WRONG_ID = b"wrong connection id"


class UdpFace:
    """Answers UDP on sockets that it is given."""

    def __init__(self, store: TrackerStore, access: Access, interval: int, now: Callable[[], float]) -> None:
        self._store = store
        self._access = access
        self._interval = interval
        self._now = now
        self._secret = os.urandom(32)
        self._ids: dict[str, tuple[bytes, bytes]] = {}
        self._epoch = -1
        self._sockets: list[socket.socket] = []
        self._loop = asyncio.get_running_loop()

    def start(self, sockets: list[socket.socket]) -> None:
        for sock in sockets:
            sock.setblocking(False)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER)
            self._loop.add_reader(sock.fileno(), self._readable, sock)
            self._sockets.append(sock)

    def close(self) -> None:
        for sock in self._sockets:
            self._loop.remove_reader(sock.fileno())
            sock.close()
        self._sockets.clear()

    def _readable(self, sock: socket.socket) -> None:
        now = self._now()
        self._renew_ids(now)
        family, receive, send = sock.family, sock.recvfrom, sock.sendto
        for _ in range(DATAGRAMS):
            try:
                data, source = receive(LARGEST)
                if len(data) < HEADER.size:
                    continue
                answer = self.answer(now, data, source[0], family)
                if answer is not None:
                    send(answer, source)
            except BlockingIOError:
                return  # nothing more, or no room for the answer: the asker asks again
            except OSError:
                continue  # the asker cannot be reached, or what is said about somebody before

    def answer(self, now: float, data: bytes, host: str, family: int) -> bytes | None:
        """What to say to a datagram of at least 16 bytes."""
        connection, action, tid = HEADER.unpack_from(data)
        ids = self._ids.get(host) or self._make_ids(host)
        if action == CONNECT and connection == PROTOCOL_ID:
            return REPLY.pack(CONNECT, tid) + ids[0]
        if connection not in ids:
            answer = REPLY.pack(ERROR, tid) + _WRONG_ID
            return answer if action in (ANNOUNCE, SCRAPE) and len(answer) <= len(data) else None
        try:
            if action == ANNOUNCE and len(data) >= _ANNOUNCE_SIZE:
                return self._announce(now, data, tid, host, family)
            if action == SCRAPE and len(data) >= HEADER.size + 20:
                return self._scrape(now, data, tid)
        except RemoteError as error:
            return REPLY.pack(ERROR, tid) + str(error).encode()
        return None

    def _announce(self, now: float, data: bytes, tid: int, host: str, family: int) -> bytes:
        info_hash, peer_id, _, left, _, event, _, _, numwant, port = ANNOUNCE_BODY.unpack_from(data, HEADER.size)
        if self._access.keys is not None:
            self._access.check_key(url_data(data[_ANNOUNCE_SIZE:]))
        self._access.check_torrent(info_hash)
        if not port:
            raise RemoteError("port is out of range")
        v6 = family == socket.AF_INET6
        address = socket.inet_pton(family, host.partition("%")[0] if v6 else host)
        if v6 and not 0 <= numwant <= NUMWANT_V6:
            numwant = NUMWANT_V6
        found = self._store.announce(
            now,
            info_hash,
            address + data[_ANNOUNCE_SIZE - 2 : _ANNOUNCE_SIZE],
            peer_id,
            left=left,
            event=_EVENTS[event] if event < 4 else None,
            numwant=numwant,
            same_family=True,
        )
        answer = _ANSWER.pack(ANNOUNCE, tid, self._interval, found.incomplete, found.complete)
        return answer + b"".join([compact for compact, _ in found.peers])

    def _scrape(self, now: float, data: bytes, tid: int) -> bytes:
        if self._access.keys is not None:
            raise RemoteError("a UDP scrape carries no key: scrape this tracker over HTTP")
        answer = [REPLY.pack(SCRAPE, tid)]
        count = min((len(data) - HEADER.size) // 20, MAX_SCRAPED)
        for at in range(HEADER.size, HEADER.size + 20 * count, 20):
            scraped = self._store.scrape(now, data[at : at + 20])
            answer.append(SCRAPE_ENTRY.pack(*scraped) if scraped is not None else bytes(12))
        return b"".join(answer)

    def _renew_ids(self, now: float) -> None:
        epoch = int(now // ID_SECONDS)
        if epoch != self._epoch or len(self._ids) > REMEMBERED_IDS:
            self._epoch = epoch
            self._ids.clear()

    def _make_ids(self, host: str) -> tuple[bytes, bytes]:
        """This period's id for an address, and that of the period before, which is good too."""
        ids = self._ids[host] = (self._id(host, self._epoch), self._id(host, self._epoch - 1))
        return ids

    def _id(self, host: str, epoch: int) -> bytes:
        return hashlib.blake2b(f"{epoch} {host}".encode(), digest_size=8, key=self._secret).digest()
