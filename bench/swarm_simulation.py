"""A swarm on a virtual clock: each node with its own real Pieces, Picker and Choker, the seed also with SuperSeeding.

Lines are modelled, not sockets: a node sends the blocks that were asked of it one at a time, its unchoked peers in turn,
at its upload rate; what it receives comes in at no more than its download rate, a little later. HAVEs and interest take
no time. A node that disconnects comes back with what it had.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from itertools import count

from btfast._bitfield import Bitfield
from btfast.metainfo.geometry import BLOCK, Geometry
from btfast.swarm.blocks import ALL_BLOCKS, BlockRun
from btfast.swarm.choker import ROUND, SNUBBED, Choker, PeerStats
from btfast.swarm.picker import Picker
from btfast.swarm.pieces import Pieces
from btfast.swarm.super_seeding import Shown, SuperSeeding

DEPTH = 4  # blocks asked of a peer at once: what Pipeline asks of a slow one
LATENCY = 0.05
TICK = 1.0
SEED = 0


@dataclass
class Link:
    """What one end of a connection knows of the other."""

    interested: bool = False  # I want something it has
    wanted: bool = False  # it wants something of mine
    choking: bool = True  # I choke it
    choked: bool = True  # it chokes me
    queue: deque[tuple[int, int]] = field(default_factory=deque)  # what it asked of me
    asked: int = 0
    got: int = 0
    sent: int = 0
    got_before: int = 0
    sent_before: int = 0
    down: float = 0.0
    up: float = 0.0
    last_got: float = 0.0


@dataclass
class Plan:
    """How a node behaves. Rates are bytes a second."""

    up: float
    down: float
    joins: float = 0.0
    free_rider: bool = False
    away: tuple[float, float] | None = None  # disconnected between these moments
    stays: float | None = 0.0  # seconds that it goes on serving when it is done; None: to the end


class Node:
    def __init__(self, swarm: Swarm, number: int, plan: Plan) -> None:
        geometry = swarm.geometry
        have = Bitfield.full(geometry.piece_count) if number == SEED else None
        self.number = number
        self.plan = plan
        self.swarm = swarm
        self.pieces = Pieces(geometry, have)
        self.rng = random.Random(swarm.seed * 1000 + number)
        self.super: SuperSeeding | None = None
        self.links: dict[int, Link] = {}
        self.online = False
        self.sending = False
        self.turn: deque[int] = deque()  # peers with requests, who is served next first; each once
        self.free_at = 0.0  # when the line in has taken in all that is under way
        self.finished = -1.0
        self.restart()

    def restart(self) -> None:
        self.pieces = Pieces(self.swarm.geometry, self.pieces.have)  # what was half fetched is lost
        self.picker = Picker(self.swarm.geometry, self.pieces, self.rng, self)
        self.choker = Choker(self.rng)
        self.next_round = self.swarm.now + self.rng.random() * ROUND

    def open_piece(self, index: int) -> int:
        return ALL_BLOCKS


class Swarm:
    """`plans[0]` is the seed's. `links`: connections that a node makes; the seed is connected to all."""

    def __init__(
        self, plans: list[Plan], *, pieces: int, piece_length: int, links: int = 15, seed: int = 1, super_seeding: bool = False
    ) -> None:
        self.now = 0.0
        self.seed = seed
        self.rng = random.Random(seed)
        self.geometry = Geometry(piece_length, [pieces * piece_length])
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._links = links
        self.sent = [0] * len(plans)
        self.holders = [0] * pieces  # leechers that have it, those online
        self.first_copy = -1.0  # when the leechers held one whole copy
        self.seed_copies = 0.0  # what the seed had sent then
        self._held = 0
        self.single_since: dict[int, float] = {}
        self.longest_single = 0.0
        self.nodes = [Node(self, number, plan) for number, plan in enumerate(plans)]
        if super_seeding:
            self.nodes[SEED].super = SuperSeeding(pieces, self.rng)
        for node in self.nodes:
            self._at(node.plan.joins, lambda node=node: self._join(node))
            if node.plan.away is not None:
                self._at(node.plan.away[0], lambda node=node: self._leave(node))
                self._at(node.plan.away[1], lambda node=node: self._join(node))

    def run(self, limit: float = 36_000.0) -> Swarm:
        left = set(range(1, len(self.nodes)))
        while left:
            self.now, _, action = heappop(self._events)
            assert self.now < limit, f"{len(left)} of {len(self.nodes) - 1} have not finished after {limit} s"
            action()
            left = {n for n in left if self.nodes[n].finished < 0} if self._news else left
            self._news = False
        return self

    _news = False

    def _at(self, when: float, action: Callable[[], None]) -> None:
        heappush(self._events, (when, next(self._order), action))

    # connections

    def _join(self, node: Node) -> None:
        if node.online or node.finished >= 0:
            return
        node.online = True
        node.restart()
        for index in node.pieces.have.indices() if node.number != SEED else ():
            self._hold(index, 1)
        others = [other for other in self.nodes if other.online and other is not node]
        chosen = self.rng.sample(others, min(self._links, len(others)))
        seed = self.nodes[SEED]
        if node is not seed and seed not in chosen and seed.online:
            chosen.append(seed)
        if node is seed:
            chosen = others
        for other in chosen:
            self._connect(node, other)
        self._at(self.now + TICK * self.rng.random(), lambda: self._tick(node))

    def _connect(self, one: Node, other: Node) -> None:
        for a, b in ((one, other), (other, one)):
            a.links[b.number] = Link(last_got=self.now)
            shown = b.pieces.have.copy() if b.super is None else Bitfield(self.geometry.piece_count)
            a.picker.peer_joined(b.number, shown)
        for a, b in ((one, other), (other, one)):
            if a.super is not None:
                self._show(a, a.super.peer_joined(b.number, b.pieces.have, self.now))
            self._interest(a, b)

    def _leave(self, node: Node) -> None:
        if not node.online:
            return
        node.online = False
        for index in node.pieces.have.indices():
            self._hold(index, -1)
        for number in list(node.links):
            other = self.nodes[number]
            for a, b in ((node, other), (other, node)):
                del a.links[b.number]
                a.picker.peer_left(b.number)
                a.choker.peer_left(b.number)
                if a.super is not None:
                    a.super.peer_left(b.number)
            self._give_free(other)
        node.turn.clear()

    def _hold(self, index: int, change: int) -> None:
        before = self.holders[index]
        self.holders[index] += change
        after = self.holders[index]
        self._held += (after > 0) - (before > 0)
        if after == 1:
            self.single_since[index] = self.now
        elif before == 1 and index in self.single_since:
            since = self.single_since.pop(index)
            if after > 1:
                self.longest_single = max(self.longest_single, self.now - since)
        if self._held == self.geometry.piece_count and self.first_copy < 0:
            self.first_copy = self.now
            self.seed_copies = self.sent[SEED] / self.geometry.total_length

    def _show(self, node: Node, shown: Shown) -> None:
        for number, index in shown:
            if number in node.links:
                self._has(self.nodes[number], node, index)

    # interest and choking

    def _interest(self, node: Node, peer: Node) -> None:
        """Whether `node` wants something of `peer`; told where it has changed."""
        link = node.links[peer.number]
        wants = not node.pieces.complete and node.picker.interesting(peer.number)
        if wants != link.interested:
            link.interested = wants
            back = peer.links[node.number]
            back.wanted = wants
            if peer.plan.free_rider:
                return
            if wants:
                if peer.choker.handle_interested(node.number, self.now):
                    self._unchoke(peer, node.number)
            else:
                peer.choker.handle_not_interested(node.number)
                self._give_free(peer)

    def _give_free(self, node: Node) -> None:
        if node.online and not node.plan.free_rider:
            for number in node.choker.poll_free(self.now):
                self._unchoke(node, number)

    def _unchoke(self, node: Node, number: int) -> None:
        node.links[number].choking = False
        peer = self.nodes[number]
        peer.links[node.number].choked = False
        self._fill(peer, node)

    def _choke(self, node: Node, number: int) -> None:
        link = node.links[number]
        link.choking = True
        link.queue.clear()
        peer = self.nodes[number]
        back = peer.links[node.number]
        back.choked = True
        back.asked = 0
        peer.picker.returned_all(node.number)

    def _tick(self, node: Node) -> None:
        if not node.online:
            return
        if node.finished < 0 and node.number != SEED:
            others = [number for number in node.links if not self.nodes[number].pieces.complete]
            node.picker.share(sum(other < node.number for other in others), len(others) + 1)
            for number, link in list(node.links.items()):
                if link.asked == 0:
                    self._interest(node, self.nodes[number])
                self._fill(node, self.nodes[number])
        if node.super is not None:
            self._show(node, node.super.poll(self.now))
            if node.super.complete:
                node.super = None
                for number in list(node.links):
                    for index in range(self.geometry.piece_count):
                        self._has(self.nodes[number], node, index)
        if not node.plan.free_rider:
            self._give_free(node)
            if self.now >= node.next_round:
                node.next_round += ROUND
                self._round(node)
        self._at(self.now + TICK, lambda: self._tick(node))

    def _round(self, node: Node) -> None:
        stats = []
        for number, link in node.links.items():
            link.down = (link.down + (link.got - link.got_before) / ROUND) / 2
            link.up = (link.sent - link.sent_before) / ROUND
            link.got_before, link.sent_before = link.got, link.sent
            snubbed = self.now - link.last_got > SNUBBED
            stats.append(PeerStats(number, link.wanted, link.down, link.up, snubbed))
        unchoke, choke = node.choker.round(self.now, stats, seeding=node.pieces.complete)
        for number in choke:
            self._choke(node, number)
        for number in unchoke:
            self._unchoke(node, number)

    # blocks

    def _fill(self, node: Node, peer: Node) -> None:
        link = node.links[peer.number]
        room = DEPTH - link.asked
        if link.choked or not link.interested or room <= 0:
            return
        runs = node.picker.pick(peer.number, room)
        if not runs:
            return
        queue = peer.links[node.number].queue
        if node.number not in peer.turn:
            peer.turn.append(node.number)
        for index, first, blocks in runs:
            queue.extend((index, first + k) for k in range(blocks))
            link.asked += blocks
        if not peer.sending:
            peer.sending = True
            self._at(self.now + BLOCK / peer.plan.up, lambda: self._send(peer))

    def _send(self, node: Node) -> None:
        """The next block has left."""
        while node.turn:
            number = node.turn.popleft()
            link = node.links.get(number)
            if link is None or not link.queue:
                continue
            block = link.queue.popleft()
            if link.queue:
                node.turn.append(number)
            link.sent += BLOCK
            self.sent[node.number] += BLOCK
            peer = self.nodes[number]
            peer.free_at = max(peer.free_at, self.now) + BLOCK / peer.plan.down
            self._at(peer.free_at + LATENCY, partial(self._arrive, peer, node, peer.links[node.number], block))
            self._at(self.now + BLOCK / node.plan.up, lambda: self._send(node))
            return
        node.sending = False

    def _arrive(self, node: Node, sender: Node, link: Link, block: tuple[int, int]) -> None:
        if node.links.get(sender.number) is not link:
            return
        link.asked = max(0, link.asked - 1)
        link.got += BLOCK
        link.last_got = self.now
        index, number = block
        result = node.picker.received(sender.number, BlockRun(index, number, 1))
        for other, run in result.cancel:
            self._cancel(node, other, run)
        if result.whole:
            node.picker.piece_done(index)
            self._hold(index, 1)
            for other in list(node.links):
                self._has(self.nodes[other], node, index)
            if node.pieces.complete:
                self._finish(node)
        if sender.number in node.links:
            self._fill(node, sender)

    def _cancel(self, node: Node, other: int, run: BlockRun) -> None:
        link = node.links.get(other)
        if link is None:
            return
        queue = self.nodes[other].links[node.number].queue
        for k in range(run.count):
            link.asked = max(0, link.asked - 1)
            if (run.index, run.first + k) in queue:
                queue.remove((run.index, run.first + k))

    def _has(self, node: Node, peer: Node, index: int) -> None:
        """`node` hears that `peer` has a piece."""
        link = node.links[peer.number]
        if node.picker.peer_has(peer.number, index) and not link.interested:
            self._interest(node, peer)
        elif not link.choked:
            self._fill(node, peer)
        if node.super is not None:
            self._show(node, node.super.peer_has(peer.number, index, self.now))

    def _finish(self, node: Node) -> None:
        node.finished = self.now
        self._news = True
        for number in list(node.links):
            self._interest(node, self.nodes[number])
        if node.plan.stays is not None:
            self._at(self.now + node.plan.stays, lambda: self._leave(node))
