"""A DHT node: packets in, packets out, by a clock that is passed in (BEP 5, 32, 33, 42, 43, 44, 51).

How to drive it: call `handle_packet` for what comes, `handle_time` when `poll_deadline` is reached, and after each of
them send what `poll_packets` gives and look at `poll_events`. Any order and any times are safe, also a clock that jumps.

One node serves both address families, each with its own id and table; the stores and searches are common. What it holds
is bounded: tables by their shape, stores, questions under way, searches that wait, and what is remembered of hosts.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import Any

from btfast.discovery.dht import krpc
from btfast.discovery.dht.answers import Answers, Family
from btfast.discovery.dht.endpoints import Endpoint, is_v6, may_speak
from btfast.discovery.dht.events import Event, Moved
from btfast.discovery.dht.items import Item, ItemStore, Refused, Signatures
from btfast.discovery.dht.krpc import Contact, Failure, Query, Reply
from btfast.discovery.dht.limits import Guard, Limits
from btfast.discovery.dht.lookup import ALPHA, Lookup
from btfast.discovery.dht.node_id import ID_BYTES, distance, make_id
from btfast.discovery.dht.peer_store import PeerStore
from btfast.discovery.dht.search import Announcement, ItemSearch, PeerSearch, SampleSearch, Search
from btfast.discovery.dht.state import MAX_SAVED, Saved, SavedFamily
from btfast.discovery.dht.table import FRESH, K, Table
from btfast.discovery.dht.tokens import Tokens
from btfast.discovery.dht.transactions import Asker, Question, Transactions
from btfast.discovery.dht.votes import Votes
from btfast.errors import RemoteError

REFRESH = 900.0  # seconds between searches for our own neighbours
EXPLORE = 600.0  # seconds between searches in buckets with free places
PING_INTERVAL = 6.0  # seconds between pings of nodes that have been silent
HOUSEKEEPING = 60.0
FIRST_RETRY, LAST_RETRY = 5.0, 300.0  # seconds until somebody is looked for again when nobody answers
JUMP = 30.0  # seconds that a deadline may be missed by before the clock, or this machine, is taken to have stood still
ACTIVE = 32  # searches at a time
MAX_WAITING = 20_000  # searches that wait
MAX_OUTBOX = 4000  # packets
MAX_EVENTS = 100_000
MAX_ENTRANCES = 256  # endpoints to begin with


class _Family:
    """What a node is in one address family."""

    def __init__(self, v6: bool, saved: SavedFamily, random: Callable[[int], bytes]) -> None:
        self.v6 = v6
        self.votes = Votes(saved.host)
        self.table = Table(saved.node_id or make_id(saved.host, random(ID_BYTES)))
        self.entrances: dict[Endpoint, None] = {}  # where to begin, oldest first
        self.saved = saved.contacts
        self.retry_at = float("-inf")
        self.retry = FIRST_RETRY
        self.refresh_at = float("-inf")
        self.explore_at = float("-inf")
        self.ping_at = float("-inf")


class DhtNode:
    """`families`: whether IPv4 and IPv6 are used. `random(n)` gives n random bytes. `version`: 4 bytes that name us."""

    def __init__(
        self, *, now: float, random: Callable[[int], bytes], version: bytes, families: tuple[bool, bool] = (True, False),
        saved: Saved | None = None, read_only: bool = False, signatures: Signatures | None = None,
        limits: Limits | None = None,
    ) -> None:  # fmt: skip
        self._random = random
        self._version = version
        self._now = now
        self._skew = 0.0
        self.read_only = read_only
        self._signatures = signatures
        self._guard = Guard(limits or Limits(), now)
        self._transactions = Transactions(random)
        self.peers = PeerStore(random)
        self.items = ItemStore()
        self._answers = Answers(Tokens(random, now), self.peers, self.items, signatures)
        saved = saved or Saved()
        self._families = {
            v6: _Family(v6, family, random)
            for v6, family, used in ((False, saved.v4, families[0]), (True, saved.v6, families[1])) if used
        }  # fmt: skip
        for family in self._families.values():
            self._publish(family)
        self._numbers = itertools.count(1)
        self._searches: dict[int, Search] = {}
        self._waiting: deque[Search] = deque()
        self._stalled: dict[int, Search] = {}
        self._outbox: list[tuple[bytes, Endpoint]] = []
        self._events: deque[Event] = deque()
        self._timers: list[tuple[float, int, Callable[[float], None]]] = []
        self._started = False
        self._lenient_until = float("-inf")
        self.queries = 0  # of others, that were answered
        self.dropped = 0  # packets that were too many, damaged, or not asked for

    # the clock

    def _clock(self, now: float) -> float:
        """Our time for the caller's: it never goes back, and after a long sleep nobody is blamed for silence."""
        now += self._skew
        if now < self._now:
            self._skew += self._now - now
            now = self._now
        deadline = self._next()
        if deadline is not None and now - max(deadline, self._now) > JUMP:
            self._lenient_until = now
        self._now = now
        return now

    def _next(self) -> float | None:
        answer = self._transactions.deadline()
        if not self._timers:
            return answer
        return self._timers[0][0] if answer is None else min(answer, self._timers[0][0])

    def poll_deadline(self) -> float | None:
        """When to call handle_time at the latest, in the caller's time; None for never."""
        deadline = self._next()
        return None if deadline is None else deadline - self._skew

    def handle_time(self, now: float) -> None:
        """Does what is due."""
        now = self._clock(now)
        while (question := self._transactions.poll_slow(now)) is not None:
            question.asker.handle_slow(question, now)
        while (question := self._transactions.poll_failed(now)) is not None:
            self._failed(question, now)
        for _ in range(len(self._timers)):
            if self._timers[0][0] > now:
                break
            heappop(self._timers)[2](now)

    def _at(self, time: float, call: Callable[[float], None]) -> None:
        heappush(self._timers, (time, next(self._numbers), call))

    # output

    def poll_packets(self) -> list[tuple[bytes, Endpoint]]:
        """Datagrams to send now."""
        packets, self._outbox = self._outbox, []
        return packets

    def poll_events(self) -> list[Event]:
        """What has happened since the last call."""
        events = list(self._events)
        self._events.clear()
        return events

    def tell(self, event: Event) -> None:
        """search.Network"""
        if len(self._events) < MAX_EVENTS:
            self._events.append(event)

    def _send(self, data: bytes, endpoint: Endpoint) -> None:
        if len(self._outbox) < MAX_OUTBOX:
            self._outbox.append((data, endpoint))

    # input

    def handle_packet(self, now: float, data: bytes, endpoint: Endpoint) -> None:
        """One datagram. Never raises for what is in it."""
        now = self._clock(now)
        awaited = self._transactions.asked(endpoint)
        if not may_speak(endpoint) or is_v6(endpoint) not in self._families:
            self.dropped += 1
            return
        if not self._guard.may_enter(endpoint, now, awaited=awaited):
            self.dropped += 1
            return
        try:
            message = krpc.decode(data)
        except RemoteError:
            self.dropped += 1
            return
        if isinstance(message, Query):
            if awaited and not self._guard.may_enter(endpoint, now, awaited=False):
                self.dropped += 1
                return
            self._handle_query(message, data, endpoint, now)
            return
        question = self._transactions.take(message.transaction, endpoint)
        if question is None:
            self.dropped += 1
        elif isinstance(message, Failure):
            question.asker.handle_failure(question, now)  # alive, but of no use for this
        else:
            self._handle_reply(message, question, now)

    def _handle_query(self, query: Query, data: bytes, endpoint: Endpoint, now: float) -> None:
        family = self._families[is_v6(endpoint)]
        contact = Contact(query.arguments[b"id"], endpoint)
        if self.read_only or contact.node_id == family.table.own_id:
            return
        try:
            values = self._answers.answer(query, data, endpoint, now)
            packet = krpc.encode_reply(query.transaction, values, version=self._version, ip=endpoint)
        except Refused as refused:
            packet = krpc.encode_failure(query.transaction, refused.krpc_code, refused.why, version=self._version)
        if not self._guard.may_answer(endpoint, len(packet), now):
            self.dropped += 1
            return
        self.queries += 1
        self._send(packet, endpoint)
        if not query.read_only and not family.table.handle_query(contact, now) and not self._transactions.asked(endpoint):
            self._ping(endpoint, contact.node_id, now)

    def _handle_reply(self, reply: Reply, question: Question, now: float) -> None:
        contact = Contact(reply.values[b"id"], question.endpoint)
        family = self._families[is_v6(contact.endpoint)]
        if contact.node_id == family.table.own_id:
            question.asker.handle_failure(question, now)  # we met ourselves
            return
        family.table.handle_answer(contact, now)
        if reply.ip is not None and family.votes.handle_vote(contact.endpoint, reply.ip):
            self._move(family, now)
        question.asker.handle_reply(question, contact, reply, now)

    def _failed(self, question: Question, now: float) -> None:
        if question.sent >= self._lenient_until:
            self._families[is_v6(question.endpoint)].table.handle_failure(question.endpoint, now)
        question.asker.handle_failure(question, now)

    def _move(self, family: _Family, now: float) -> None:
        """Others see us elsewhere than we thought: the id that fits there is ours from now on."""
        family.table = family.table.moved(make_id(family.votes.address, self._random(ID_BYTES)))
        self._publish(family)
        self.tell(Moved(family.votes.address, family.table.own_id))
        self._at(now, lambda at: self._find_place(family, at))

    def _publish(self, family: _Family) -> None:
        self._answers.families[family.v6] = Family(family.table.own_id, family.table)

    # questions

    def ask(
        self, endpoint: Endpoint, node_id: bytes, method: bytes, arguments: dict[bytes, Any], asker: Asker, about: object,
        now: float,
    ) -> bool:  # fmt: skip
        """search.Network: sends a question; False when it may not leave."""
        family = self._families.get(is_v6(endpoint))
        if family is None or self._transactions.full or not self._guard.may_ask(endpoint, now):
            return False
        question = self._transactions.begin(endpoint, node_id, asker, about, now)
        arguments[b"id"] = family.table.own_id
        self._send(
            krpc.encode_query(
                question.transaction, method, arguments, version=self._version, read_only=self.read_only
            ),
            endpoint,
        )  # fmt: skip
        return True

    def may_ask(self, search: Search, now: float) -> bool:
        """search.Network"""
        at = self._guard.questions_at(ALPHA, now)
        if at <= now:
            return True
        if search.number not in self._stalled:
            self._stalled[search.number] = search
            if len(self._stalled) == 1:
                self._at(at, self._go_on)
        return False

    def _go_on(self, now: float) -> None:
        stalled, self._stalled = self._stalled, {}
        for search in stalled.values():
            search.advance(now)

    def is_own(self, contact: Contact) -> bool:
        """search.Network"""
        family = self._families.get(is_v6(contact.endpoint))
        return family is not None and contact.node_id == family.table.own_id

    def _ping(self, endpoint: Endpoint, node_id: bytes, now: float) -> None:
        self.ask(endpoint, node_id, b"ping", {}, _PING, None, now)

    # searches

    def _lookup(self, family: _Family, target: bytes) -> Lookup:
        contacts = family.table.closest(target, 2 * K)
        unnamed: Iterable[Endpoint] = ()
        if len(contacts) < K:
            known = {contact.endpoint for contact in contacts}
            unnamed = [endpoint for endpoint in family.entrances if endpoint not in known]
            if not contacts:
                contacts = sorted(family.saved, key=lambda contact: distance(contact.node_id, target))[: 4 * K]
        return Lookup(target, contacts, unnamed)

    def _begin(self, search: Search, now: float, families: Iterable[_Family] | None = None) -> int:
        for family in self._families.values() if families is None else families:
            search.lookups[family.v6] = Lookup(search.target, ())
        if len(self._searches) < ACTIVE:
            self._set_out(search, now)
        elif len(self._waiting) < MAX_WAITING:
            self._waiting.append(search)
        else:
            search.end(now)
        return search.number

    def _set_out(self, search: Search, now: float) -> None:
        search.began = now
        for v6 in search.lookups:
            search.lookups[v6] = self._lookup(self._families[v6], search.target)
        self._searches[search.number] = search
        search.advance(now)

    def search_ended(self, search: Search) -> None:
        """search.Network"""
        self._stalled.pop(search.number, None)
        if self._searches.pop(search.number, None) is not None and self._waiting:
            self._at(self._now, self._next_search)

    def _next_search(self, now: float) -> None:
        while self._waiting and len(self._searches) < ACTIVE:
            self._set_out(self._waiting.popleft(), now)

    @property
    def searching(self) -> int:
        """Searches under way and waiting."""
        return len(self._searches) + len(self._waiting)

    def find_peers(
        self, now: float, info_hash: bytes, *, announcement: Announcement | None = None, noseed: bool = False,
        scrape: bool = False,
    ) -> int:  # fmt: skip
        """Looks for peers, and with `announcement` tells the nearest nodes of us. The number of the search."""
        now = self._clock(now)
        if self.read_only:
            announcement = None
        search = PeerSearch(next(self._numbers), info_hash, self, now, announcement, noseed, scrape)
        return self._begin(search, now)

    def find_item(self, now: float, target: bytes, *, salt: bytes = b"") -> int:
        """Looks for what is stored under `target`; `salt` is that of a mutable item (BEP 44)."""
        now = self._clock(now)
        search = ItemSearch(next(self._numbers), target, self, now, salt=salt, signatures=self._signatures)
        return self._begin(search, now)

    def put_item(self, now: float, item: Item, *, cas: int | None = None) -> int:
        """Stores an item, signed where it is mutable, at the nearest nodes."""
        now = self._clock(now)
        search = ItemSearch(
            next(self._numbers), item.target, self, now, salt=item.salt, put=item, cas=cas, signatures=self._signatures
        )
        return self._begin(search, now)

    def sample_hashes(self, now: float, target: bytes) -> int:
        """Asks nodes on the way to `target` which info-hashes they have (BEP 51)."""
        now = self._clock(now)
        return self._begin(SampleSearch(next(self._numbers), target, self, now), now)

    # who there is

    def start(self, now: float) -> None:
        """Looks for its place in the network, and keeps it from then on."""
        now = self._clock(now)
        if not self._started:
            self._started = True
            self._keep_house(now)
            for family in self._families.values():
                self._maintain(family, now)

    def add_entrances(self, now: float, endpoints: Iterable[Endpoint]) -> None:
        """Nodes to begin with, whose ids are not known: bootstrap nodes, a torrent's, those of peers (PORT)."""
        now = self._clock(now)
        for endpoint in endpoints:
            family = self._families.get(is_v6(endpoint))
            if family is None or not may_speak(endpoint) or endpoint in family.table:
                continue
            if endpoint not in family.entrances:
                if len(family.entrances) >= MAX_ENTRANCES:
                    del family.entrances[next(iter(family.entrances))]
                family.entrances[endpoint] = None
            if self._started and len(family.table) and not self._transactions.asked(endpoint):
                self._ping(endpoint, b"", now)
            elif self._started and not len(family.table):
                family.retry_at = min(family.retry_at, now)
                self._at(now, lambda at, family=family: self._maintain_once(family, at))  # type: ignore[misc]

    def _maintain_once(self, family: _Family, now: float) -> None:
        if not len(family.table) and now >= family.retry_at:
            self._find_place(family, now)

    def _maintain(self, family: _Family, now: float) -> None:
        """Does what is due for one table, and sets the timer for what is due next."""
        table = family.table
        if not table.good(now):
            if now >= family.retry_at:
                self._find_place(family, now)
            next_at = family.retry_at
        else:
            family.retry = FIRST_RETRY
            if now >= family.refresh_at:
                self._find_place(family, now)
            if now >= family.explore_at:
                family.explore_at = now + EXPLORE
                target = table.thin_bucket(self._random(ID_BYTES))
                self._begin(Search(next(self._numbers), target, self, now), now, [family])
            next_at = min(family.refresh_at, family.explore_at)
        stalest = table.stalest()
        if stalest is not None:
            if now >= family.ping_at and (stalest.failures or now - stalest.heard >= FRESH):
                family.ping_at = now + PING_INTERVAL
                if not self._transactions.asked(stalest.contact.endpoint):
                    self._ping(stalest.contact.endpoint, stalest.contact.node_id, now)
            next_at = min(next_at, max(family.ping_at, stalest.heard + FRESH))
        next_at = max(next_at, now + 1.0)
        self._at(next_at, lambda at: self._maintain(family, at))

    def _find_place(self, family: _Family, now: float) -> None:
        family.refresh_at = now + REFRESH
        family.retry_at = now + family.retry
        family.retry = min(LAST_RETRY, 2 * family.retry)
        lost = not family.table.good(now)  # then those of the other family may know somebody
        search = Search(next(self._numbers), family.table.own_id, self, now)
        self._begin(search, now, None if lost else [family])

    def _keep_house(self, now: float) -> None:
        self.peers.expire(now)
        self.items.expire(now)
        self._at(now + HOUSEKEEPING, self._keep_house)

    # figures

    def table(self, *, v6: bool = False) -> Table | None:
        """The routing table of a family, None where there is none."""
        family = self._families.get(v6)
        return family.table if family is not None else None

    def address(self, *, v6: bool = False) -> bytes:
        """Our own address as others see it: 4 or 16 bytes, b"" while that is not known."""
        family = self._families.get(v6)
        return family.votes.address if family is not None else b""

    @property
    def is_ready(self) -> bool:
        """Whether anybody has answered who is still there."""
        return any(len(family.table) for family in self._families.values())

    @property
    def has_anybody(self) -> bool:
        """Whether there is anybody to ask."""
        return any(len(family.table) or family.entrances or family.saved for family in self._families.values())

    def save(self) -> Saved:
        """What another run begins with."""
        found = {}
        for v6, family in self._families.items():
            nodes = sorted(family.table.nodes(), key=lambda node: (node.failures, -node.heard))
            contacts = tuple(node.contact for node in nodes[:MAX_SAVED]) or family.saved
            found[v6] = SavedFamily(family.table.own_id, family.votes.address, contacts)
        return Saved(found.get(False, SavedFamily()), found.get(True, SavedFamily()))


class _Ping:
    """Asks only to see who answers: the table has noted it."""

    def handle_reply(self, question: Question, contact: Contact, reply: Reply, now: float) -> None:
        pass

    def handle_slow(self, question: Question, now: float) -> None:
        pass

    def handle_failure(self, question: Question, now: float) -> None:
        pass


_PING = _Ping()
