"""From where an address can be reached: this machine, a network that is not the public one, everywhere, nowhere."""

from __future__ import annotations

import functools
import ipaddress
from enum import IntEnum


class Reach(IntEnum):
    """Ordered from near to far."""

    LOOPBACK = 0
    LOCAL = 1  # private, link-local, shared by a provider's customers, or reserved for such uses
    PUBLIC = 2
    NOWHERE = 3  # unspecified, multicast, broadcast: no host has it


class Way:
    """How near the host is that led to a URL, None where nobody did; after the fetch, the one that the body came from."""

    __slots__ = ("reach",)

    def __init__(self, reach: Reach | None = None) -> None:
        self.reach = reach

    def lead(self, reach: Reach) -> None:
        """A host so near leads on, or answers; who led to it counts as well."""
        self.reach = reach if self.reach is None else max(self.reach, reach)


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


@functools.lru_cache(maxsize=8192)
def is_link_local(host: str) -> bool:
    """Whether a literal address means something on one link alone."""
    return ipaddress.ip_address(host).is_link_local


@functools.lru_cache(maxsize=8192)
def reach_of(host: str) -> Reach:
    """The reach of a literal address, with or without a zone; an IPv4 address in IPv6 clothes counts as what it is."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            address = inner
    if address.is_loopback:
        return Reach.LOOPBACK
    if address.is_unspecified or address.is_multicast or (address.version == 4 and address.is_reserved):
        return Reach.NOWHERE
    if address.version == 4 and int(address) >> 24 == 0:
        return Reach.NOWHERE  # 0.0.0.0/8: the system takes it for itself
    return Reach.PUBLIC if address.is_global else Reach.LOCAL
