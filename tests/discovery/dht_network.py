"""A few DHT nodes wired to one another: a network without latency, and a node that a test plays by hand."""

from __future__ import annotations

import random
from typing import Any

from btfast.discovery.dht import krpc
from btfast.discovery.dht.endpoints import Endpoint, pack
from btfast.discovery.dht.events import Event, SearchEnded
from btfast.discovery.dht.krpc import Failure, Query, Reply
from btfast.discovery.dht.node import DhtNode
from btfast.discovery.dht.node_id import make_id
from btfast.discovery.dht.signatures import Ed25519
from btfast.discovery.dht.state import Saved, SavedFamily
from btfast.metainfo.addresses import PeerAddress


def at(host: str, port: int = 6881) -> Endpoint:
    """The endpoint of a literal address."""
    endpoint = pack(PeerAddress(host, port))
    assert endpoint is not None
    return endpoint


def public(number: int, network: int = 0) -> str:
    """A public IPv4 address; each number is another /24."""
    return f"{80 + number % 40}.{number // 40 % 250}.{number // 10000 + 1}.{network + 1}"


def node_at(endpoint: Endpoint, *, now: float = 0.0, seed: int = 0, **options: Any) -> DhtNode:
    """A node whose id fits where it is."""
    rng = random.Random(f"{endpoint.hex()}{seed}")
    v6 = len(endpoint) == 18
    family = SavedFamily(make_id(endpoint[:-2], rng.randbytes(20)), endpoint[:-2])
    saved = Saved(v6=family) if v6 else Saved(v4=family)
    options.setdefault("families", (not v6, v6))
    options.setdefault("saved", saved)
    return DhtNode(now=now, random=rng.randbytes, version=b"bft0", signatures=Ed25519(), **options)


class Net:
    """Delivers at once, in order. `lost`: endpoints that nothing reaches."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.nodes: dict[Endpoint, DhtNode] = {}
        self.lost: set[Endpoint] = set()
        self.events: dict[Endpoint, list[Event]] = {}
        self.sent: list[tuple[Endpoint, Endpoint, bytes]] = []

    def add(self, endpoint: Endpoint, *entrances: Endpoint, **options: Any) -> DhtNode:
        node = self.nodes[endpoint] = node_at(endpoint, now=self.now, **options)
        self.events[endpoint] = []
        node.add_entrances(self.now, entrances)
        node.start(self.now)
        self.settle()
        return node

    def crowd(self, count: int, *, first: int = 0) -> list[Endpoint]:
        """That many nodes, each joining through the first one."""
        endpoints = [at(public(first + number)) for number in range(count)]
        for endpoint in endpoints:
            self.add(endpoint, *endpoints[:1] if endpoint != endpoints[0] else ())
        return endpoints

    def settle(self) -> None:
        """Until nobody has anything to send."""
        moved = True
        while moved:
            moved = False
            for source, node in list(self.nodes.items()):
                for data, target in node.poll_packets():
                    moved = True
                    self.sent.append((source, target, data))
                    if target in self.nodes and target not in self.lost:
                        self.nodes[target].handle_packet(self.now, data, source)
                self.events[source] += node.poll_events()

    def run(self, seconds: float) -> None:
        """Lets time pass."""
        end = self.now + seconds
        while True:
            times = [time for node in self.nodes.values() if (time := node.poll_deadline()) is not None]
            self.now = max(self.now, min([*times, end]))
            for node in self.nodes.values():
                node.handle_time(self.now)
            self.settle()
            if self.now >= end:
                return

    def ended(self, endpoint: Endpoint, number: int) -> SearchEnded:
        """The end of a search; time passes until it is there."""
        for _ in range(40):
            for event in self.events[endpoint]:
                if isinstance(event, SearchEnded) and event.search == number:
                    return event
            self.run(1.0)
        raise AssertionError("the search has not ended")


class Stranger:
    """Speaks with one node, packet by packet."""

    def __init__(self, node: DhtNode, endpoint: Endpoint, *, now: float = 0.0, node_id: bytes = b"s" * 20) -> None:
        self.node = node
        self.endpoint = endpoint
        self.now = now
        self.node_id = node_id

    def raw(self, data: bytes) -> list[tuple[bytes, Endpoint]]:
        """Everything that the node sends because of these bytes."""
        self.node.poll_packets()
        self.node.handle_packet(self.now, data, self.endpoint)
        return self.node.poll_packets()

    def ask(self, method: bytes, arguments: dict[bytes, Any] | None = None, *, read_only: bool = True) -> Reply | Failure | None:
        """The answer to a query; None without one."""
        body = {b"id": self.node_id} | (arguments or {})
        packets = self.raw(krpc.encode_query(b"tt", method, body, version=b"test", read_only=read_only))
        for data, endpoint in packets:
            message = krpc.decode(data)
            if endpoint == self.endpoint and not isinstance(message, Query):
                assert message.transaction == b"tt"
                return message
        return None

    def values(self, method: bytes, arguments: dict[bytes, Any] | None = None) -> dict[bytes, Any]:
        """What the answer has; it must not be an error."""
        answer = self.ask(method, arguments)
        assert isinstance(answer, Reply), answer
        return answer.values

    def code(self, method: bytes, arguments: dict[bytes, Any] | None = None) -> int:
        """The code of the error that must come."""
        answer = self.ask(method, arguments)
        assert isinstance(answer, Failure), answer
        return answer.code


def queries_to(packets: list[tuple[bytes, Endpoint]], endpoint: Endpoint) -> list[Query]:
    """The queries among packets to one place."""
    found = []
    for data, target in packets:
        message = krpc.decode(data)
        if target == endpoint and isinstance(message, Query):
            found.append(message)
    return found
