"""Node ids: 160 bits, near one another by XOR (BEP 5), and bound to their host's address (BEP 42)."""

from __future__ import annotations

from functools import lru_cache

from btfast.discovery.dht.endpoints import is_public
from btfast.metainfo.crc32c import crc32c

ID_BYTES = 20
ID_BITS = 160

_V4_MASK = 0x030F3FFF
_V6_MASK = 0x0103070F1F3F7FFF


def distance(one: bytes, other: bytes) -> int:
    """XOR, as a number."""
    return int.from_bytes(one, "big") ^ int.from_bytes(other, "big")


def _head(host: bytes, seed: int) -> int:
    """The first 21 bits that an id of this host has, in the upper bits of 32. `seed`: 0 to 7."""
    if len(host) == 4:
        masked = (int.from_bytes(host, "big") & _V4_MASK) | seed << 29
        return crc32c(masked.to_bytes(4, "big")) & 0xFFFFF800
    masked = (int.from_bytes(host[:8], "big") & _V6_MASK) | seed << 61
    return crc32c(masked.to_bytes(8, "big")) & 0xFFFFF800


def make_id(host: bytes, random: bytes) -> bytes:
    """An id for a node at `host` (4 or 16 bytes, b"" where it is not known) out of 20 random bytes (BEP 42)."""
    if len(random) != ID_BYTES:
        raise ValueError(f"{len(random)} random bytes, not {ID_BYTES}")
    if not host:
        return random
    head = _head(host, random[19] & 7) | (random[2] & 7) << 8
    return head.to_bytes(4, "big")[:3] + random[3:]


@lru_cache(1 << 14)
def fits(node_id: bytes, host: bytes) -> bool:
    """Whether the id is one that a node at `host` may have (BEP 42); where addresses are not public, any is."""
    if not is_public(host):
        return True
    return (int.from_bytes(node_id[:4], "big") ^ _head(host, node_id[19] & 7)) & 0xFFFFF800 == 0
