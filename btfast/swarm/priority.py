"""The canonical priority of a connection (BEP 40): both ends reckon the same number, and strangers cannot choose it."""

from __future__ import annotations

import ipaddress

from btfast.metainfo.addresses import PeerAddress
from btfast.metainfo.crc32c import crc32c

_V4_MASKS = (0xFFFF5555, 0xFFFFFF55, 0xFFFFFFFF)


def peer_priority(one: PeerAddress, other: PeerAddress) -> int:
    """32 bits, the same both ways; the higher is the better connection. 0 for addresses of two families."""
    if one.host == other.host:
        ports = sorted((one.port, other.port))
        return crc32c(ports[0].to_bytes(2, "big") + ports[1].to_bytes(2, "big"))
    first, second = ipaddress.ip_address(one.host), ipaddress.ip_address(other.host)
    if first.version != second.version:
        return 0
    size = len(first.packed)
    mask = _mask(int(first) ^ int(second), size)
    ends = sorted((int(first) & mask, int(second) & mask))
    return crc32c(ends[0].to_bytes(size, "big") + ends[1].to_bytes(size, "big"))


def _mask(difference: int, size: int) -> int:
    """Less of the addresses counts the farther they are apart: who rules a network has no better choice for it."""
    if size == 4:
        return _V4_MASKS[(difference < 1 << 16) + (difference < 1 << 8)]
    whole = 6  # bytes that count in full, and one more for each that is the same beyond
    while whole < 16 and difference < 1 << (128 - 8 * whole):
        whole += 1
    return int.from_bytes(b"\xff" * whole + b"\x55" * (16 - whole), "big")
