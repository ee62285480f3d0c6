"""What we answer to the queries of others (BEP 5, 32, 33, 44, 51)."""

from __future__ import annotations

from typing import Any, NamedTuple

from btfast.discovery.dht import krpc
from btfast.discovery.dht.endpoints import LOWEST_PORT, Endpoint, is_v6
from btfast.discovery.dht.items import ItemStore, Refused, Signatures, decode_value, is_canonical, item_of_put
from btfast.discovery.dht.krpc import Query
from btfast.discovery.dht.peer_store import PeerStore
from btfast.discovery.dht.table import Table
from btfast.discovery.dht.tokens import Tokens

ROOM = 1000  # bytes of an answer's lists: the datagram stays below 1,280, which every path carries
MAX_VALUES = 50
SCRAPE_BYTES = 530


class Family(NamedTuple):
    """Our id and our table in one address family."""

    node_id: bytes
    table: Table


class Answers:
    """`families`: IPv4's and IPv6's, None for one that we are not in."""

    def __init__(
        self, tokens: Tokens, peers: PeerStore, items: ItemStore, signatures: Signatures | None
    ) -> None:
        self._tokens = tokens
        self._peers = peers
        self._items = items
        self._signatures = signatures
        self.families: list[Family | None] = [None, None]
        self._methods = {
            b"ping": self._ping,
            b"find_node": self._find_node,
            b"get_peers": self._get_peers,
            b"announce_peer": self._announce_peer,
            b"get": self._get,
            b"put": self._put,
            b"sample_infohashes": self._sample,
        }

    def answer(self, query: Query, data: bytes, endpoint: Endpoint, now: float) -> dict[bytes, Any]:
        """The values of the reply. Raises Refused. `data`: the packet as it came."""
        family = self.families[is_v6(endpoint)]
        if family is None:
            raise Refused(krpc.SERVER, "this address family is not served")
        method = self._methods.get(query.method)
        if method is None:
            # So that what others invent later can pass through us: such a query names nodes near its target.
            if not ({b"target", b"info_hash"} & query.arguments.keys()):
                raise Refused(krpc.UNKNOWN_METHOD, "unknown method")
            method = self._find_node
        values = method(query, data, endpoint, now)
        values[b"id"] = family.node_id
        return values

    def _nodes(self, query: Query, target: bytes, endpoint: Endpoint) -> dict[bytes, Any]:
        n4, n6 = krpc.decode_want(query.arguments, v6=is_v6(endpoint))
        found: dict[bytes, Any] = {}
        for wanted, family, name in ((n4, self.families[0], b"nodes"), (n6, self.families[1], b"nodes6")):
            if wanted and family is not None:
                found[name] = krpc.encode_nodes(family.table.closest(target))
        return found

    def _ping(self, query: Query, data: bytes, endpoint: Endpoint, now: float) -> dict[bytes, Any]:
        return {}

    def _find_node(self, query: Query, data: bytes, endpoint: Endpoint, now: float) -> dict[bytes, Any]:
        target = krpc.decode_target(query.arguments, b"target") or krpc.decode_target(query.arguments, b"info_hash")
        if target is None:
            raise Refused(krpc.PROTOCOL, "no target of 20 bytes")
        return self._nodes(query, target, endpoint)

    def _get_peers(self, query: Query, data: bytes, endpoint: Endpoint, now: float) -> dict[bytes, Any]:
        info_hash = krpc.decode_target(query.arguments, b"info_hash")
        if info_hash is None:
            raise Refused(krpc.PROTOCOL, "no info_hash of 20 bytes")
        values = self._nodes(query, info_hash, endpoint)
        values[b"token"] = self._tokens.make(endpoint, info_hash, now)
        room = ROOM - sum(len(value) for value in values.values())
        if query.arguments.get(b"scrape") == 1:
            filters = self._peers.filters(info_hash, now)
            if filters is not None:
                values[b"BFsd"], values[b"BFpe"] = filters
                room -= SCRAPE_BYTES
        entry = len(endpoint) + 3
        peers = self._peers.peers(
            info_hash, now, v6=is_v6(endpoint), count=max(0, min(MAX_VALUES, room // entry)),
            noseed=query.arguments.get(b"noseed") == 1,
        )  # fmt: skip
        if peers:
            values[b"values"] = peers
        return values

    def _announce_peer(self, query: Query, data: bytes, endpoint: Endpoint, now: float) -> dict[bytes, Any]:
        arguments = query.arguments
        info_hash = krpc.decode_target(arguments, b"info_hash")
        if info_hash is None:
            raise Refused(krpc.PROTOCOL, "no info_hash of 20 bytes")
        if not self._tokens.accepts(arguments.get(b"token"), endpoint, info_hash, now):
            raise Refused(krpc.PROTOCOL, "wrong token")
        port = arguments.get(b"port")
        if arguments.get(b"implied_port"):
            port = int.from_bytes(endpoint[-2:], "big")
        if not isinstance(port, int) or not LOWEST_PORT <= port <= 65535:
            raise Refused(krpc.PROTOCOL, f"the port is not {LOWEST_PORT} to 65535")
        peer = endpoint[:-2] + port.to_bytes(2, "big")
        if not self._peers.announce(info_hash, peer, now, seed=arguments.get(b"seed") == 1):
            raise Refused(krpc.SERVER, "no room")
        return {}

    def _get(self, query: Query, data: bytes, endpoint: Endpoint, now: float) -> dict[bytes, Any]:
        target = krpc.decode_target(query.arguments, b"target")
        if target is None:
            raise Refused(krpc.PROTOCOL, "no target of 20 bytes")
        values = self._nodes(query, target, endpoint)
        values[b"token"] = self._tokens.make(endpoint, target, now)
        item = self._items.find(target, now)
        if item is None:
            return values
        if item.key:
            values[b"seq"] = item.seq
            known = query.arguments.get(b"seq")
            if isinstance(known, int) and known >= item.seq:
                return values
            values[b"k"], values[b"sig"] = item.key, item.signature
        if len(item.value) > ROOM // 2:
            values.pop(b"nodes" if is_v6(endpoint) else b"nodes6", None)
        values[b"v"] = decode_value(item)
        return values

    def _put(self, query: Query, data: bytes, endpoint: Endpoint, now: float) -> dict[bytes, Any]:
        if not is_canonical(data):
            raise Refused(krpc.PROTOCOL, "not canonical bencode")
        item = item_of_put(query.arguments)
        if not self._tokens.accepts(query.arguments.get(b"token"), endpoint, item.target, now):
            raise Refused(krpc.PROTOCOL, "wrong token")
        self._items.check(item, query.arguments.get(b"cas"), now)
        if item.key:
            if self._signatures is None:
                raise Refused(krpc.SERVER, "mutable items are not served")
            if not self._signatures.verify(item.key, item.signature, item.signed):
                raise Refused(krpc.BAD_SIGNATURE, "wrong signature")
        family = self.families[is_v6(endpoint)]
        assert family is not None
        if not self._items.put(item, family.node_id, now):
            raise Refused(krpc.SERVER, "no room")
        return {}

    def _sample(self, query: Query, data: bytes, endpoint: Endpoint, now: float) -> dict[bytes, Any]:
        target = krpc.decode_target(query.arguments, b"target")
        if target is None:
            raise Refused(krpc.PROTOCOL, "no target of 20 bytes")
        values = self._nodes(query, target, endpoint)
        interval, samples = self._peers.samples(now)
        values |= {b"interval": interval, b"num": self._peers.hashes, b"samples": b"".join(samples)}
        return values
