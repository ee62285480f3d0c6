from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btfast._bitfield import Bitfield
from btfast.metainfo.geometry import Geometry
from btfast.swarm.pieces import HASHLESS, WANTED, Pieces
from btfast.swarm.rarity import Rarity, mask_of

COUNT = 21


def field_of(indexes: set[int]) -> Bitfield:
    field = Bitfield(COUNT)
    for index in indexes:
        field.set(index)
    return field


sets = st.sets(st.integers(0, COUNT - 1))


@given(st.lists(sets, max_size=12), st.data())
def test_counting_over_planes_is_counting(peers: list[set[int]], data: st.DataObject) -> None:
    rarity = Rarity(Pieces(Geometry(1, [COUNT])), random.Random(1))
    joined: list[set[int]] = []
    for peer in peers:
        rarity.join(mask_of(field_of(peer)))
        joined.append(peer)
        if data.draw(st.booleans()):
            gone = joined.pop(data.draw(st.integers(0, len(joined) - 1)))
            rarity.leave(mask_of(field_of(gone)))
    for index in range(COUNT):
        assert rarity.availability(index) == sum(index in peer for peer in joined)


@given(st.lists(sets, min_size=1, max_size=8), sets, st.integers(0, 100))
def test_the_choice_is_a_rarest_wanted_piece_of_the_peer(peers: list[set[int]], unwanted: set[int], seed: int) -> None:
    pieces = Pieces(Geometry(1, [COUNT]))
    for index in unwanted:
        pieces.unwant(index)
    rarity = Rarity(pieces, random.Random(seed))
    for peer in peers:
        rarity.join(mask_of(field_of(peer)))
    candidates = peers[0] - unwanted
    chosen = rarity.choose(mask_of(field_of(peers[0])))
    if not candidates:
        assert chosen == -1
        return
    count = {index: sum(index in peer for peer in peers) for index in candidates}
    assert count[chosen] == min(count.values())
    assert rarity.choose(mask_of(field_of(peers[0])), rarest=False) in candidates


@given(st.integers(0, 1000), st.booleans(), st.booleans())
def test_every_piece_is_drawn_once(seed: int, partial: bool, sequential: bool) -> None:
    pieces = Pieces(Geometry(1, [COUNT]))
    rarity = Rarity(pieces, random.Random(seed), sequential=sequential)
    if partial:
        rarity.join(mask_of(field_of({1, 2, 3})))
    order = []
    while (index := rarity.choose(None)) >= 0:
        pieces.open(index)
        rarity.taken(index)
        order.append(index)
        if len(order) == 5:
            pieces.abandon(index)
            rarity.back(index)
            order.pop()
            partial = not partial
            mask = mask_of(field_of({1, 2, 3}))
            (rarity.join if partial else rarity.leave)(mask)
            seed += 1
            if seed % 7 == 0:
                break
    if index < 0:
        assert sorted(order) == list(range(COUNT))
        assert not sequential or order == sorted(order)


def test_a_draw_skips_what_was_taken_in_the_meantime() -> None:
    pieces = Pieces(Geometry(1, [COUNT]))
    rarity = Rarity(pieces, random.Random(3))
    assert rarity.choose(None) >= 0
    some = mask_of(field_of(set(range(10))))
    rarity.join(some)
    for _ in range(10):
        index = rarity.choose(some)
        pieces.open(index)
        rarity.taken(index)
    rarity.leave(some)
    drawn = []
    while (index := rarity.choose(None)) >= 0:
        pieces.open(index)
        rarity.taken(index)
        drawn.append(index)
    assert sorted(drawn) == list(range(10, COUNT))


def test_ties_are_broken_at_random() -> None:
    for partial in (False, True):
        chosen = set()
        for seed in range(60):
            pieces = Pieces(Geometry(1, [COUNT]))
            rarity = Rarity(pieces, random.Random(seed))
            if partial:
                rarity.join(mask_of(field_of(set(range(COUNT - 1)))))
                rarity.join(mask_of(field_of({COUNT - 1})))
            chosen.add(rarity.choose(None))
        assert len(chosen) > COUNT // 2


@given(st.lists(sets, min_size=1, max_size=8), st.binary(min_size=COUNT, max_size=COUNT), st.booleans(), st.integers(0, 100))
def test_what_is_wanted_more_goes_before_what_is_rarer(
    peers: list[set[int]], levels: bytes, sequential: bool, seed: int
) -> None:
    levels = bytes(level % 4 for level in levels)
    pieces = Pieces(Geometry(1, [COUNT]), wanted=levels)
    rarity = Rarity(pieces, random.Random(seed), sequential=sequential, levels=levels)
    for peer in peers:
        rarity.join(mask_of(field_of(peer)))
    for mask, has in ((None, set(range(COUNT))), (mask_of(field_of(peers[0])), peers[0])):
        candidates = {index for index in has if levels[index]}
        chosen = rarity.choose(mask)
        if not candidates:
            assert chosen == -1
            continue
        highest = max(levels[index] for index in candidates)
        best = {index for index in candidates if levels[index] == highest}
        assert chosen in best
        if sequential:
            assert chosen == min(best)
        else:
            count = {index: sum(index in peer for peer in peers) for index in best}
            assert count[chosen] == min(count.values())
            assert rarity.none_rarer(chosen, mask)
        assert not any(rarity.none_rarer(index, mask) for index in candidates - best)
        assert rarity.levelled == (len(set(levels) - {0}) > 1)


def test_a_piece_that_comes_back_goes_before_those_of_lower_levels() -> None:
    levels = bytes([1, 1, 3] + [1] * (COUNT - 3))
    pieces = Pieces(Geometry(1, [COUNT]), wanted=levels)
    rarity = Rarity(pieces, random.Random(1), levels=levels)
    assert rarity.choose(None) == 2
    pieces.open(2)
    rarity.taken(2)
    assert rarity.choose(None) != 2
    assert not rarity.is_first(2) or pieces.is_wanted(2)
    pieces.abandon(2)
    rarity.back(2)
    assert rarity.choose(None) == 2
    assert rarity.is_first(2)
    assert not rarity.is_first(3)


@pytest.mark.parametrize("sequential", [False, True])
def test_pieces_that_get_their_hashes_are_chosen_without_making_anything_anew(sequential: bool) -> None:
    pieces = Pieces(Geometry(1, [100]))
    pieces.wait_for_hashes(range(10, 90))
    pieces.unwant(15)
    rarity = Rarity(pieces, random.Random(3), sequential=sequential)
    chosen = []
    while (index := rarity.choose(None)) >= 0:
        rarity.taken(index)
        pieces.open(index)
        chosen.append(index)
    assert sorted(chosen) == [*range(10), *range(90, 100)]
    assert rarity.hashless == pieces.mask(HASHLESS)
    before = pieces.revision
    for indexes in (range(10, 20), range(60, 90), range(20, 60)):
        rarity.hashes_came(pieces.hashes_came(indexes))
        assert (rarity.wanted, rarity.hashless) == (pieces.mask(WANTED), pieces.mask(HASHLESS))
    assert pieces.revision == before
    while (index := rarity.choose(None)) >= 0:
        rarity.taken(index)
        pieces.open(index)
        chosen.append(index)
    assert sorted(chosen) == [index for index in range(100) if index != 15]
    if sequential:
        assert chosen[20:] == sorted(chosen[20:])
