"""The routing table of one address family: nodes that have answered us, many near our own id and few far away (BEP 5).

Bucket i holds nodes whose ids share exactly their first i bits with ours; the last bucket holds all that share more. Only
the last splits. A host is in the table once; a bucket takes one node of a network (/24, /48), the table TABLE_NETWORK:
who has many addresses in one place gets little of it. Only who has answered a query of ours gets in, so a forged
address never does.

A node is good when it answered within 15 minutes, or has ever answered and asked us something within 15 minutes;
questionable afterwards, and then asked again. One that fails gives its place to the last that came to its bucket's waiting
line, without one it goes after BAD failures in a row. In a full bucket an id that fits its address (BEP 42) takes the
place of one that does not.
"""

from __future__ import annotations

from btfast.discovery.dht.endpoints import Endpoint, host_key, network_key
from btfast.discovery.dht.krpc import Contact
from btfast.discovery.dht.node_id import ID_BITS, fits

K = 8
FRESH = 900.0  # seconds that a node stays good
BAD = 3
WAITING = 8  # nodes in a bucket's waiting line
TABLE_NETWORK = 8  # nodes of one /24 or /48 in the whole table


class Node:
    """One entry. Read it; only the table writes."""

    __slots__ = ("contact", "failures", "fits", "heard", "number", "since")

    def __init__(self, contact: Contact, now: float) -> None:
        self.contact = contact
        self.number = int.from_bytes(contact.node_id, "big")
        self.fits = fits(contact.node_id, contact.endpoint[:-2])
        self.since = now
        self.heard = now  # when it answered or, after that, asked
        self.failures = 0


class _Bucket:
    __slots__ = ("nodes", "waiting")

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.waiting: list[Node] = []


class Table:
    """Of `own_id`. Times are seconds."""

    def __init__(self, own_id: bytes) -> None:
        self.own_id = own_id
        self._own = int.from_bytes(own_id, "big")
        self._buckets = [_Bucket()]
        self._by_endpoint: dict[Endpoint, Node] = {}
        self._hosts: dict[bytes, Node] = {}
        self._networks: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._by_endpoint)

    def __contains__(self, endpoint: Endpoint) -> bool:
        return endpoint in self._by_endpoint

    @property
    def depth(self) -> int:
        """Buckets."""
        return len(self._buckets)

    def nodes(self) -> list[Node]:
        return list(self._by_endpoint.values())

    def good(self, now: float) -> list[Node]:
        return [node for node in self._by_endpoint.values() if not node.failures and now - node.heard < FRESH]

    def waiting(self) -> int:
        """Nodes in the waiting lines."""
        return sum(len(bucket.waiting) for bucket in self._buckets)

    def _index(self, number: int) -> int:
        shared = ID_BITS - (number ^ self._own).bit_length()
        return min(shared, len(self._buckets) - 1)

    # what nodes do

    def handle_answer(self, contact: Contact, now: float) -> bool:
        """It has answered a query of ours. True when it is in the table."""
        node = self._by_endpoint.get(contact.endpoint)
        if node is not None:
            if node.contact.node_id == contact.node_id:
                node.heard = now
                node.failures = 0
                return True
            self._remove(node)  # who changes its id begins anew
        if contact.node_id == self.own_id:
            return False
        return self._insert(Node(contact, now), now)

    def handle_query(self, contact: Contact, now: float) -> bool:
        """It has asked us something. True when the table knows it, or has no use for it: else a ping is worth while."""
        node = self._by_endpoint.get(contact.endpoint)
        if node is not None:
            if node.contact.node_id == contact.node_id and not node.failures:
                node.heard = now
            return True
        return not self.wants(contact)

    def handle_failure(self, endpoint: Endpoint, now: float) -> None:
        """It did not answer. In a table where hardly anybody answers the fault is ours: they all stay."""
        node = self._by_endpoint.get(endpoint)
        if node is None:
            return
        node.failures += 1
        bucket = self._buckets[self._index(node.number)]
        if bucket.waiting:
            self._remove(node)
            self._fill(bucket, now)
        elif node.failures >= BAD:
            failing = sum(1 for other in self._by_endpoint.values() if other.failures)
            if 2 * failing <= len(self._by_endpoint) + 1 or len(self._by_endpoint) > 8 * K:
                self._remove(node)

    def wants(self, contact: Contact) -> bool:
        """Whether a node that answered would get a place at once."""
        if contact.endpoint in self._by_endpoint or contact.node_id == self.own_id:
            return False
        if host_key(contact.endpoint) in self._hosts:
            return False
        number = int.from_bytes(contact.node_id, "big")
        index = self._index(number)
        bucket = self._buckets[index]
        if any(node.number == number for node in bucket.nodes):
            return False
        network = network_key(contact.endpoint)
        if network is not None and not self._network_has_room(bucket, network):
            return False
        return len(bucket.nodes) < K or index == len(self._buckets) - 1 or any(node.failures for node in bucket.nodes)

    # places

    def _network_has_room(self, bucket: _Bucket, network: bytes) -> bool:
        if self._networks.get(network, 0) >= TABLE_NETWORK:
            return False
        return all(network_key(node.contact.endpoint) != network for node in bucket.nodes)

    def _insert(self, node: Node, now: float) -> bool:
        endpoint = node.contact.endpoint
        if host_key(endpoint) in self._hosts:
            return False
        network = network_key(endpoint)
        while True:
            index = self._index(node.number)
            bucket = self._buckets[index]
            if any(other.number == node.number for other in bucket.nodes):
                return False  # an id can be had once; else copies of one would split buckets without end
            if network is not None and not self._network_has_room(bucket, network):
                return False
            if len(bucket.nodes) < K:
                self._add(bucket, node)
                return True
            if index < len(self._buckets) - 1 or len(self._buckets) >= ID_BITS:
                break
            self._split()
        worst = max(bucket.nodes, key=lambda other: (other.failures, not other.fits, now - other.heard))
        if worst.failures or (node.fits and not worst.fits):
            self._remove(worst)
            self._add(bucket, node)
            return True
        bucket.waiting = [other for other in bucket.waiting if host_key(other.contact.endpoint) != host_key(endpoint)]
        bucket.waiting.append(node)
        del bucket.waiting[:-WAITING]
        return False

    def _split(self) -> None:
        last, fresh = self._buckets[-1], _Bucket()
        nodes, last.nodes = last.nodes, []
        waiting, last.waiting = last.waiting, []
        self._buckets.append(fresh)
        for node in nodes:
            self._buckets[self._index(node.number)].nodes.append(node)
        for node in waiting:
            self._buckets[self._index(node.number)].waiting.append(node)

    def _add(self, bucket: _Bucket, node: Node) -> None:
        endpoint = node.contact.endpoint
        bucket.nodes.append(node)
        self._by_endpoint[endpoint] = node
        self._hosts[host_key(endpoint)] = node
        network = network_key(endpoint)
        if network is not None:
            self._networks[network] = self._networks.get(network, 0) + 1

    def _remove(self, node: Node) -> None:
        endpoint = node.contact.endpoint
        self._buckets[self._index(node.number)].nodes.remove(node)
        del self._by_endpoint[endpoint]
        del self._hosts[host_key(endpoint)]
        network = network_key(endpoint)
        if network is not None:
            self._networks[network] -= 1
            if not self._networks[network]:
                del self._networks[network]

    def _fill(self, bucket: _Bucket, now: float) -> None:
        """Gives a free place to the last that came to the waiting line and still may have it."""
        while bucket.waiting and len(bucket.nodes) < K:
            node = bucket.waiting.pop()
            endpoint = node.contact.endpoint
            network = network_key(endpoint)
            if host_key(endpoint) in self._hosts or now - node.heard > FRESH:
                continue
            if any(other.number == node.number for other in bucket.nodes):
                continue
            if network is None or self._network_has_room(bucket, network):
                self._add(bucket, node)

    # questions

    def closest(self, target: bytes, count: int = K) -> list[Contact]:
        """The nearest to `target` that are not failing, nearest first."""
        wanted = int.from_bytes(target, "big")
        index = self._index(wanted)
        # The bucket where the target belongs is nearest, all beyond it come next, and then those before it, one by one.
        found = [node for node in self._buckets[index].nodes if node.failures < 2]
        if len(found) < count:
            for bucket in self._buckets[index + 1 :]:
                found += [node for node in bucket.nodes if node.failures < 2]
        while len(found) < count and index:
            index -= 1
            found += [node for node in self._buckets[index].nodes if node.failures < 2]
        found.sort(key=lambda node: node.number ^ wanted)
        return [node.contact for node in found[:count]]

    def stalest(self) -> Node | None:
        """Who has been silent for longest."""
        return min(self._by_endpoint.values(), key=lambda node: node.heard, default=None)

    def thin_bucket(self, random: bytes) -> bytes:
        """A random id in one of the buckets that have free places, or anywhere when none has."""
        thin = [index for index, bucket in enumerate(self._buckets[:-1]) if len(bucket.nodes) < K]
        if not thin:
            return random
        index = thin[random[0] % len(thin)]
        shift = ID_BITS - 1 - index
        head = (self._own >> shift) ^ 1
        number = head << shift | int.from_bytes(random, "big") & ((1 << shift) - 1)
        return number.to_bytes(ID_BITS // 8, "big")

    def moved(self, own_id: bytes) -> Table:
        """A table for another id of ours, with the same nodes."""
        table = Table(own_id)
        for node in sorted(self._by_endpoint.values(), key=lambda node: node.failures):
            fresh = Node(node.contact, node.heard)
            fresh.since, fresh.failures = node.since, node.failures
            table._insert(fresh, node.heard)
        return table
