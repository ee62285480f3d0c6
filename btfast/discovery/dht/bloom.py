"""BEP 33: how many seeds and peers a torrent has, as filters of 256 bytes that many nodes' answers are united in."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

FILTER_BYTES = 256
_BITS = 8 * FILTER_BYTES
_MASK = _BITS - 1


def bits_of(host: bytes) -> int:
    """The two bits that a host's 4 or 16 bytes set, as a number whose bit i is the filter's bit i."""
    hashed = hashlib.sha1(host).digest()
    first = (hashed[0] | hashed[1] << 8) & _MASK
    second = (hashed[2] | hashed[3] << 8) & _MASK
    return 1 << first | 1 << second


def make_filter(hosts: Iterable[bytes]) -> bytes:
    """The filter that these hosts are in."""
    bits = 0
    for host in hosts:
        bits |= bits_of(host)
    return bits.to_bytes(FILTER_BYTES, "little")


def united(one: bytes, other: bytes) -> bytes:
    """The filter of everything in either."""
    bits = int.from_bytes(one, "little") | int.from_bytes(other, "little")
    return bits.to_bytes(FILTER_BYTES, "little")


def estimate(filter: bytes) -> float:
    """How many hosts are in it, about."""
    zeros = _BITS - int.from_bytes(filter, "little").bit_count()
    zeros = min(_BITS - 1, max(1, zeros))
    if int.from_bytes(filter, "little") == 0:
        return 0.0
    return math.log(zeros / _BITS) / (2 * math.log(1 - 1 / _BITS))
