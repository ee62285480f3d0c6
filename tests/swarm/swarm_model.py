"""A discrete-event model of a swarm around the real Picker and Pipeline: what the engine does, on a virtual clock.

A peer serves its queue in order at its rate; requests and blocks travel half a round trip each. The client wakes for
what has come, as an event loop does, and looks after slow peers ten times a second.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

from btfast._bitfield import Bitfield
from btfast.metainfo.geometry import BLOCK, Geometry
from btfast.swarm.blocks import ALL_BLOCKS, BlockRun
from btfast.swarm.picker import Picker
from btfast.swarm.pieces import Pieces
from btfast.swarm.pipeline import Pipeline
from btfast.swarm.suspects import BadBlocks

WAKE = 0.0005
TICK = 0.1
HASHING = 0.004


@dataclass
class ModelPeer:
    rate: float  # bytes a second
    rtt: float
    reqq: int = 2000
    have: Bitfield | None = None  # None: a seed
    said_reqq: int | None = None  # what it claims; None: the truth
    joins: float = 0.0
    leaves: float | None = None  # connection closes
    hangs: float | None = None  # from then on it answers nothing but stays
    stutter: float = 0.0  # seconds of silence after every 32 blocks
    bad: bool = False  # its blocks fail the hash
    jitter: float = 0.0  # up to so many seconds more for a block's way
    slow_start: bool = False  # its TCP window begins at ten segments and doubles each round trip
    first_wait: float = 0.0  # seconds before it answers its first request
    later_rtt: tuple[float, float] | None = None  # from this moment on the round trip is another
    number: int = -1
    queue: deque[tuple[int, int]] = field(default_factory=deque)
    serving: bool = False
    gone: bool = False
    served: int = 0
    last_arrival: float = 0.0


class Model:
    def __init__(
        self,
        peers: list[ModelPeer],
        *,
        total: int,
        piece_length: int,
        arena: int = 256 << 20,
        seed: int = 1,
        reorder: bool = False,
    ) -> None:
        self.now = 0.0
        self.rng = random.Random(seed)
        self.geometry = Geometry(piece_length, [total])
        self.pieces = Pieces(self.geometry)
        self.slot_limit = max(arena // piece_length, 1)
        self.slots: set[int] = set()
        self.most_slots = 0
        self.picker = Picker(self.geometry, self.pieces, random.Random(seed), self, pace=self._pace, rescue=True)
        self.peers = peers
        self.pipes: dict[int, Pipeline] = {}
        self.asked: dict[int, list[BlockRun]] = {}
        self.arrived: dict[int, list[tuple[int, int]]] = {}
        self.first_payload = -1.0
        self.last_payload = -1.0
        self.received_blocks = 0
        self.wasted_blocks = 0
        self.rejected_blocks = 0
        self.failures = 0
        self.suspects = BadBlocks()
        self.banned: list[int] = []
        self.most_outstanding = 0
        self.received_at: list[tuple[float, int]] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        for number, peer in enumerate(peers):
            peer.number = number
            self._at(peer.joins + 2 * peer.rtt, lambda peer=peer: self._join(peer))
            if peer.leaves is not None:
                self._at(peer.leaves, lambda peer=peer: self._leave(peer))
        self._at(TICK, self._tick)

    # SlotSource

    def open_piece(self, index: int) -> int:
        if len(self.slots) >= self.slot_limit:
            return 0
        assert index not in self.slots
        self.slots.add(index)
        self.most_slots = max(self.most_slots, len(self.slots))
        return ALL_BLOCKS

    def run(self, limit: float = 3600.0) -> Model:
        while not self.pieces.complete:
            assert self._events, "nothing is under way and the download is not complete"
            self.now, _, action = heappop(self._events)
            assert self.now < limit, f"{self.pieces.bytes_left} bytes left after {limit} s"
            action()
        return self

    @property
    def share_of(self) -> float:
        """Bytes a second between first and last payload byte."""
        return self.geometry.total_length / (self.last_payload - self.first_payload)

    def tail(self, share: float) -> float:
        """Seconds from the moment when all but `share` of the blocks had come, to the last block."""
        wanted = self.received_blocks * (1 - share)
        for moment, blocks in self.received_at:
            if blocks >= wanted:
                return self.last_payload - moment
        return 0.0

    # The client: what the engine does

    def _pace(self, number: int) -> tuple[float, float]:
        pipe = self.pipes[number]
        return pipe.pace(self.now), pipe.wait(self.now)

    def _join(self, peer: ModelPeer) -> None:
        if peer.gone:
            return
        number = peer.number
        self.picker.peer_joined(number, (peer.have or Bitfield.full(self.geometry.piece_count)).copy())
        pipe = self.pipes[number] = Pipeline(self.now)
        pipe.set_reqq(peer.said_reqq or peer.reqq)
        self.asked[number] = []
        self._fill(number)

    def _leave(self, peer: ModelPeer) -> None:
        if peer.gone:
            return
        peer.gone = True
        peer.queue.clear()
        if peer.number in self.pipes:
            self.picker.peer_left(peer.number)
            del self.pipes[peer.number], self.asked[peer.number]
            self._fill_all()

    def _fill(self, number: int) -> None:
        pipe = self.pipes[number]
        room = pipe.room(self.now)
        if not room:
            return
        runs = self.picker.pick(number, room)
        for index in self.picker.poll_abandoned():
            self.slots.discard(index)
        if not runs:
            return
        pipe.handle_requested(self.now, sum(run.count for run in runs))
        assert pipe.outstanding == self.picker.outstanding(number)
        self.most_outstanding = max(self.most_outstanding, pipe.outstanding)
        self.asked[number].extend(runs)
        peer = self.peers[number]
        self._at(self.now + peer.rtt / 2, lambda: self._reach(peer, runs))

    def _fill_all(self) -> None:
        for number in list(self.pipes):
            self._fill(number)

    def _wake(self, number: int) -> None:
        blocks = self.arrived.pop(number, [])
        if number not in self.pipes:
            return
        pipe = self.pipes[number]
        for run in _merged(blocks):
            before = self.picker.outstanding(number)
            result = self.picker.received(number, run)
            pipe.handle_received(self.now, before - self.picker.outstanding(number))
            self.received_blocks += result.new
            self.wasted_blocks += run.count - result.new
            if result.new:
                if self.first_payload < 0:
                    self.first_payload = self.now
                self.last_payload = self.now
                self.received_at.append((self.now, self.received_blocks))
            for other, cancelled in result.cancel:
                self.pipes[other].handle_returned(cancelled.count)
                self._cancel(other, cancelled)
            if result.whole:
                self._at(self.now + HASHING, lambda index=run.index: self._hashed(index))
        self._fill(number)

    def _hashed(self, index: int) -> None:
        senders = self.picker.senders(index)
        prints = [0] * self.geometry.block_count(index)
        for number, run in senders:
            if self.peers[number].bad:
                prints[run.first : run.first + run.count] = [number + 1] * run.count
        self.slots.discard(index)
        if any(prints):
            self.failures += 1
            self.picker.piece_failed(index)
            guilty = self.suspects.failed(index, senders, prints)
        else:
            self.picker.piece_done(index)
            guilty = self.suspects.verified(index, prints)
        for number in guilty:
            self.banned.append(number)
            self._leave(self.peers[number])
        self._fill_all()

    def _tick(self) -> None:
        tight = len(self.slots) >= self.slot_limit and any(not pipe.outstanding for pipe in self.pipes.values())
        for number in list(self.pipes):
            pipe = self.pipes[number]
            if pipe.snubbed(self.now):
                for run in self.picker.returned_all(number):
                    pipe.handle_returned(run.count)
                    self._cancel(number, run)
                continue
            surplus = pipe.surplus(self.now, tight=tight)
            while surplus > 0 and self.asked[number]:
                run = self.asked[number].pop()
                given = min(run.count, surplus)
                if given < run.count:
                    self.asked[number].append(BlockRun(run.index, run.first, run.count - given))
                back = BlockRun(run.index, run.first + run.count - given, given)
                returned = self.picker.returned(number, back)
                if returned:
                    pipe.handle_returned(returned)
                    self._cancel(number, back)
                surplus -= returned
        self._fill_all()
        self._at(self.now + TICK, self._tick)

    def _cancel(self, number: int, run: BlockRun) -> None:
        peer = self.peers[number]
        blocks = {(run.index, run.first + k) for k in range(run.count)}

        def reach() -> None:
            peer.queue = deque(block for block in peer.queue if block not in blocks)

        self._at(self.now + peer.rtt / 2, reach)

    def _rejected(self, number: int, run: BlockRun) -> None:
        if number in self.pipes:
            returned = self.picker.returned(number, run)
            self.rejected_blocks += returned
            self.pipes[number].handle_rejected(returned)

    # The peers

    def _reach(self, peer: ModelPeer, runs: list[BlockRun]) -> None:
        if peer.gone:
            return
        for run in runs:
            fits = max(min(run.count, peer.reqq - len(peer.queue)), 0)
            peer.queue.extend((run.index, run.first + k) for k in range(fits))
            if fits < run.count:
                rest = BlockRun(run.index, run.first + fits, run.count - fits)
                self._at(self.now + peer.rtt / 2, lambda rest=rest: self._rejected(peer.number, rest))
        if not peer.serving and peer.queue:
            peer.serving = True
            wait = 0.0 if peer.served else peer.first_wait
            self._at(self.now + wait + _block_time(peer), lambda: self._serve(peer))

    def _serve(self, peer: ModelPeer) -> None:
        if peer.gone or not peer.queue or (peer.hangs is not None and self.now >= peer.hangs):
            peer.serving = False
            return
        block = peer.queue.popleft()
        peer.served += 1
        if peer.later_rtt is not None and self.now >= peer.later_rtt[0]:
            peer.rtt = peer.later_rtt[1]
        way = peer.rtt / 2 + (self.rng.random() * peer.jitter if peer.jitter else 0.0)
        arrival = peer.last_arrival = max(self.now + way, peer.last_arrival)
        self._at(arrival, lambda: self._deliver(peer.number, block))
        pause = peer.stutter if peer.stutter and peer.served % 32 == 0 else 0.0
        self._at(self.now + _block_time(peer) + pause, lambda: self._serve(peer))

    def _deliver(self, number: int, block: tuple[int, int]) -> None:
        waiting = self.arrived.get(number)
        if waiting is None:
            self.arrived[number] = [block]
            self._at(self.now + WAKE, lambda: self._wake(number))
        else:
            waiting.append(block)

    def _at(self, when: float, action: Callable[[], None]) -> None:
        heappush(self._events, (when, next(self._order), action))


def _block_time(peer: ModelPeer) -> float:
    """Seconds that one block takes at the peer."""
    if peer.slow_start:
        return BLOCK / min(peer.rate, (14_600 + peer.served * BLOCK) / peer.rtt)
    return BLOCK / peer.rate


def _merged(blocks: list[tuple[int, int]]) -> list[BlockRun]:
    runs: list[BlockRun] = []
    for index, block in blocks:
        if runs and runs[-1].index == index and runs[-1].first + runs[-1].count == block:
            runs[-1] = BlockRun(index, runs[-1].first, runs[-1].count + 1)
        else:
            runs.append(BlockRun(index, block, 1))
    return runs
