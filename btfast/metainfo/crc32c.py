"""CRC-32C (Castagnoli): of a few bytes at a time, for node ids (BEP 42) and peer priorities (BEP 40)."""

from __future__ import annotations

_POLYNOMIAL = 0x82F63B78  # reflected


def _entry(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
    return value


_TABLE = tuple(map(_entry, range(256)))


def crc32c(data: bytes) -> int:
    """32 bits, unsigned."""
    value = 0xFFFFFFFF
    for byte in data:
        value = (value >> 8) ^ _TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF
