from __future__ import annotations

import random

import pytest

from btfast._bitfield import Bitfield
from btfast.metainfo.geometry import BLOCK, Geometry
from btfast.swarm.blocks import ALL_BLOCKS
from btfast.swarm.picker import BlockRun, Picker
from btfast.swarm.pieces import HASHING, HAVE, RECEIVING, WANTED, Pieces


class Slots:
    """A fake arena: `limit` pieces at a time, of each the first `room` blocks."""

    def __init__(self, limit: int = 1 << 30) -> None:
        self.limit = limit
        self.room = ALL_BLOCKS  # of each piece
        self.used: set[int] = set()

    def open_piece(self, index: int) -> int:
        if len(self.used) >= self.limit:
            return 0
        assert index not in self.used
        self.used.add(index)
        return self.room


class Swarm:
    def __init__(
        self, pieces: int, blocks: int = 16, *, slots: int = 1 << 30, sequential: bool = False, tail: int = 0,
        paced: bool = False,
    ) -> None:  # fmt: skip
        length = pieces * blocks * BLOCK - tail
        self.geometry = Geometry(blocks * BLOCK, [length])
        self.pieces = Pieces(self.geometry)
        self.slots = Slots(slots)
        self.pace: dict[int, tuple[float, float]] = {}
        self.picker = Picker(
            self.geometry, self.pieces, random.Random(7), self.slots, sequential=sequential,
            pace=self.pace.__getitem__ if paced else None, rescue=paced,
        )  # fmt: skip

    def seed(self, peer: int) -> None:
        self.picker.peer_joined(peer, Bitfield.full(self.geometry.piece_count))

    def partial(self, peer: int, *indexes: int) -> None:
        field = Bitfield(self.geometry.piece_count)
        for index in indexes:
            field.set(index)
        self.picker.peer_joined(peer, field)

    def done(self, index: int) -> None:
        self.picker.piece_done(index)
        self.slots.used.discard(index)

    def fetch(self, peer: int, blocks: int) -> int:
        """Picks and receives at once; how many blocks were new."""
        new = 0
        for run in self.picker.pick(peer, blocks):
            result = self.picker.received(peer, run)
            new += result.new
            if result.whole:
                self.done(run.index)
        return new


def test_a_fast_peer_gets_its_own_pieces_in_long_runs() -> None:
    swarm = Swarm(10)
    swarm.seed(1)
    swarm.seed(2)
    first = swarm.picker.pick(1, 40)
    assert [(run.first, run.count) for run in first] == [(0, 16), (0, 16), (0, 8)]
    second = swarm.picker.pick(2, 40)
    assert not {run.index for run in first} & {run.index for run in second}
    assert swarm.picker.pick(1, 8) == [BlockRun(first[2].index, 8, 8)]
    assert swarm.picker.outstanding(1) == 48


def test_the_last_short_piece_has_fewer_blocks() -> None:
    swarm = Swarm(2, 16, tail=BLOCK * 12 + 100, sequential=True)
    swarm.seed(1)
    assert swarm.picker.pick(1, 100) == [BlockRun(0, 0, 16), BlockRun(1, 0, 4)]


def test_sequential_order_is_index_order_also_for_a_partial_peer() -> None:
    swarm = Swarm(6, sequential=True)
    swarm.partial(1, 1, 3, 4)
    swarm.seed(2)
    assert [run.index for run in swarm.picker.pick(2, 32)] == [0, 1]
    assert [run.index for run in swarm.picker.pick(1, 32)] == [3, 4]


def test_rarest_first_after_the_random_start() -> None:
    swarm = Swarm(40)
    swarm.seed(1)
    assert swarm.fetch(1, 4 * 16) == 64
    wanted = swarm.pieces.wanted_indexes()
    for peer in range(2, 6):
        swarm.partial(peer, *wanted[peer - 2 :])
    swarm.partial(6, *wanted)
    picked = [run.index for run in swarm.picker.pick(1, 16 * 3)]
    assert picked == wanted[:3]


def test_pieces_are_shared_when_there_is_no_slot() -> None:
    swarm = Swarm(10, slots=1)
    swarm.seed(1)
    swarm.seed(2)
    first = swarm.picker.pick(1, 4)
    second = swarm.picker.pick(2, 4)
    assert first[0].index == second[0].index
    assert second[0].first == 4
    assert swarm.picker.pick(1, 100) == [BlockRun(first[0].index, 8, 8)]
    assert swarm.picker.pick(2, 4) == []
    assert not swarm.picker.endgame


def test_returned_blocks_go_to_whoever_asks_next() -> None:
    swarm = Swarm(10)
    swarm.seed(1)
    swarm.seed(2)
    (run,) = swarm.picker.pick(1, 16)
    assert swarm.picker.returned(1, BlockRun(run.index, 8, 8)) == 8
    assert swarm.picker.outstanding(1) == 8
    assert swarm.picker.pick(2, 8) == [BlockRun(run.index, 8, 8)]


def test_everything_returns_when_a_peer_leaves() -> None:
    swarm = Swarm(10)
    swarm.seed(1)
    swarm.seed(2)
    runs = swarm.picker.pick(1, 40)
    swarm.picker.received(1, BlockRun(runs[0].index, 2, 4))
    returned = swarm.picker.peer_left(1)
    assert sum(run.count for run in returned) == 36
    picked = swarm.picker.pick(2, 44)
    assert {run.index for run in picked} == {run.index for run in runs}
    assert sum(run.count for run in picked) == 44


def test_a_whole_piece_turns_hashing_and_then_have_or_wanted() -> None:
    swarm = Swarm(2)
    swarm.seed(1)
    one, two = swarm.picker.pick(1, 32)
    result = swarm.picker.received(1, one)
    assert (result.new, result.whole, result.cancel) == (16, True, [])
    assert swarm.pieces.state(one.index) == HASHING
    swarm.done(one.index)
    assert swarm.pieces.state(one.index) == HAVE
    swarm.picker.received(1, two)
    assert swarm.picker.senders(two.index) == [(1, two)]
    swarm.picker.piece_failed(two.index)
    assert swarm.pieces.state(two.index) == WANTED
    swarm.slots.used.clear()
    assert swarm.picker.pick(1, 32) == [two]


def test_unrequested_and_repeated_blocks_count_once() -> None:
    swarm = Swarm(4)
    swarm.seed(1)
    swarm.seed(2)
    (run,) = swarm.picker.pick(1, 8)
    stray = BlockRun(run.index, 4, 8)
    result = swarm.picker.received(2, stray)
    assert result.new == 8
    assert result.cancel == [(1, BlockRun(run.index, 4, 4))]
    assert swarm.picker.outstanding(1) == 4
    assert swarm.picker.received(2, stray).new == 0
    assert swarm.picker.pick(1, 4) == [BlockRun(run.index, 12, 4)]
    assert swarm.picker.received(2, BlockRun(3 - run.index, 0, 4)).new == 0


def test_senders_name_each_part() -> None:
    swarm = Swarm(1, slots=1)
    swarm.seed(1)
    swarm.seed(2)
    swarm.picker.pick(1, 8)
    swarm.picker.pick(2, 8)
    swarm.picker.received(1, BlockRun(0, 0, 4))
    swarm.picker.received(1, BlockRun(0, 4, 4))
    swarm.picker.received(2, BlockRun(0, 8, 8))
    assert swarm.picker.senders(0) == [(1, BlockRun(0, 0, 8)), (2, BlockRun(0, 8, 8))]


def test_interest_follows_what_a_peer_has() -> None:
    swarm = Swarm(4)
    swarm.partial(1)
    assert not swarm.picker.interesting(1)
    assert swarm.picker.peer_has(1, 2)
    assert not swarm.picker.peer_has(1, 2)
    assert swarm.picker.interesting(1)
    run = swarm.picker.pick(1, 100)[0]
    assert run == BlockRun(2, 0, 16)
    assert swarm.picker.interesting(1)
    swarm.picker.received(1, run)
    assert not swarm.picker.interesting(1)


def test_a_peer_that_gets_the_last_piece_becomes_a_seed_and_may_lose_one_again() -> None:
    swarm = Swarm(4)
    swarm.partial(1, 0, 1, 2)
    swarm.picker.peer_has(1, 3)
    assert swarm.picker.availability(3) == 1
    swarm.picker.peer_lacks(1, 0)
    assert [swarm.picker.availability(index) for index in range(4)] == [0, 1, 1, 1]
    assert {run.index for run in swarm.picker.pick(1, 100)} == {1, 2, 3}
    swarm.picker.peer_left(1)
    assert [swarm.picker.availability(index) for index in range(4)] == [0, 0, 0, 0]


def test_several_pieces_are_lost_at_once_by_a_seed_and_by_who_lacks_some_of_them_already() -> None:
    swarm = Swarm(8, sequential=True)
    swarm.seed(1)
    swarm.partial(2, 0, 3, 4, 7)
    assert swarm.picker.pick(2, 1) == [BlockRun(0, 0, 1)]
    for peer in (1, 2):
        swarm.picker.peer_lacks(peer, 0, 4)
        swarm.picker.peer_lacks(peer, 0, 4)
    assert [swarm.picker.availability(index) for index in range(8)] == [0, 0, 0, 0, 2, 1, 1, 2]
    assert swarm.picker.pick(2, 1) == [BlockRun(4, 0, 1)]  # not on with what it has lost
    swarm.picker.peer_left(1)
    swarm.picker.peer_left(2)
    assert not any(swarm.picker.availability(index) for index in range(8))


def test_endgame_takes_from_the_end_of_the_slowest_queue() -> None:
    swarm = Swarm(4, sequential=True)
    for peer in (1, 2, 3):
        swarm.seed(peer)
    slow = swarm.picker.pick(1, 32)
    middle = swarm.picker.pick(2, 16)
    fast = swarm.picker.pick(3, 16)
    swarm.picker.received(1, BlockRun(slow[0].index, 0, 2))
    swarm.picker.received(2, BlockRun(middle[0].index, 0, 8))
    swarm.picker.received(3, fast[0])
    assert swarm.picker.endgame
    taken = swarm.picker.pick(3, 8)
    assert taken == [BlockRun(1, 8, 8)]
    result = swarm.picker.received(3, taken[0])
    assert result.new == 8
    assert result.cancel == [(1, BlockRun(1, 8, 8))]
    assert swarm.picker.outstanding(1) == 22


def test_endgame_asks_at_most_three_peers_for_a_block() -> None:
    swarm = Swarm(1)
    for peer in range(6):
        swarm.seed(peer)
    swarm.picker.pick(0, 16)
    for peer in range(1, 6):
        swarm.picker.peer_left(peer)
        swarm.seed(peer)
    holders = [sum(run.count for run in swarm.picker.pick(peer, 16)) for peer in range(1, 6)]
    assert sum(holders) <= 2 * 16


def test_an_open_piece_that_nobody_serves_gives_its_slot_up() -> None:
    swarm = Swarm(4, slots=1)
    swarm.partial(1, 0)
    swarm.partial(2, 1, 2)
    (run,) = swarm.picker.pick(1, 8)
    swarm.picker.received(1, BlockRun(0, 0, 4))
    assert run.index == 0
    swarm.picker.peer_left(1)
    assert swarm.picker.pick(2, 8) == []
    assert swarm.picker.poll_abandoned() == [0]
    assert swarm.picker.poll_abandoned() == []
    assert swarm.pieces.state(0) == WANTED
    swarm.slots.used.discard(0)
    assert swarm.picker.pick(2, 8)[0].index in (1, 2)


def test_a_piece_that_failed_is_fetched_from_one_peer() -> None:
    swarm = Swarm(1)
    swarm.seed(1)
    swarm.seed(2)
    swarm.picker.pick(1, 8)
    swarm.picker.pick(2, 8)
    swarm.picker.received(1, BlockRun(0, 0, 8))
    swarm.picker.received(2, BlockRun(0, 8, 8))
    swarm.picker.piece_failed(0)
    swarm.slots.used.clear()
    assert swarm.picker.pick(1, 8) == [BlockRun(0, 0, 8)]
    assert swarm.picker.pick(2, 8) == []
    assert swarm.picker.pick(1, 8) == [BlockRun(0, 8, 8)]
    assert swarm.pieces.count(RECEIVING) == 1


def test_a_piece_that_failed_goes_to_peers_that_had_no_part_in_it() -> None:
    swarm = Swarm(1)
    for peer in (1, 2, 3):
        swarm.seed(peer)
    swarm.picker.pick(1, 8)
    swarm.picker.pick(2, 8)
    swarm.picker.received(1, BlockRun(0, 0, 8))
    swarm.picker.received(2, BlockRun(0, 8, 8))
    swarm.picker.piece_failed(0)
    swarm.slots.used.clear()
    assert swarm.picker.pick(1, 16) == []
    assert swarm.picker.pick(2, 16) == []
    assert swarm.picker.pick(3, 16) == [BlockRun(0, 0, 16)]
    swarm.picker.received(3, BlockRun(0, 0, 16))
    swarm.picker.piece_failed(0)
    swarm.slots.used.clear()
    assert swarm.picker.pick(1, 16) == [BlockRun(0, 0, 16)]


def test_a_piece_that_failed_moves_on_from_an_owner_that_takes_too_long() -> None:
    swarm = Swarm(1, paced=True)
    swarm.pace.update({1: (1e6, 0.0), 2: (1e6, 0.0), 3: (1e6, 0.0)})
    swarm.seed(1)
    swarm.picker.received(1, swarm.picker.pick(1, 16)[0])
    swarm.picker.piece_failed(0)
    swarm.slots.used.clear()
    swarm.seed(2)
    swarm.seed(3)
    assert swarm.picker.pick(2, 4) == [BlockRun(0, 0, 4)]
    assert swarm.picker.pick(3, 4) == []
    swarm.pace[2] = (100.0, 0.0)
    assert swarm.picker.pick(3, 4) == [BlockRun(0, 4, 4)]
    assert swarm.picker.pick(2, 4) == []


def test_unwanted_pieces_are_not_picked_until_wanted_again() -> None:
    swarm = Swarm(4)
    swarm.seed(1)
    swarm.partial(2, 0, 1, 2, 3)
    assert swarm.pieces.unwant(1)
    assert swarm.pieces.unwant(2)
    assert {run.index for run in swarm.picker.pick(2, 100)} == {0, 3}
    assert swarm.pieces.want(2)
    assert [run.index for run in swarm.picker.pick(1, 100)] == [2]


def test_who_gives_back_a_part_gives_up_the_piece() -> None:
    swarm = Swarm(10)
    swarm.seed(1)
    swarm.seed(2)
    (run,) = swarm.picker.pick(1, 8)
    swarm.picker.returned(1, BlockRun(run.index, 4, 4))
    assert swarm.picker.pick(2, 12) == [BlockRun(run.index, 4, 12)]


def test_a_block_asked_twice_is_not_free_while_one_holder_is_left() -> None:
    swarm = Swarm(1)
    swarm.seed(1)
    swarm.seed(2)
    swarm.picker.pick(1, 12)
    swarm.picker.pick(2, 4)
    swarm.picker.received(2, BlockRun(0, 12, 4))
    (double,) = swarm.picker.pick(2, 16)
    assert swarm.picker.returned(1, double) == double.count
    assert swarm.picker.endgame
    assert swarm.picker.returned(2, double) == double.count
    assert not swarm.picker.endgame
    assert swarm.picker.pick(1, 16) == [double]


@pytest.mark.parametrize(("queue", "doubled"), [(1, 0), (2, 1), (10, 5), (16, 8)])
def test_an_idle_equal_peer_takes_half_of_a_queue_over(queue: int, doubled: int) -> None:
    swarm = Swarm(1, 16, paced=True)
    swarm.pace.update({1: (1e6, 0.0), 2: (1e6, 0.0)})
    swarm.seed(1)
    swarm.seed(2)
    swarm.picker.pick(1, 16)
    swarm.picker.received(1, BlockRun(0, 0, 16 - queue))
    assert sum(run.count for run in swarm.picker.pick(2, 100)) == doubled
    assert swarm.picker.pick(2, 100) == []


def test_a_queue_behind_a_hanging_peer_moves_although_slots_are_short() -> None:
    swarm = Swarm(4, slots=1, paced=True)
    swarm.pace.update({1: (1e6, 0.0), 2: (1e6, 0.05)})
    swarm.seed(1)
    swarm.seed(2)
    swarm.picker.pick(1, 16)
    assert [swarm.picker.pick(2, 16) for _ in range(40)] == [[]] * 40
    swarm.pace[1] = (1e6, 8.0)
    taken = [run for _ in range(40) for run in swarm.picker.pick(2, 16)]
    assert sum(run.count for run in taken) >= 15
    assert not swarm.picker.endgame


def test_an_open_piece_without_a_block_is_given_up_at_once_one_with_blocks_late() -> None:
    for received in (0, 4):
        swarm = Swarm(4, slots=1)
        swarm.partial(1, 0)
        swarm.partial(2, 1, 2)
        swarm.picker.pick(1, 8)
        if received:
            swarm.picker.received(1, BlockRun(0, 0, received))
        swarm.picker.returned_all(1)
        vain = 0
        while not (gone := swarm.picker.poll_abandoned()):
            assert swarm.picker.pick(2, 8) == []
            vain += 1
            assert vain < 1000
        assert gone == [0]
        assert (vain == 1) == (received == 0)
        assert swarm.pieces.state(0) == WANTED


def test_sequential_goes_back_to_a_piece_that_failed() -> None:
    swarm = Swarm(6, sequential=True)
    swarm.seed(1)
    first, _ = swarm.picker.pick(1, 32)
    swarm.picker.received(1, first)
    swarm.picker.piece_failed(0)
    swarm.slots.used.discard(0)
    assert [run.index for run in swarm.picker.pick(1, 32)] == [0, 2]


@pytest.mark.parametrize("blocks", [1, 64, 32768])
def test_pieces_of_every_size_complete(blocks: int) -> None:
    swarm = Swarm(2, blocks)
    swarm.seed(1)
    swarm.seed(2)
    for _ in range(100_000):
        if swarm.pieces.complete:
            break
        swarm.fetch(1, 100)
        swarm.fetch(2, 77)
    assert swarm.pieces.have.all()
    assert swarm.pieces.bytes_left == 0


def test_locked_blocks_are_asked_for_once_there_is_room() -> None:
    swarm = Swarm(1, blocks=8)
    swarm.slots.room = 3
    swarm.seed(1)
    swarm.seed(2)
    assert swarm.picker.pick(1, 8) == [BlockRun(0, 0, 3)]
    assert swarm.picker.pick(2, 8) == []  # and nothing is taken over: this is no endgame
    assert not swarm.picker.endgame
    swarm.picker.received(1, BlockRun(0, 0, 3))
    swarm.picker.unlock(0, 6)
    assert swarm.picker.pick(2, 8) == [BlockRun(0, 3, 3)]
    swarm.picker.unlock(0, 8)
    assert swarm.picker.pick(1, 1) == [BlockRun(0, 6, 1)]
    assert not swarm.picker.received(2, BlockRun(0, 3, 3)).whole
    assert swarm.picker.pick(2, 8) == [BlockRun(0, 7, 1)]
    assert swarm.picker.endgame
    swarm.picker.received(1, BlockRun(0, 6, 1))
    assert swarm.picker.received(2, BlockRun(0, 7, 1)).whole


def test_drained_says_that_the_only_peer_has_nothing_to_be_asked_for() -> None:
    swarm = Swarm(2, slots=1)
    swarm.seed(1)
    assert not swarm.picker.drained
    (first,) = swarm.picker.pick(1, 100)
    assert not swarm.picker.drained  # a piece waits for a slot
    swarm.picker.received(1, first)
    swarm.done(first.index)
    (second,) = swarm.picker.pick(1, 100)
    assert swarm.picker.drained
    assert swarm.picker.pick(1, 100) == []
    swarm.seed(2)
    assert not swarm.picker.drained  # it may take blocks over
    swarm.picker.peer_left(2)
    swarm.picker.returned(1, second)
    assert not swarm.picker.drained
    assert swarm.picker.pick(1, 100) == [second]


def test_what_a_liar_has_sent_of_unfinished_pieces_is_fetched_again() -> None:
    swarm = Swarm(2)
    swarm.seed(1)
    swarm.seed(2)
    whole, begun = swarm.picker.pick(1, 16) + swarm.picker.pick(1, 6)
    swarm.picker.received(1, whole)
    swarm.picker.received(1, BlockRun(begun.index, 0, 4))
    assert swarm.picker.disbelieve(1) == [begun.index]
    assert swarm.picker.disbelieve(1) == swarm.picker.disbelieve(2) == []
    assert swarm.picker.under_way == {}
    swarm.picker.peer_left(1)
    assert sum(run.count for run in swarm.picker.pick(2, 99)) == 16
    assert swarm.picker.senders(whole.index) == [(1, BlockRun(whole.index, 0, 16))]
