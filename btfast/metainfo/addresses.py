"""Addresses of peers: values, their text, and the compact form of BEP 5, 7, 11 and 23."""

from __future__ import annotations

import functools
import ipaddress
import struct
from collections.abc import Iterable
from typing import NamedTuple

from btfast.errors import InputError, RemoteError

_V4 = struct.Struct("!4BH")
_V6 = struct.Struct("!16sH")


class PeerAddress(NamedTuple):
    """Where a peer listens. `host` is a literal address: IPv4 dotted or IPv6 compressed."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def decode_compact(data: bytes, *, v6: bool = False) -> list[PeerAddress]:
    """Addresses in `data`: 6 bytes each (4 + 2, BEP 23), with `v6` 18 bytes each (16 + 2, BEP 7).

    Entries with port 0 are dropped; an IPv4 address mapped into IPv6 comes out as IPv4. Raises RemoteError when the
    length is not a multiple of the entry size.
    """
    size = 18 if v6 else 6
    if len(data) % size:
        raise RemoteError(
            f"compact addresses: {len(data)} bytes is not a multiple of {size}: ask another source", length=len(data)
        )
    if v6:
        return [PeerAddress(_v6_text(host), port) for host, port in _V6.iter_unpack(data) if port]
    return [PeerAddress(f"{a}.{b}.{c}.{d}", port) for a, b, c, d, port in _V4.iter_unpack(data) if port]


@functools.lru_cache(maxsize=4096)
def packed_host(host: str) -> bytes:
    """The 4 or 16 bytes of a literal address. ValueError for anything else."""
    return ipaddress.ip_address(host).packed


@functools.lru_cache(maxsize=4096)
def host_text(packed: bytes) -> str:
    """The literal address that 4 or 16 bytes are; an IPv4 address mapped into IPv6 comes out as IPv4."""
    return str(ipaddress.IPv4Address(packed)) if len(packed) == 4 else _v6_text(packed)


def encode_compact(addresses: Iterable[PeerAddress]) -> tuple[bytes, bytes]:
    """The IPv4 entries (6 bytes each) and the IPv6 entries (18 bytes each) of `addresses`, in their order.

    Raises InputError for a host that is not a literal address, or a port outside 0..65535.
    """
    v4 = bytearray()
    v6 = bytearray()
    for host, port in addresses:
        if not 0 <= port <= 65535:
            raise InputError(f"port {port}: out of range: use 1 to 65535", port=port)
        try:
            packed = packed_host(host)
        except ValueError:
            raise InputError(f"address {host!r}: not a literal IP address: resolve it first", host=host) from None
        (v4 if len(packed) == 4 else v6).extend(packed + port.to_bytes(2, "big"))
    return bytes(v4), bytes(v6)


def encode_both(addresses: Iterable[PeerAddress]) -> bytes:
    """IPv4 and IPv6 addresses in one: how many bytes the former take, both in compact form."""
    v4, v6 = encode_compact(addresses)
    return len(v4).to_bytes(4, "big") + v4 + v6


def decode_both(data: bytes) -> list[PeerAddress]:
    """What encode_both made. Raises RemoteError."""
    split = 4 + int.from_bytes(data[:4], "big")
    return decode_compact(data[4:split]) + decode_compact(data[split:], v6=True)


def parse_host_port(text: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`; the host may be a name, a literal is normalised.

    Raises InputError.
    """
    cleaned = text.strip()
    if cleaned.startswith("["):
        host, bracket, rest = cleaned[1:].partition("]")
        if not bracket or not rest.startswith(":"):
            raise _unusable(text, "an IPv6 address is written [address]:port")
        port_text = rest[1:]
        try:
            host = ipaddress.IPv6Address(host).compressed
        except ValueError:
            raise _unusable(text, "the address in brackets is not IPv6") from None
    else:
        host, colon, port_text = cleaned.rpartition(":")
        if not colon or not host:
            raise _unusable(text, "host or port is missing")
        if ":" in host:
            raise _unusable(text, "an IPv6 address is written [address]:port")
        if len(host) > 253 or not host.isprintable() or any(c in " /\\@?#[]%" for c in host):
            raise _unusable(text, "the host name has characters that no host name has")
    if not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5 and 0 < int(port_text) <= 65535):
        raise _unusable(text, "the port is not a number from 1 to 65535")
    return host, int(port_text)


def _v6_text(packed: bytes) -> str:
    address = ipaddress.IPv6Address(packed)
    mapped = address.ipv4_mapped
    return address.compressed if mapped is None else str(mapped)


def _unusable(text: str, why: str) -> InputError:
    return InputError(f"address {text[:80]!r}: {why}: write host:port or [v6]:port", text=text)
