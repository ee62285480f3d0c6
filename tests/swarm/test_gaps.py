"""BEP 19's rules on gaps: web seeds read large ones from the start, peers fill the ends, and nobody fetches twice."""

from __future__ import annotations

import random

from btfast._bitfield import Bitfield
from btfast.metainfo.geometry import BLOCK, Geometry
from btfast.swarm.blocks import ALL_BLOCKS
from btfast.swarm.gaps import runs_of_mask
from btfast.swarm.picker import BlockRun, Picker
from btfast.swarm.pieces import HAVE, WANTED, Pieces
from btfast.swarm.rarity import Rarity, mask_of

PIECES = 100
WEB = 1 << 32


class Slots:
    def __init__(self, limit: int = 1 << 30) -> None:
        self.limit = limit

    def open_piece(self, index: int) -> int:
        self.limit -= 1
        return ALL_BLOCKS if self.limit >= 0 else 0


def made(
    pieces: int = PIECES, blocks: int = 4, *, slots: int = 1 << 30, seed: int = 1, sequential: bool = False,
    levels: bytes | None = None,
) -> tuple[Picker, Pieces]:  # fmt: skip
    geometry = Geometry(blocks * BLOCK, [pieces * blocks * BLOCK])
    states = Pieces(geometry)
    picker = Picker(geometry, states, random.Random(seed), Slots(slots), sequential=sequential, levels=levels)
    return picker, states


def full(pieces: int = PIECES) -> Bitfield:
    return Bitfield.full(pieces)


def arrive(picker: Picker, peer: int, runs: list[BlockRun]) -> None:
    for run in runs:
        if picker.received(peer, run).whole:
            picker.piece_done(run.index)


def indexes(runs: list[BlockRun]) -> list[int]:
    return [run.index for run in runs]


def test_a_web_seed_alone_reads_from_the_beginning_to_the_end_in_long_ranges() -> None:
    picker, pieces = made()
    picker.peer_joined(WEB, full(), web=True)
    for first in range(0, PIECES, 20):
        assert indexes(picker.pick_range(WEB, 80)) == list(range(first, first + 20))
    assert picker.pick_range(WEB, 80) == []
    assert pieces.count(WANTED) == 0


def test_beside_peers_it_begins_somewhere_and_goes_on_with_the_start_of_the_largest_gap() -> None:
    starts = set()
    for seed in range(20):
        picker, _ = made(seed=seed)
        picker.peer_joined(1, full())
        picker.peer_joined(WEB, full(), web=True)
        first = indexes(picker.pick_range(WEB, 40))
        assert first == list(range(first[0], first[0] + len(first)))
        starts.add(first[0])
        after, before = PIECES - first[-1] - 1, first[0]
        following = indexes(picker.pick_range(WEB, 40))
        assert following[0] == (first[-1] + 1 if after > before else 0)
    assert len(starts) > 10


def test_peers_fill_the_largest_gap_from_its_end() -> None:
    picker, _ = made()
    picker.peer_joined(WEB, full(), web=True)
    picker.peer_joined(1, full())
    first = picker.pick_range(WEB, 4 * 10)
    taken = indexes(picker.pick(1, 12))
    gap_first, gap_count = max([(0, first[0].index), (first[-1].index + 1, PIECES - first[-1].index - 1)], key=lambda gap: gap[1])
    assert set(taken) == set(range(gap_first + gap_count - 3, gap_first + gap_count))


def test_rarity_outweighs_the_gap_and_near_ties_do_not() -> None:
    geometry = Geometry(4 * BLOCK, [PIECES * 4 * BLOCK])
    rarity = Rarity(Pieces(geometry), random.Random(1))
    for holders, piece in ((1, 10), (2, 20), (5, 30)):
        for _ in range(holders):
            field = Bitfield(PIECES)
            field.set(piece)
            rarity.join(mask_of(field))
    three = sum(rarity.bit(piece) for piece in (10, 20, 30))
    assert rarity.nearly_rarest(three, 0) == rarity.bit(10)
    assert rarity.nearly_rarest(three, 1) == rarity.bit(10) | rarity.bit(20)
    assert rarity.nearly_rarest(three, 3) == rarity.bit(10) | rarity.bit(20)
    assert rarity.nearly_rarest(three, 4) == three
    assert rarity.nearly_rarest(three, 100) == three


def test_nearly_rarest_agrees_with_counting() -> None:
    rng = random.Random(5)
    geometry = Geometry(BLOCK, [PIECES * BLOCK])
    for _ in range(50):
        rarity = Rarity(Pieces(geometry), rng)
        for _ in range(rng.randrange(12)):
            rarity.join(rng.getrandbits(PIECES))
        candidates, more = rng.getrandbits(PIECES) or 1, rng.randrange(5)
        found = [piece for piece in range(PIECES) if candidates & rarity.bit(piece)]
        least = min(map(rarity.availability, found))
        expected = sum(rarity.bit(piece) for piece in found if rarity.availability(piece) <= least + more)
        assert rarity.nearly_rarest(candidates, more) == expected


def test_in_the_second_half_small_gaps_are_closed_now_and_then() -> None:
    small = 0
    for seed in range(200):
        picker, pieces = made(seed=seed)
        pieces.found([piece for piece in range(PIECES) if piece != 40 and piece < 70])
        picker.peer_joined(WEB, full(), web=True)
        picker.peer_joined(1, full())
        small += indexes(picker.pick(1, 4)) == [40]
    assert 5 < small < 45


def test_a_web_seed_that_lacks_files_skips_their_pieces() -> None:
    picker, _ = made()
    picker.peer_joined(WEB, full(), web=True)
    for piece in range(30, 60):
        picker.peer_lacks(WEB, piece)
    got: list[int] = []
    while runs := picker.pick_range(WEB, 80):
        found = indexes(runs)
        assert found == list(range(found[0], found[0] + len(found)))
        got += found
    assert sorted(got) == [*range(30), *range(60, PIECES)]


def test_returned_blocks_are_asked_for_first() -> None:
    picker, _ = made()
    picker.peer_joined(WEB, full(), web=True)
    (run, *_) = picker.pick_range(WEB, 4)
    picker.received(WEB, BlockRun(run.index, 0, 1))
    picker.returned(WEB, BlockRun(run.index, 1, 3))
    again = picker.pick_range(WEB, 8)
    assert again == [BlockRun(run.index, 1, 3), BlockRun(run.index + 1, 0, 4), BlockRun(run.index + 2, 0, 1)]
    assert picker.pick_range(WEB, 4) == [BlockRun(run.index + 2, 1, 3), BlockRun(run.index + 3, 0, 1)]


def test_a_full_arena_cuts_a_range_short() -> None:
    picker, _ = made(slots=3)
    picker.peer_joined(WEB, full(), web=True)
    assert indexes(picker.pick_range(WEB, 400)) == [0, 1, 2]
    assert picker.pick_range(WEB, 400) == []


def test_web_seeds_and_peers_never_ask_for_a_block_twice_before_endgame() -> None:
    for seed in range(30):
        rng = random.Random(seed)
        picker, pieces = made(seed=seed, blocks=rng.choice([1, 4, 16]))
        workers = [WEB, WEB + 1, 1, 2, 3]
        for worker in workers:
            picker.peer_joined(worker, full(), web=worker >= WEB)
        open_runs: list[tuple[int, BlockRun]] = []
        asked: set[tuple[int, int]] = set()
        while pieces.count(WANTED):
            worker = rng.choice(workers)
            runs = (picker.pick_range if worker >= WEB else picker.pick)(worker, rng.randrange(1, 60))
            assert not picker.took_over
            for run in runs:
                blocks = {(run.index, block) for block in range(run.first, run.first + run.count)}
                assert not blocks & asked
                asked |= blocks
                open_runs.append((worker, run))
            while open_runs and rng.random() < 0.5:
                worker, run = open_runs.pop(rng.randrange(len(open_runs)))
                arrive(picker, worker, [run])
    assert pieces.count(HAVE)


def test_runs_of_a_mask_come_in_the_order_of_pieces() -> None:
    assert runs_of_mask(0b0110_1001, 8) == [(1, 2), (4, 1), (7, 1)]
    assert runs_of_mask(0, 8) == []
    assert runs_of_mask(0b1, 8) == [(7, 1)]


def test_a_range_goes_on_through_what_an_earlier_one_left() -> None:
    picker, _ = made()
    picker.peer_joined(WEB, full(), web=True)
    for run in picker.pick_range(WEB, 4 * 5):
        picker.returned(WEB, run)
    assert indexes(picker.pick_range(WEB, 4 * 7)) == list(range(7))


def test_in_order_a_web_seed_begins_with_the_first_piece_that_is_wanted() -> None:
    picker, pieces = made(sequential=True)
    pieces.found([0, 1, 5])
    picker.peer_joined(1, full())
    picker.peer_joined(WEB, full(), web=True)
    assert indexes(picker.pick_range(WEB, 4 * 20)) == [2, 3, 4]
    assert indexes(picker.pick_range(WEB, 4 * 3)) == [6, 7, 8]


def test_pieces_that_are_wanted_more_come_first_and_ranges_end_with_them() -> None:
    picker, _ = made(levels=bytes(2 if 40 <= piece < 50 or 70 <= piece < 75 else 1 for piece in range(PIECES)))
    picker.peer_joined(WEB, full(), web=True)
    assert indexes(picker.pick_range(WEB, 4 * 20)) == list(range(40, 50))
    assert indexes(picker.pick_range(WEB, 4 * 5)) == list(range(70, 75))
    assert indexes(picker.pick_range(WEB, 4 * 5)) == [0, 1, 2, 3, 4]


def test_a_piece_under_way_is_gone_on_with_from_a_block_of_it_on() -> None:
    picker, _ = made(blocks=8)
    picker.peer_joined(WEB, full(), web=True)
    picker.peer_joined(1, full())
    assert picker.next_block(0, 0) == -1
    assert picker.pick_range(WEB, 4, 0) == [BlockRun(0, 0, 4)]
    assert [picker.next_block(0, block) for block in (0, 4, 7)] == [4, 4, 7]
    assert picker.pick_range(WEB, 2, 0, 6) == [BlockRun(0, 6, 2)]
    assert picker.pick_range(WEB, 2, 0, 6) == []
    assert picker.next_block(0, 5) == 5
    assert picker.pick_range(WEB, 9, 0, 4) == [BlockRun(0, 4, 2)]
    assert picker.next_block(0, 0) == -1
    assert picker.pick_range(WEB, 9, 1, 0) == []
    arrive(picker, WEB, [BlockRun(0, 0, 8)])
    assert picker.pick_range(WEB, 8, 1) == [BlockRun(1, 0, 8)]
