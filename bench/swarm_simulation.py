"""A swarm on a virtual clock: each node with its own real Pieces, Picker, Pipelines and Choker, and the seed with Spreading
or SuperSeeding, wired as btfast.engine wires them.

Lines are modelled, not sockets: a node sends the blocks that were asked of it one at a time, its unchoked peers in turn,
at its upload rate; what it receives comes in at no more than its download rate, a little later, and so do HAVEs and
suggestions. Requests, choking and interest take no time. A node that disconnects comes back with the pieces it had.
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
from btfast.swarm.pipeline import Pipeline
from btfast.swarm.spreading import Spreading
from btfast.swarm.super_seeding import Shown, SuperSeeding

LATENCY = 0.05  # seconds
BACKLOG = 0.5  # seconds of its line in that may be under way to a node
TICK = 1.0
SEED = 0


@dataclass(slots=True, eq=False)
class Link:
    """What one end of a connection knows of the other."""

    peer: Node
    pipeline: Pipeline
    back: Link | None = None  # the other end's
    interested: bool = False  # I want something it has
    wanted: bool = False  # it wants something of mine
    choking: bool = True  # I choke it
    choked: bool = True  # it chokes me
    queue: deque[tuple[int, int]] = field(default_factory=deque)  # what it asked of me
    waiting: bool = False  # it stands in my turn
    sending: int = -1  # the piece of which it was sent a block last
    got: int = 0
    sent: int = 0
    got_before: int = 0
    sent_before: int = 0
    down: float = 0.0
    up: float = 0.0
    last_got: float = 0.0

    @property
    def other(self) -> Link:
        """The other end."""
        assert self.back is not None
        return self.back


@dataclass
class Plan:
    """How a node behaves. Rates are bytes a second."""

    up: float
    down: float
    joins: float = 0.0
    free_rider: bool = False
    away: tuple[float, float] | None = None  # disconnected between these moments
    stays: float | None = 0.0  # seconds that it goes on serving when it is done; None: to the end
    heeds: bool = True  # whether its client heeds suggestions (BEP 6)


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
        self.spreading: Spreading | None = None
        self.links: dict[int, Link] = {}
        self.online = False
        self.sending = False
        self.turn: deque[Link] = deque()  # peers with requests, who is served next first; each once
        self.free_at = 0.0  # when the line in has taken in all that is under way
        self.finished = -1.0
        self.restart()

    def restart(self) -> None:
        self.pieces = Pieces(self.swarm.geometry, self.pieces.have)  # what was half fetched is lost
        self.picker = Picker(self.swarm.geometry, self.pieces, self.rng, self, pace=self._pace, rescue=True)
        self.choker = Choker(self.rng)
        self.next_round = self.swarm.now + self.rng.random() * ROUND

    def open_piece(self, index: int) -> int:
        return ALL_BLOCKS

    def _pace(self, peer: int) -> tuple[float, float]:
        pipeline = self.links[peer].pipeline
        return pipeline.pace(self.swarm.now), pipeline.wait(self.swarm.now)


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
        self._left = len(plans) - 1
        self.nodes = [Node(self, number, plan) for number, plan in enumerate(plans)]
        if super_seeding:
            self.nodes[SEED].super = SuperSeeding(pieces, self.rng)
        else:
            self.nodes[SEED].spreading = Spreading(pieces, piece_length, self.rng)
        for node in self.nodes:
            self._at(node.plan.joins, partial(self._join, node))
            if node.plan.away is not None:
                self._at(node.plan.away[0], partial(self._leave, node))
                self._at(node.plan.away[1], partial(self._join, node))

    def run(self, limit: float = 36_000.0) -> Swarm:
        """Until the last has finished."""
        while self._left:
            self.now, _, action = heappop(self._events)
            assert self.now < limit, f"{self._left} of {len(self.nodes) - 1} have not finished after {limit} s"
            action()
        return self

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
        self._at(self.now + TICK * self.rng.random(), partial(self._tick, node))

    def _connect(self, one: Node, other: Node) -> None:
        for a, b in ((one, other), (other, one)):
            a.links[b.number] = Link(b, Pipeline(self.now), last_got=self.now)
            shown = b.pieces.have.copy() if b.super is None else Bitfield(self.geometry.piece_count)
            a.picker.peer_joined(b.number, shown)
        one.links[other.number].back = other.links[one.number]
        other.links[one.number].back = one.links[other.number]
        for a, b in ((one, other), (other, one)):
            if a.super is not None:
                self._show(a, a.super.peer_joined(b.number, b.pieces.have, self.now))
            if a.spreading is not None:
                a.spreading.peer_joined(b.number, b.pieces.have, self.now)
            self._interest(a, a.links[b.number])

    def _leave(self, node: Node) -> None:
        if not node.online:
            return
        node.online = False
        for index in node.pieces.have.indices():
            self._hold(index, -1)
        for number in list(node.links):
            other = self.nodes[number]
            self._disconnect(node, other)
            self._give_free(other)
        node.turn.clear()

    def _disconnect(self, one: Node, other: Node) -> None:
        for a, b in ((one, other), (other, one)):
            link = a.links.pop(b.number)
            link.queue.clear()
            a.picker.peer_left(b.number)
            a.choker.peer_left(b.number)
            if a.super is not None:
                a.super.peer_left(b.number, self.now)
            if a.spreading is not None:
                a.spreading.peer_left(b.number, self.now)

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
            if (link := node.links.get(number)) is not None:
                self._hears(link.peer, link.other, index)

    def _suggest(self, node: Node, link: Link) -> None:
        """What node's spreading has for the peer."""
        assert node.spreading is not None
        for index in node.spreading.suggest(link.peer.number, link.up, self.now):
            if link.peer.plan.heeds:
                link.peer.picker.peer_suggests(node.number, index)

    # interest and choking

    def _interest(self, node: Node, link: Link) -> None:
        """Whether `node` wants something of the peer; told where it has changed."""
        peer = link.peer
        wants = not node.pieces.complete and node.picker.interesting(peer.number)
        if wants != link.interested:
            link.interested = wants
            link.other.wanted = wants
            if peer.plan.free_rider:
                return
            if wants:
                if peer.choker.handle_interested(node.number, self.now):
                    self._unchoke(peer, link.other)
            else:
                peer.choker.handle_not_interested(node.number)
                self._give_free(peer)

    def _give_free(self, node: Node) -> None:
        if node.online and not node.plan.free_rider:
            for number in node.choker.poll_free(self.now):
                self._unchoke(node, node.links[number])

    def _unchoke(self, node: Node, link: Link) -> None:
        link.choking = False
        link.other.choked = False
        if node.spreading is not None:
            node.spreading.handle_served(link.peer.number)
            self._suggest(node, link)
        self._fill(link.peer, link.other)

    def _choke(self, node: Node, link: Link) -> None:
        link.choking = True
        link.queue.clear()
        link.sending = -1
        if node.spreading is not None:
            node.spreading.handle_refused(link.peer.number)
        link.other.choked = True
        self._give_up(link.peer, link.other)

    def _give_up(self, node: Node, link: Link) -> None:
        """What the peer was asked for may be asked of others."""
        link.other.queue.clear()
        link.pipeline.handle_returned(link.pipeline.outstanding)
        node.picker.returned_all(link.peer.number)

    def _tick(self, node: Node) -> None:
        if not node.online:
            return
        if not node.pieces.complete:
            others = [number for number, link in node.links.items() if not link.peer.pieces.complete]
            node.picker.share(sum(other < node.number for other in others), len(others) + 1)
            for link in list(node.links.values()):
                if link.pipeline.outstanding:
                    if link.pipeline.snubbed(self.now):
                        self._give_up(node, link)
                    else:
                        self._give_back(node, link)
                elif link.interested:
                    self._interest(node, link)
                if not link.choked:
                    self._fill(node, link)
        if node.super is not None:
            self._show(node, node.super.poll(self.now))
            if node.super.complete:
                node.super = None
                for link in list(node.links.values()):
                    for index in range(self.geometry.piece_count):
                        self._hears(link.peer, link.other, index)
        if node.spreading is not None:
            for link in node.links.values():
                if not link.choking:
                    self._suggest(node, link)
        if not node.plan.free_rider:
            self._give_free(node)
            if self.now >= node.next_round:
                node.next_round += ROUND
                self._round(node)
        self._at(self.now + TICK, partial(self._tick, node))

    def _give_back(self, node: Node, link: Link) -> None:
        surplus = link.pipeline.surplus(self.now)
        queue = link.other.queue
        while surplus > 0 and queue:
            index, block = queue.pop()
            surplus -= 1
            link.pipeline.handle_returned(1)
            node.picker.returned(link.peer.number, BlockRun(index, block, 1))

    def _round(self, node: Node) -> None:
        stats = []
        for number, link in node.links.items():
            link.down = (link.down + (link.got - link.got_before) / ROUND) / 2
            link.up = (link.sent - link.sent_before) / ROUND
            link.got_before, link.sent_before = link.got, link.sent
            snubbed = self.now - link.last_got > SNUBBED
            arrears = node.spreading is not None and node.spreading.arrears(number)
            busy = node.spreading is not None and node.spreading.busy(number)
            refuses = link.interested and link.choked
            stats.append(PeerStats(number, link.wanted, link.down, link.up, snubbed, refuses, arrears, busy))
        unchoke, choke = node.choker.round(self.now, stats, seeding=node.pieces.complete)
        for number in choke:
            self._choke(node, node.links[number])
        for number in unchoke:
            self._unchoke(node, node.links[number])

    # blocks

    def _fill(self, node: Node, link: Link) -> None:
        if link.choked or not link.interested:
            return
        room = link.pipeline.room(self.now)
        if room <= 0:
            return
        peer = link.peer
        runs = node.picker.pick(peer.number, room)
        if not runs:
            return
        theirs = link.other
        asked = 0
        for index, first, blocks in runs:
            theirs.queue.extend((index, first + k) for k in range(blocks))
            asked += blocks
        link.pipeline.handle_requested(self.now, asked)
        if not theirs.waiting:
            theirs.waiting = True
            peer.turn.append(theirs)
        if not peer.sending:
            peer.sending = True
            self._at(self.now + BLOCK / peer.plan.up, partial(self._send, peer))

    def _send(self, node: Node) -> None:
        """The next block has left. Who cannot take it in is passed over, as its socket would be full."""
        turn = node.turn
        for _ in range(len(turn)):
            link = turn.popleft()
            if not link.queue:
                link.waiting = False
                continue
            turn.append(link)
            peer = link.peer
            if peer.free_at > self.now + BACKLOG:
                continue
            block = link.queue.popleft()
            if node.spreading is not None and block[0] != link.sending:
                link.sending = block[0]
                node.spreading.handle_sending(peer.number, block[0])
            link.sent += BLOCK
            self.sent[node.number] += BLOCK
            peer.free_at = max(peer.free_at, self.now) + BLOCK / peer.plan.down
            self._at(peer.free_at + LATENCY, partial(self._arrive, peer, link.other, block))
            break
        if turn:
            self._at(self.now + BLOCK / node.plan.up, partial(self._send, node))
        else:
            node.sending = False

    def _arrive(self, node: Node, link: Link, block: tuple[int, int]) -> None:
        sender = link.peer.number
        if node.links.get(sender) is not link:
            return
        link.pipeline.handle_received(self.now, 1)
        link.got += BLOCK
        link.last_got = self.now
        index, number = block
        result = node.picker.received(sender, BlockRun(index, number, 1))
        for other, run in result.cancel:
            self._cancel(node, other, run)
        if result.whole:
            node.picker.piece_done(index)
            self._hold(index, 1)
            self._at(self.now + LATENCY, partial(self._tell, node, index))
            if node.pieces.complete:
                self._finish(node)
        self._fill(node, link)

    def _cancel(self, node: Node, other: int, run: BlockRun) -> None:
        link = node.links.get(other)
        if link is None:
            return
        link.pipeline.handle_returned(run.count)
        queue = link.other.queue
        for k in range(run.count):
            if (run.index, run.first + k) in queue:
                queue.remove((run.index, run.first + k))

    def _tell(self, node: Node, index: int) -> None:
        """All peers hear that `node` has a piece."""
        for link in list(node.links.values()):
            peer = link.peer
            if not peer.pieces.complete:
                self._hears(peer, link.other, index)
            elif peer.super is not None:
                self._show(peer, peer.super.peer_has(node.number, index, self.now))
            elif peer.spreading is not None:
                if peer.spreading.peer_has(node.number, index, self.now) and peer.choker.handle_piece_end(node.number, self.now):
                    self._choke(peer, link.other)
                    self._give_free(peer)
                self._suggest(peer, link.other)

    def _hears(self, node: Node, link: Link, index: int) -> None:
        """`node` hears that the peer at the other end has a piece."""
        if node.picker.peer_has(link.peer.number, index) and not link.interested:
            self._interest(node, link)
        elif not link.choked:
            self._fill(node, link)

    def _finish(self, node: Node) -> None:
        node.finished = self.now
        self._left -= 1
        for link in list(node.links.values()):
            self._interest(node, link)
        for link in list(node.links.values()):
            if link.peer.pieces.complete and link.peer.number != SEED:
                self._disconnect(node, link.peer)
        if node.plan.stays is not None:
            self._at(self.now + node.plan.stays, partial(self._leave, node))
