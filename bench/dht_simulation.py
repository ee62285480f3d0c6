"""Thousands of btfast's own DHT nodes on a virtual clock: latency, loss, churn and liars. No socket, no waiting.

Each node is the real `DhtNode`; only the way of the datagrams is modelled: half a round trip of 10 to 150 ms for each
pair, LOSS of them lost. Nodes join through three that are there, live for an exponential time, and others come in their
place. Liars answer everything: some name dead addresses right beside the target, some one another under ids that they
make up beside it, some invent peers and forget what they are told, half of each kind with an id that fits their address.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from math import log2
from statistics import median
from typing import NamedTuple
from zlib import crc32

from btfast.discovery.dht import krpc
from btfast.discovery.dht.endpoints import Endpoint, is_public, unpack
from btfast.discovery.dht.events import PeersFound, SearchEnded
from btfast.discovery.dht.krpc import Contact, Query
from btfast.discovery.dht.node import DhtNode
from btfast.discovery.dht.node_id import make_id
from btfast.discovery.dht.search import Announcement
from btfast.discovery.dht.state import Saved, SavedFamily
from btfast.errors import RemoteError
from btfast.metainfo.addresses import PeerAddress

LOSS = 0.01
PORT = 6881
JOINS = 200.0  # nodes a second at the start
SETTLE = 120.0  # seconds between the last join and the first announce
LIAR_KINDS = ("dead ends", "ring", "inventors")


class Scale(NamedTuple):
    """What is simulated. `lifetime`: mean, in seconds; `wait`: longest time from an announce to its look-up."""

    nodes: int = 10_000
    liars: float = 0.1
    searches: int = 1000
    lifetime: float = 3600.0
    wait: float = 300.0
    seed: int = 1


class Outcome(NamedTuple):
    """What the searches came to; one entry a search in each list."""

    nodes: int
    found: list[bool]
    hops: list[int]
    questions: list[int]
    first_peer: list[float]
    seconds: list[float]
    stored: list[int]
    packets: int
    died: int

    @property
    def success(self) -> float:
        """Share of look-ups that found the peer that was announced."""
        return sum(self.found) / len(self.found)


class Place:
    """A node of the simulation: `receive` and, for honest ones, the DhtNode behind it."""

    def __init__(self, world: World, endpoint: Endpoint) -> None:
        self.world = world
        self.endpoint = endpoint
        self.wakes_at = float("inf")

    def receive(self, data: bytes, source: Endpoint) -> None:
        raise AssertionError("made by a subclass")

    def wake(self) -> None:
        """Its deadline has come."""


class Honest(Place):
    def __init__(self, world: World, endpoint: Endpoint, entrances: list[Endpoint]) -> None:
        super().__init__(world, endpoint)
        host = endpoint[:-2]
        rng = world.rng
        self.node = DhtNode(
            now=world.now, random=rng.randbytes, version=b"sim0",
            saved=Saved(SavedFamily(make_id(host, rng.randbytes(20)), host)),
        )  # fmt: skip
        self.told: dict[int, Callable[[object], None]] = {}
        self.node.add_entrances(world.now, entrances)
        self.node.start(world.now)
        self.settle()

    def receive(self, data: bytes, source: Endpoint) -> None:
        self.node.handle_packet(self.world.now, data, source)
        self.settle()

    def wake(self) -> None:
        self.node.handle_time(self.world.now)
        self.settle()

    def settle(self) -> None:
        """Sends, listens to what it tells, and sets its alarm."""
        world = self.world
        for data, target in self.node.poll_packets():
            world.send(data, self.endpoint, target)
        for event in self.node.poll_events():
            if isinstance(event, PeersFound | SearchEnded) and event.search in self.told:
                self.told[event.search](event)
        deadline = self.node.poll_deadline()
        if deadline is not None and deadline < self.wakes_at:
            self.wakes_at = deadline
            world.at(deadline, self.alarm)

    def alarm(self) -> None:
        if self.wakes_at <= self.world.now and self.world.places.get(self.endpoint) is self:
            self.wakes_at = float("inf")
            self.wake()


class Liar(Place):
    def __init__(self, world: World, endpoint: Endpoint) -> None:
        super().__init__(world, endpoint)
        rng = world.rng
        self.kind = rng.choice(LIAR_KINDS)
        self.node_id = make_id(endpoint[:-2], rng.randbytes(20)) if rng.random() < 0.5 else rng.randbytes(20)

    def receive(self, data: bytes, source: Endpoint) -> None:
        try:
            query = krpc.decode(data)
        except RemoteError:
            return
        if not isinstance(query, Query):
            return
        rng = self.world.rng
        target = query.arguments.get(b"info_hash") or query.arguments.get(b"target")
        values: dict[bytes, object] = {b"id": self.node_id}
        if isinstance(target, bytes):
            values[b"token"] = b"liar"
            if self.kind == "dead ends":
                values[b"nodes"] = krpc.encode_nodes(Contact(near(target, rng), self.world.free()) for _ in range(8))
            elif self.kind == "ring":
                values[b"id"] = near(target, rng)
                liars = rng.sample(self.world.liars, min(8, len(self.world.liars)))
                values[b"nodes"] = krpc.encode_nodes(Contact(near(target, rng), liar) for liar in liars)
            else:
                values[b"values"] = [self.world.free() for _ in range(8)]
        self.world.send(
            krpc.encode_reply(query.transaction, values, version=b"liar", ip=source), self.endpoint, source
        )  # fmt: skip


def near(target: bytes, rng: random.Random) -> bytes:
    """An id that shares all but its last bytes with the target."""
    return target[:17] + rng.randbytes(3)


class World:
    """The network, and its clock."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.rng = random.Random(scale.seed)
        self.now = 0.0
        self.packets = 0
        self.died = 0
        self.places: dict[Endpoint, Place] = {}
        self.honest: list[Honest] = []
        self.liars: list[Endpoint] = []
        self._used: set[bytes] = set()
        self._events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._numbers = count()

    def at(self, time: float, call: Callable[..., None], *arguments: object) -> None:
        heappush(self._events, (time, next(self._numbers), call, arguments))

    def run(self, until: float) -> None:
        """Lets time pass."""
        events = self._events
        while events and events[0][0] <= until:
            self.now, _, call, arguments = heappop(events)
            call(*arguments)
        self.now = until

    def send(self, data: bytes, source: Endpoint, target: Endpoint) -> None:
        self.packets += 1
        if self.rng.random() >= LOSS:
            delay = 0.01 + (crc32(source) ^ crc32(target)) % 1024 / 1024 * 0.14  # hash() differs from run to run
            self.at(self.now + delay, self._deliver, data, source, target)

    def _deliver(self, data: bytes, source: Endpoint, target: Endpoint) -> None:
        place = self.places.get(target)
        if place is not None:
            place.receive(data, source)

    def free(self) -> Endpoint:
        """A public address that nobody has."""
        while True:
            host = self.rng.randbytes(4)
            if host not in self._used and is_public(host) and host[0] < 224:
                return host + PORT.to_bytes(2, "big")

    def join(self) -> None:
        """One more node, an honest one or a liar as the shares say."""
        endpoint = self.free()
        self._used.add(endpoint[:-2])
        if self.honest and self.rng.random() < self.scale.liars:
            self.liars.append(endpoint)
            self.places[endpoint] = Liar(self, endpoint)
            return
        entrances = [place.endpoint for place in self.rng.sample(self.honest, min(3, len(self.honest)))]
        place = Honest(self, endpoint, entrances)
        self.places[endpoint] = place
        self.honest.append(place)
        self.at(self.now + self.rng.expovariate(1 / self.scale.lifetime) + SETTLE, self._die, place)

    def _die(self, place: Honest) -> None:
        """It leaves without a word, and another one comes."""
        self.died += 1
        del self.places[place.endpoint]
        self.honest[self.honest.index(place)] = self.honest[-1]
        self.honest.pop()
        self.join()


class Trial:
    """One announce, and one look-up for it by somebody else later."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.info_hash = world.rng.randbytes(20)
        self.announcer = world.rng.choice(world.honest)
        self.announced: SearchEnded | None = None
        self.ended: SearchEnded | None = None
        self.first_peer: float | None = None
        self._peer = PeerAddress(unpack(self.announcer.endpoint).host, 7000)
        self._start(self.announcer, Announcement(7000, False), self._told_of_announce)

    def _start(
        self, place: Honest, announcement: Announcement | None, told: Callable[[object], None]
    ) -> None:
        number = place.node.find_peers(self.world.now, self.info_hash, announcement=announcement)
        place.told[number] = told
        place.settle()

    def _told_of_announce(self, event: object) -> None:
        if isinstance(event, SearchEnded):
            self.announced = event
            self.world.at(self.world.now + self.world.rng.uniform(1, self.world.scale.wait), self._look_up)

    def _look_up(self) -> None:
        others = [place for place in self.world.rng.sample(self.world.honest, 2) if place is not self.announcer]
        self._began = self.world.now
        self._start(others[0], None, self._told_of_search)

    def _told_of_search(self, event: object) -> None:
        if isinstance(event, PeersFound) and self._peer in event.peers and self.first_peer is None:
            self.first_peer = self.world.now - self._began
        elif isinstance(event, SearchEnded):
            self.ended = event


def simulate(scale: Scale) -> Outcome:
    """Joins everybody, lets it settle, and then searches while nodes come and go."""
    world = World(scale)
    for number in range(scale.nodes):
        world.at(number / JOINS, world.join)
    start = scale.nodes / JOINS + SETTLE
    world.run(start)
    trials: list[Trial] = []
    step = scale.wait / scale.searches
    for number in range(scale.searches):
        world.at(start + number * step, lambda number=number: trials.append(Trial(world, number)))
    world.run(start + 2 * scale.wait + 60)
    ended = [trial.ended for trial in trials]
    assert len(trials) == scale.searches
    if any(trial.announced is None for trial in trials):
        trials = [trial for trial in trials if trial.announced is not None or trial.announcer.endpoint in world.places]
    searches = [end for end in ended if end is not None]
    return Outcome(
        nodes=len(world.places),
        found=[trial.first_peer is not None for trial in trials if trial.ended is not None],
        hops=[end.hops for end in searches],
        questions=[end.questions for end in searches],
        first_peer=[trial.first_peer for trial in trials if trial.first_peer is not None],
        seconds=[end.seconds for end in searches],
        stored=[trial.announced.stored for trial in trials if trial.announced is not None],
        packets=world.packets,
        died=world.died,
    )


SUCCESS = 0.99  # share of the searches
QUICK = Scale(nodes=300, searches=50, lifetime=900.0, wait=120.0)


def describe(quick: bool) -> str:
    """What is simulated."""
    scale = QUICK if quick else Scale()
    return (
        f"{scale.nodes:,} DHT nodes on a virtual clock, {scale.liars:.0%} of them liars, each {scale.lifetime:.0f} s in the "
        f"mean, {LOSS:.0%} of the datagrams lost; {scale.searches:,} announces, each looked up by another node later"
    )


def figures(quick: bool) -> list[str]:
    """Simulates; the figures, a line each."""
    return lines(simulate(QUICK if quick else Scale()))


def lines(outcome: Outcome) -> list[str]:
    """The figures, for people."""

    def spread(values: list[float] | list[int]) -> str:
        ordered = sorted(values)
        return f"median {median(ordered):.3g}, 99 % {ordered[int(0.99 * (len(ordered) - 1))]:.3g}, most {ordered[-1]:.3g}"

    return [
        f"{outcome.nodes} nodes, {outcome.died} left meanwhile, {outcome.packets} packets",
        f"found the announced peer: {100 * outcome.success:.2f} % of {len(outcome.found)} searches",
        f"hops: {spread(outcome.hops)} (log2 of the nodes is {log2(outcome.nodes):.1f})",
        f"questions: {spread(outcome.questions)}",
        f"seconds to the first peer: {spread(outcome.first_peer)}",
        f"seconds to the end: {spread(outcome.seconds)}",
        f"nodes that stored an announce: {spread(outcome.stored)}",
        f"{'met' if outcome.success >= SUCCESS else 'MISSED'}     searches that found the peer (goal >= {SUCCESS:.0%})",
        f"{'met' if max(outcome.hops) <= log2(outcome.nodes) else 'MISSED'}     most hops (goal <= log2 of the nodes)",
    ]
