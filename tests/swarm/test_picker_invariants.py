"""Any sequence of operations keeps the picker's invariants, and a seed can always finish the torrent afterwards."""

from __future__ import annotations

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from btfast._bitfield import Bitfield
from btfast.metainfo.geometry import BLOCK, Geometry
from btfast.swarm.blocks import ALL_BLOCKS, NOBODY, mask_of_run
from btfast.swarm.picker import BlockRun, Picker
from btfast.swarm.pieces import HASHING, HASHLESS, RECEIVING, WANTED, Pieces, PieceState


class PickerMachine(RuleBasedStateMachine):
    asked = Bundle("asked")  # (peer, run) as picked; may have been answered already

    @initialize(
        pieces=st.integers(1, 6),
        blocks=st.integers(1, 9),
        tail=st.integers(0, BLOCK * 3),
        slots=st.integers(1, 4),
        room=st.sampled_from([1, 3, ALL_BLOCKS]),
        sequential=st.booleans(),
        levels=st.none() | st.binary(min_size=6, max_size=6),
        paced=st.booleans(),
        seed=st.integers(0, 1000),
    )
    def begin(
        self, pieces: int, blocks: int, tail: int, slots: int, room: int, sequential: bool, levels: bytes | None,
        paced: bool, seed: int,
    ) -> None:  # fmt: skip
        total = max(pieces * blocks * BLOCK - tail, 1)
        self.geometry = Geometry(blocks * BLOCK, [total])
        self.pieces = Pieces(self.geometry)
        self.limit = slots
        self.room = room
        self.slots: set[int] = set()
        self.proved: dict[int, int] = {}  # blocks of mended pieces that need not be sent again
        self.peers: dict[int, Bitfield] = {}
        self.next_peer = 0
        self.hashing: list[int] = []
        pace = (lambda peer: ((peer % 3) * 100_000.0, 0.05)) if paced else None
        self.picker = Picker(
            self.geometry, self.pieces, random.Random(seed), self, sequential=sequential,
            levels=levels[: self.geometry.piece_count] if levels else None, pace=pace, rescue=True
        )

    def open_piece(self, index: int) -> int:
        if len(self.slots) >= self.limit:
            return 0
        assert index not in self.slots
        self.slots.add(index)
        self.proved.pop(index, None)
        return self.room

    def poll(self) -> None:
        for index in self.picker.poll_abandoned():
            self.slots.remove(index)

    def take(self, peer: int, run: BlockRun) -> None:
        before = self.picker._open.all[run.index].received if run.index in self.picker._open.all else None
        counts = {number: self.picker.outstanding(number) for number in self.peers}
        result = self.picker.received(peer, run)
        if before is None:
            assert result.new == 0
        else:
            piece = self.picker._open.all[run.index]
            assert result.new == (mask_of_run(run) & piece.full & ~before).bit_count()
            assert piece.received == before | (mask_of_run(run) & piece.full)
        for other, cancelled in result.cancel:
            assert other != peer
            counts[other] -= cancelled.count
        for number in self.peers:
            if number != peer:
                assert self.picker.outstanding(number) == counts[number]
        if result.whole:
            assert self.pieces.state(run.index) == PieceState.HASHING
            self.hashing.append(run.index)

    @rule(have=st.lists(st.booleans(), min_size=6, max_size=6), seed=st.booleans())
    def join(self, have: list[bool], seed: bool) -> None:
        field = Bitfield(self.geometry.piece_count)
        for index in range(self.geometry.piece_count):
            if seed or have[index]:
                field.set(index)
        self.peers[self.next_peer] = field
        self.picker.peer_joined(self.next_peer, field)
        self.next_peer += 1

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        if self.peers:
            peer = data.draw(st.sampled_from(sorted(self.peers)))
            outstanding = self.picker.outstanding(peer)
            del self.peers[peer]
            assert sum(run.count for run in self.picker.peer_left(peer)) == outstanding

    @rule(data=st.data(), has=st.booleans())
    def changes(self, data: st.DataObject, has: bool) -> None:
        if self.peers:
            peer = data.draw(st.sampled_from(sorted(self.peers)))
            index = data.draw(st.integers(0, self.geometry.piece_count - 1))
            if has:
                self.picker.peer_has(peer, index)
            else:
                count = data.draw(st.integers(1, self.geometry.piece_count - index))
                self.picker.peer_lacks(peer, index, count)
                assert not any(self.peers[peer][lost] for lost in range(index, index + count))
            assert self.peers[peer][index] == has

    @rule(target=asked, data=st.data(), blocks=st.integers(1, 20))
    def pick_among(self, data: st.DataObject, blocks: int) -> object:
        if not self.peers:
            return multiple()
        peer = data.draw(st.sampled_from(sorted(self.peers)))
        among = data.draw(st.lists(st.integers(0, self.geometry.piece_count - 1), unique=True))
        taken = {index: piece.received | sum_of(piece.holders.values()) for index, piece in self.picker._open.all.items()}
        runs = self.picker.pick_among(among, peer, blocks)
        assert sum(run.count for run in runs) <= blocks
        for run in runs:
            assert run.index in among
            assert self.peers[peer][run.index]
            assert run.first + run.count <= self.geometry.block_count(run.index)
            assert not mask_of_run(run) & taken.get(run.index, 0)
        return multiple(*((peer, run) for run in runs))

    @rule(target=asked, data=st.data(), blocks=st.integers(1, 20))
    def pick(self, data: st.DataObject, blocks: int) -> object:
        if not self.peers:
            return multiple()
        peer = data.draw(st.sampled_from(sorted(self.peers)))
        received = {index: piece.received for index, piece in self.picker._open.all.items()}
        taken = {index: piece.received | sum_of(piece.holders.values()) for index, piece in self.picker._open.all.items()}
        mine = {index: piece.holders.get(peer, 0) for index, piece in self.picker._open.all.items()}
        endgame = self.picker.endgame
        interesting = self.picker.interesting(peer)
        runs = self.picker.pick(peer, blocks)
        self.poll()
        assert sum(run.count for run in runs) <= blocks
        assert self.picker.took_over == any(mask_of_run(run) & taken.get(run.index, 0) for run in runs)
        for run in runs:
            assert interesting
            assert self.peers[peer][run.index]
            assert run.count > 0
            assert run.first + run.count <= self.geometry.block_count(run.index)
            assert not mask_of_run(run) & mine.get(run.index, 0)
            assert not mask_of_run(run) & received.get(run.index, 0)
            if not endgame and len(self.slots) < self.limit:
                assert not mask_of_run(run) & taken.get(run.index, 0)
        return multiple(*((peer, run) for run in runs))

    @rule(answer=consumes(asked), part=st.tuples(st.integers(0, 8), st.integers(0, 8)))
    def deliver(self, answer: tuple[int, BlockRun], part: tuple[int, int]) -> None:
        peer, run = answer
        first = min(part[0], run.count - 1)
        count = max(1, min(part[1], run.count - first))
        self.take(peer, BlockRun(run.index, run.first + first, count))

    @rule(answer=asked)
    def deliver_again(self, answer: tuple[int, BlockRun]) -> None:
        self.take(*answer)

    @rule(answer=consumes(asked))
    def give_back(self, answer: tuple[int, BlockRun]) -> None:
        peer, run = answer
        if peer in self.peers:
            before = self.picker.outstanding(peer)
            assert self.picker.outstanding(peer) == before - 0
            returned = self.picker.returned(peer, run)
            assert self.picker.outstanding(peer) == before - returned
        else:
            assert self.picker.returned(peer, run) == 0

    @rule(data=st.data())
    def choke(self, data: st.DataObject) -> None:
        if self.peers:
            peer = data.draw(st.sampled_from(sorted(self.peers)))
            self.picker.returned_all(peer)
            assert self.picker.outstanding(peer) == 0

    @rule(data=st.data())
    def lies(self, data: st.DataObject) -> None:
        if self.peers:
            peer = data.draw(st.sampled_from(sorted(self.peers)))
            hashing = {index: self.picker.senders(index) for index in self.hashing}
            touched = self.picker.disbelieve(peer)
            assert not set(touched) & set(hashing)
            assert {index: self.picker.senders(index) for index in hashing} == hashing
            assert not any(peer == sender for index in touched for sender, _ in self.picker.senders(index))

    @rule(good=st.booleans())
    def hashed(self, good: bool) -> None:
        if self.hashing:
            index = self.hashing.pop()
            sent = sum_of(mask_of_run(run) for _, run in self.picker.senders(index))
            assert sent | self.proved.get(index, 0) == (1 << self.geometry.block_count(index)) - 1
            self.slots.remove(index)
            if good:
                self.picker.piece_done(index)
            else:
                self.picker.piece_failed(index)

    @rule(bad=st.integers(1, 255), room=st.integers(0, 9), data=st.data())
    def mended(self, bad: int, room: int, data: st.DataObject) -> None:
        if self.hashing:
            index = self.hashing.pop()
            full = (1 << self.geometry.block_count(index)) - 1
            bad = bad & full or 1
            guilty = [data.draw(st.sampled_from(sorted(self.peers)))] if self.peers else []
            self.picker.piece_mended(index, bad, guilty, room=room)
            piece = self.picker._open.all[index]
            assert (piece.free | piece.locked, piece.received) == (bad, full ^ bad)
            assert self.picker.senders(index) == []
            self.proved[index] = full ^ bad

    @rule(first=st.integers(0, 5), count=st.integers(1, 6), known=st.booleans())
    def hashes(self, first: int, count: int, known: bool) -> None:
        indexes = range(first, min(first + count, self.geometry.piece_count))
        (self.picker.hashes_came if known else self.pieces.wait_for_hashes)(indexes)

    @rule(data=st.data(), room=st.integers(1, 9))
    def finds_room(self, data: st.DataObject, room: int) -> None:
        if self.picker._open.all:
            self.picker.unlock(data.draw(st.sampled_from(sorted(self.picker._open.all))), room)

    @rule(data=st.data())
    def choose_files(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, self.geometry.piece_count - 1))
        if not self.pieces.want(index):
            self.pieces.unwant(index)

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "picker"):
            return
        picker = self.picker
        outstanding = dict.fromkeys(self.peers, 0)
        for index, piece in picker._open.all.items():
            held = sum_of(piece.holders.values())
            assert piece.received & (held | piece.free) == 0
            assert piece.free & held == 0
            assert piece.locked & (piece.received | held | piece.free) == 0
            assert piece.received | held | piece.free | piece.locked == piece.full
            if not piece.doubled:
                assert sum(mask.bit_count() for mask in piece.holders.values()) == held.bit_count()
            for peer, mask in piece.holders.items():
                assert mask
                outstanding[peer] += mask.bit_count()
                assert picker._peers[peer].open[index] is piece
            assert (index in picker._open.free) == (piece.free != 0)
            assert (index in picker._open.loose) == (piece.free != 0 and piece.owner == NOBODY)
            if piece.owner != NOBODY:
                assert piece.free
                assert picker._peers[piece.owner].own is piece
            whole = piece.received == piece.full
            assert self.pieces.state(index) == (HASHING if whole else RECEIVING)
        assert set(picker._open.free) <= set(picker._open.all)
        assert set(picker._open.loose) <= set(picker._open.free)
        assert set(picker._open.all) == self.slots
        assert picker._open.locked == {index for index, piece in picker._open.all.items() if piece.locked}
        assert not picker.endgame or not picker._open.locked
        assert len(picker._open.all) == self.pieces.count(RECEIVING) + self.pieces.count(HASHING)
        for peer, count in outstanding.items():
            assert picker.outstanding(peer) == count
            own = picker._peers[peer].own
            assert own is None or own.owner == peer
        for state, mask in ((WANTED, picker._rarity.wanted), (HASHLESS, picker._rarity.hashless)):
            assert mask == self.pieces.mask(state)
        for index in range(self.geometry.piece_count):
            assert picker.availability(index) == sum(field[index] for field in self.peers.values())
        left = sum(
            self.geometry.piece_size(index)
            for index in range(self.geometry.piece_count)
            if self.pieces.state(index) not in (PieceState.MISSING, PieceState.HAVE)
        )
        assert self.pieces.bytes_left == left

    def teardown(self) -> None:
        if not hasattr(self, "picker"):
            return
        self.picker.hashes_came(range(len(self.pieces)))
        for peer in sorted(self.peers):
            self.picker.returned_all(peer)
        self.join([], True)
        seed = self.next_peer - 1
        self.join([], True)
        other = self.next_peer - 1
        # Blocks that both are asked for, of which either may go away.
        for peer in (seed, other, seed):
            self.picker.pick(peer, 12)
            self.poll()
            self.holds()
        self.picker.returned_all(seed)
        self.holds()
        del self.peers[other]
        self.picker.peer_left(other)
        self.holds()
        rounds = 0
        while not self.pieces.complete:
            rounds += 1
            assert rounds < 2000, "the seed gets nothing and the torrent is not complete"
            while self.hashing:
                self.hashed(True)
            for index in sorted(self.picker._open.locked):
                self.picker.unlock(index, self.geometry.block_count(index))
            runs = self.picker.pick(seed, 7)
            self.poll()
            for run in runs:
                self.take(seed, run)
        self.holds()
        assert not self.pieces.count(WANTED)


def sum_of(masks: object) -> int:
    union = 0
    for mask in masks:  # type: ignore[attr-defined]
        union |= mask
    return union


PickerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestPickerInvariants = PickerMachine.TestCase
