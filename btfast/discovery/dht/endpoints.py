"""Where a node or a peer is, as the DHT writes it: the host's 4 or 16 bytes and 2 of port (BEP 5, 32).

The DHT keeps addresses in this form throughout: it is what packets carry, and it hashes and compares fast.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from btfast.metainfo.addresses import PeerAddress
from btfast.metainfo.reach import Reach, reach_of

Endpoint = bytes
V4_BYTES = 6
V6_BYTES = 18
LOWEST_PORT = 1024  # below it are services that answer to anybody: no node or peer that strangers name is there

_V4_MAPPED = bytes(10) + b"\xff\xff"


def pack(address: PeerAddress) -> Endpoint | None:
    """The endpoint of a literal address; None where it is none. An IPv4 address mapped into IPv6 becomes IPv4."""
    try:
        host = ipaddress.ip_address(address.host.partition("%")[0]).packed
    except ValueError:
        return None
    if not 0 < address.port <= 65535:
        return None
    if len(host) == 16 and host.startswith(_V4_MAPPED):
        host = host[12:]
    return host + address.port.to_bytes(2, "big")


def unpack(endpoint: Endpoint) -> PeerAddress:
    """The address of an endpoint."""
    return PeerAddress(_text(endpoint[:-2]), int.from_bytes(endpoint[-2:], "big"))


@lru_cache(4096)
def _text(host: bytes) -> str:
    return str(ipaddress.ip_address(host))


def is_v6(endpoint: Endpoint) -> bool:
    return len(endpoint) == V6_BYTES


def port_of(endpoint: Endpoint) -> int:
    return endpoint[-2] << 8 | endpoint[-1]


@lru_cache(1 << 14)
def reach(host: bytes) -> Reach:
    """From where the host with these 4 or 16 bytes can be reached."""
    if len(host) == 16 and host.startswith(_V4_MAPPED):
        return Reach.NOWHERE  # no datagram carries it
    return reach_of(_text(host))


def is_public(host: bytes) -> bool:
    """Whether the host's 4 or 16 bytes are an address of the open internet."""
    return reach(host) is Reach.PUBLIC


def may_be_named(endpoint: Endpoint, namer: Reach) -> bool:
    """Whether somebody of reach `namer` may send us there.

    Who is on the open internet himself cannot know who is in our own network: such names are a way to make us talk to it.
    """
    return endpoint[-2] << 8 >= LOWEST_PORT and namer <= reach(endpoint[:-2]) <= Reach.PUBLIC


def may_speak(endpoint: Endpoint) -> bool:
    """Whether a datagram that claims to be from there is looked at."""
    return endpoint[-2:] != b"\0\0" and reach(endpoint[:-2]) is not Reach.NOWHERE


def host_key(endpoint: Endpoint) -> bytes:
    """What one party has at the least: an IPv4 address, the /64 of a public IPv6 address; on the loopback each port.

    Nobody floods us from outside over the loopback, and there many nodes share an address.
    """
    host = endpoint[:-2]
    where = reach(host)
    if where is Reach.LOOPBACK:
        return endpoint
    return host[:8] if len(host) == 16 and where is Reach.PUBLIC else host


def network_key(endpoint: Endpoint) -> bytes | None:
    """What one party may well have: the /24 of an IPv4 address, the /48 of an IPv6 address; None in a private network."""
    host = endpoint[:-2]
    if not is_public(host):
        return None
    return host[:3] if len(host) == 4 else host[:6]
