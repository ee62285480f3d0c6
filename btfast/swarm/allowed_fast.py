"""Pieces that a peer may ask for while it is choked, so that a newcomer has something to trade soon (BEP 6, ALLOWED FAST)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from btfast.metainfo.addresses import packed_host
from btfast.metainfo.geometry import BLOCK

MOST_PIECES = 10  # of a set
MOST_BYTES = 4 << 20  # of a set
TIMES = 2  # that a block is sent for nothing on one connection
REST = 600.0  # seconds after it has left before a host is given a set again: to reconnect is no gift
MOST_HOSTS = 2000  # that are remembered; while all of them are, others get nothing
MOST_HEARD = 64  # pieces that one peer may allow us


def allowed_fast_set(host: str, info_hash: bytes, pieces: int, count: int) -> list[int]:
    """The first `count` of a torrent's `pieces` that a host may have (all of them where there are fewer), as BEP 6 walks.

    The last byte of the address does not matter: a network gets the same pieces, however many addresses it has. There
    is no set for IPv6. ValueError for what is no address.
    """
    packed = packed_host(host)
    if len(packed) != 4:
        return []
    found: list[int] = []
    count = min(count, pieces)
    seed = packed[:3] + b"\0" + info_hash
    while len(found) < count:
        seed = hashlib.sha1(seed, usedforsecurity=False).digest()
        for at in range(0, 20, 4):
            index = int.from_bytes(seed[at : at + 4], "big") % pieces
            if index not in found and len(found) < count:
                found.append(index)
    return found


def set_size(piece_length: int) -> int:
    """Pieces of the set that we grant; 0 where one of `piece_length` bytes is more than should be given away."""
    return min(MOST_PIECES, MOST_BYTES // piece_length)


class Grant:
    """The pieces that one peer may ask for while we choke it, and how often it has had their blocks."""

    __slots__ = ("_sent",)

    def __init__(self, pieces: Iterable[int], piece_length: int) -> None:
        self._sent = {index: bytearray(-(-piece_length // BLOCK)) for index in pieces}

    def __contains__(self, index: int) -> bool:
        return index in self._sent

    def take(self, index: int, begin: int, length: int) -> bool:
        """Whether these bytes, which exist, may be sent; they count as sent then. A part of a block counts as all of it."""
        sent = self._sent.get(index)
        if sent is None:
            return False
        first, end = begin // BLOCK, -(-(begin + length) // BLOCK)
        if max(sent[first:end]) >= TIMES:
            return False
        for block in range(first, end):
            sent[block] += 1
        return True


class GrantedHosts:
    """Which hosts have a set, or had one a short while ago."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def take(self, host: str, now: float) -> bool:
        """Whether the host may be given a set; it counts as given then."""
        if len(self._until) >= MOST_HOSTS:
            self._until = {other: until for other, until in self._until.items() if until > now}
        if self._until.get(host, 0.0) > now or len(self._until) >= MOST_HOSTS:
            return False
        self._until[host] = float("inf")
        return True

    def left(self, host: str, now: float) -> None:
        """The connection that it was given the set on is gone."""
        self._until[host] = now + REST


class Allowance:
    """The pieces that one peer lets us ask for while it chokes us."""

    __slots__ = ("_heard",)

    def __init__(self) -> None:
        self._heard: dict[int, bool] = {}  # piece: it has not been refused

    @property
    def pieces(self) -> list[int]:
        """Those that it has not refused, as they came."""
        return [index for index, good in self._heard.items() if good]

    def add(self, index: int) -> None:
        """ALLOWED FAST; what was refused once stays so."""
        if len(self._heard) < MOST_HEARD:
            self._heard.setdefault(index, True)

    def refuse(self, index: int) -> None:
        """It rejects a request for the piece."""
        if index in self._heard:
            self._heard[index] = False

    def refuse_all(self) -> None:
        """It does not answer."""
        self._heard = dict.fromkeys(self._heard, False)
