"""What a DHT node has to tell."""

from __future__ import annotations

from typing import NamedTuple

from btfast.discovery.dht.items import Item
from btfast.metainfo.addresses import PeerAddress


class PeersFound(NamedTuple):
    """Peers of an info-hash, each told once a search."""

    search: int
    info_hash: bytes
    peers: list[PeerAddress]


class ItemFound(NamedTuple):
    """A value with its hash or signature verified; of a mutable one newer ones may follow."""

    search: int
    item: Item


class HashesFound(NamedTuple):
    """Info-hashes that a node has (BEP 51), each told once a search."""

    search: int
    hashes: list[bytes]


class SearchEnded(NamedTuple):
    """Nothing follows. `stored`: nodes that took what was to be stored; `seeds`, `peers`: BEP 33, None when nobody said."""

    search: int
    target: bytes
    questions: int
    answers: int
    hops: int
    seconds: float
    found: int
    stored: int
    seeds: float | None
    peers: float | None


class Moved(NamedTuple):
    """Others agree on where we are: our id in this family follows (BEP 42)."""

    host: bytes
    node_id: bytes


Event = PeersFound | ItemFound | HashesFound | SearchEnded | Moved
