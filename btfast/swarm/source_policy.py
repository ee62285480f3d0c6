"""Who may send us where. The one place that decides it, for peers and for web requests.

What a stranger names must not make us knock at doors inside our machine or our network, nor at services that never
asked for it. So an address is taken only from who can reach it at least as well: loopback from the loopback, a local
one from a local source, a public one from anybody. Ports below 1024 belong to other services: only trackers may name
80 and 443, where peers hide from firewalls. What the user named is his own affair.
"""

from __future__ import annotations

from collections.abc import Iterable

from btfast.metainfo.addresses import PeerAddress
from btfast.metainfo.reach import Reach, reach_of
from btfast.swarm.peers import Source

LOWEST_PORT = 1024
WEB_PORTS = (80, 443)


def may_name(source: Source, namer: Reach, address: PeerAddress) -> bool:
    """Whether `source`, itself at an address of reach `namer`, may make us connect to `address`."""
    if source is Source.OPTION:
        return True
    if address.port < LOWEST_PORT and not (source is Source.TRACKER and address.port in WEB_PORTS):
        return False
    return namer <= reach_of(address.host) <= Reach.PUBLIC


def allowed(source: Source, namer: Reach, addresses: Iterable[PeerAddress]) -> list[PeerAddress]:
    """Those of `addresses` that `source` may name."""
    return [address for address in addresses if may_name(source, namer, address)]


def may_redirect(before: Reach, after: Reach, port: int) -> bool:
    """Whether a web server of reach `before` may redirect us to a `port` of a host of reach `after`."""
    return before <= after <= Reach.PUBLIC and (port >= LOWEST_PORT or port in WEB_PORTS)
