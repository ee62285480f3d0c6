"""What is looked for in the DHT: nodes, peers, items, samples. A search walks in each family and then stores, if asked to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from btfast.discovery.dht import krpc
from btfast.discovery.dht.bloom import FILTER_BYTES, estimate, united
from btfast.discovery.dht.endpoints import Endpoint, is_v6, may_be_named, reach, unpack
from btfast.discovery.dht.events import Event, HashesFound, ItemFound, PeersFound, SearchEnded
from btfast.discovery.dht.items import Item, Refused, Signatures, decode_value, item_of_get
from btfast.discovery.dht.krpc import Contact, Reply
from btfast.discovery.dht.lookup import Candidate, Lookup
from btfast.discovery.dht.transactions import Question

MAX_PEERS = 2000  # that one search tells of
MAX_HASHES = 10_000
STORING = object()  # a question that is not part of a walk


class Announcement(NamedTuple):
    """What is stored at the end of a search for peers: our TCP port, and whether we have everything (BEP 33)."""

    port: int
    seed: bool


class Network(Protocol):
    """What a search needs of the node."""

    def ask(
        self, endpoint: Endpoint, node_id: bytes, method: bytes, arguments: dict[bytes, Any], asker: Search, about: object,
        now: float,
    ) -> bool: ...  # fmt: skip

    def tell(self, event: Event) -> None: ...

    def search_ended(self, search: Search) -> None: ...

    def may_ask(self, search: Search, now: float) -> bool:
        """Whether questions may leave now; if not, `advance` is called when they may."""
        ...

    def is_own(self, contact: Contact) -> bool:
        """Whether that is ourselves."""
        ...


class Search:
    """A walk to the nodes nearest to `target`. `lookups`: by whether it is IPv6."""

    method = b"find_node"
    key = b"target"

    def __init__(self, number: int, target: bytes, network: Network, now: float) -> None:
        self.number = number
        self.target = target
        self.lookups: dict[bool, Lookup] = {}
        self.began = now
        self.found = 0
        self.stored = 0
        self._network = network
        self._storing = 0  # answers that are awaited
        self._walked = False
        self.ended = False

    # walking

    def arguments(self) -> dict[bytes, Any]:
        """Of each question, but for `id` and `want`."""
        return {self.key: self.target}

    def advance(self, now: float) -> None:
        """Asks whom it may ask; ends when there is nobody left."""
        if self.ended:
            return
        if not self._walked:
            for lookup in self.lookups.values():
                if not self._network.may_ask(self, now):
                    return
                self._walk(lookup, now)
            if not all(lookup.done for lookup in self.lookups.values()):
                return
            self._walked = True
            self.store(now)
        if not self._storing:
            self.end(now)

    def _walk(self, lookup: Lookup, now: float) -> None:
        while candidates := lookup.poll():
            for candidate in candidates:
                contact = candidate.contact
                arguments = self.arguments()
                if len(self.lookups) > 1:
                    arguments[b"want"] = [b"n4", b"n6"]
                asked = self._network.ask(
                    contact.endpoint, contact.node_id, self.method, arguments, self, candidate, now
                )
                if not asked:
                    lookup.handle_failure(candidate)

    def end(self, now: float) -> None:
        """Tells that nothing follows."""
        if self.ended:
            return
        self.ended = True
        lookups = self.lookups.values()
        seeds, peers = self.counts()
        self._network.tell(
            SearchEnded(
                self.number, self.target, questions=sum(lookup.questions for lookup in lookups),
                answers=sum(lookup.answers for lookup in lookups), hops=max((lookup.hops for lookup in lookups), default=0),
                seconds=now - self.began, found=self.found, stored=self.stored, seeds=seeds, peers=peers,
            )
        )  # fmt: skip
        self._network.search_ended(self)

    def counts(self) -> tuple[float | None, float | None]:
        """Seeds and peers as others counted them."""
        return None, None

    # transactions.Asker

    def handle_reply(self, question: Question, contact: Contact, reply: Reply, now: float) -> None:
        if question.about is STORING:
            self._storing -= 1
            self.stored += 1
        else:
            candidate = question.about
            assert isinstance(candidate, Candidate)
            namer = reach(contact.endpoint[:-2])
            for v6, lookup in self.lookups.items():
                named = [
                    other for other in krpc.decode_nodes(reply.values, v6=v6)
                    if may_be_named(other.endpoint, namer) and not self._network.is_own(other)
                ]  # fmt: skip
                if v6 == is_v6(contact.endpoint):
                    token = krpc.decode_token(reply.values)
                    lookup.handle_answer(candidate, contact.node_id, named, token)
                elif not lookup.ended:
                    lookup.add(named, candidate.hop + 1)
            if not self._walked:
                self.handle_values(contact, reply.values, now)
        self.advance(now)

    def handle_slow(self, question: Question, now: float) -> None:
        if isinstance(question.about, Candidate):
            self.lookups[is_v6(question.endpoint)].handle_slow(question.about)
            self.advance(now)

    def handle_failure(self, question: Question, now: float) -> None:
        if isinstance(question.about, Candidate):
            self.lookups[is_v6(question.endpoint)].handle_failure(question.about)
        else:
            self._storing -= 1
        self.advance(now)

    # what it is for

    def handle_values(self, contact: Contact, values: dict[bytes, Any], now: float) -> None:
        """A node has answered; `values` may have what is looked for."""

    def store(self, now: float) -> None:
        """The walk is over: what is to be stored goes to the nearest, by `put_at`."""

    def put_at_closest(self, method: bytes, arguments: Callable[[bytes], dict[bytes, Any]], now: float) -> None:
        """Sends `method` to the nearest that gave tokens; `arguments(token)`."""
        for lookup in self.lookups.values():
            for candidate in lookup.closest():
                assert candidate.token is not None
                contact = candidate.contact
                self._storing += self._network.ask(
                    contact.endpoint, contact.node_id, method, arguments(candidate.token), self, STORING, now
                )


class PeerSearch(Search):
    """get_peers, and announce_peer at the end where an announcement is given (BEP 5, 33)."""

    method = b"get_peers"
    key = b"info_hash"

    def __init__(
        self, number: int, target: bytes, network: Network, now: float, announcement: Announcement | None,
        noseed: bool, scrape: bool,
    ) -> None:  # fmt: skip
        super().__init__(number, target, network, now)
        self._announcement = announcement
        self._noseed = noseed
        self._scrape = scrape
        self._told: set[Endpoint] = set()
        self._filters: tuple[bytes, bytes] | None = None

    def arguments(self) -> dict[bytes, Any]:
        arguments: dict[bytes, Any] = {self.key: self.target}
        if self._noseed:
            arguments[b"noseed"] = 1
        if self._scrape:
            arguments[b"scrape"] = 1
        return arguments

    def handle_values(self, contact: Contact, values: dict[bytes, Any], now: float) -> None:
        namer = reach(contact.endpoint[:-2])
        fresh = [
            endpoint for endpoint in dict.fromkeys(krpc.decode_values(values))
            if endpoint not in self._told and may_be_named(endpoint, namer)
        ][: MAX_PEERS - len(self._told)]  # fmt: skip
        if fresh:
            self._told.update(fresh)
            self.found = len(self._told)
            self._network.tell(PeersFound(self.number, self.target, [unpack(endpoint) for endpoint in fresh]))
        seeds, peers = values.get(b"BFsd"), values.get(b"BFpe")
        if isinstance(seeds, bytes) and isinstance(peers, bytes) and len(seeds) == len(peers) == FILTER_BYTES:
            before = self._filters or (bytes(FILTER_BYTES), bytes(FILTER_BYTES))
            self._filters = (united(before[0], seeds), united(before[1], peers))

    def counts(self) -> tuple[float | None, float | None]:
        if self._filters is None:
            return None, None
        return estimate(self._filters[0]), estimate(self._filters[1])

    def store(self, now: float) -> None:
        announcement = self._announcement
        if announcement is None:
            return

        def arguments(token: bytes) -> dict[bytes, Any]:
            return {
                b"info_hash": self.target, b"port": announcement.port, b"implied_port": 0, b"token": token,
                b"seed": int(announcement.seed),
            }  # fmt: skip

        self.put_at_closest(b"announce_peer", arguments, now)


class ItemSearch(Search):
    """get, and put at the end where an item is given (BEP 44). A search for an immutable item ends when it is found."""

    method = b"get"

    def __init__(
        self, number: int, target: bytes, network: Network, now: float, *, salt: bytes = b"", put: Item | None = None,
        cas: int | None = None, signatures: Signatures | None = None,
    ) -> None:  # fmt: skip
        super().__init__(number, target, network, now)
        self._salt = salt
        self._put = put
        self._cas = cas
        self._signatures = signatures
        self._best: Item | None = None

    def handle_values(self, contact: Contact, values: dict[bytes, Any], now: float) -> None:
        try:
            item = item_of_get(self.target, values, self._salt)
        except Refused:
            return  # one node's nonsense: others will have it
        if item is None or (self._best is not None and self._best.seq >= item.seq):
            return
        if item.key and (
            self._signatures is None or not self._signatures.verify(item.key, item.signature, item.signed)
        ):
            return
        self._best = item
        self.found += 1
        self._network.tell(ItemFound(self.number, item))
        if not item.key and self._put is None:
            for lookup in self.lookups.values():
                lookup.ended = True

    def store(self, now: float) -> None:
        item = self._put
        if item is None:
            return

        def arguments(token: bytes) -> dict[bytes, Any]:
            found: dict[bytes, Any] = {b"v": decode_value(item), b"token": token}
            if item.key:
                found |= {b"k": item.key, b"seq": item.seq, b"sig": item.signature}
                if item.salt:
                    found[b"salt"] = item.salt
                if self._cas is not None:
                    found[b"cas"] = self._cas
            return found

        self.put_at_closest(b"put", arguments, now)


class SampleSearch(Search):
    """sample_infohashes on the way to `target` (BEP 51)."""

    method = b"sample_infohashes"

    def __init__(self, number: int, target: bytes, network: Network, now: float) -> None:
        super().__init__(number, target, network, now)
        self._told: set[bytes] = set()

    def handle_values(self, contact: Contact, values: dict[bytes, Any], now: float) -> None:
        samples = values.get(b"samples")
        if not isinstance(samples, bytes) or len(samples) % 20:
            return
        hashes = {samples[at : at + 20] for at in range(0, len(samples), 20)} - self._told
        if hashes and len(self._told) < MAX_HASHES:
            self._told |= hashes
            self.found = len(self._told)
            self._network.tell(HashesFound(self.number, sorted(hashes)))
