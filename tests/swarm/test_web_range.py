"""Ranges of web seeds: every byte of every wanted block lands once and in its place, whatever cuts the bytes into."""

from __future__ import annotations

import random

import pytest

from btfast.metainfo.geometry import BLOCK, Geometry
from btfast.swarm.blocks import BlockRun
from btfast.swarm.web_range import PAD, Mode, Part, WebRange, chained

PIECE = 4 * BLOCK


def whole_pieces(*indexes: int) -> list[BlockRun]:
    return [BlockRun(index, 0, 4) for index in indexes]


def test_a_range_through_files_is_one_part_a_file_and_pads_are_not_asked_for() -> None:
    geometry = Geometry(PIECE, [PIECE + 10, 0, 20, PIECE - 30, 2 * PIECE])
    parts = WebRange(geometry, [BlockRun(1, 0, 4), BlockRun(2, 0, 1)], {3}).parts
    assert parts == [Part(0, PIECE, 10), Part(2, 0, 20), Part(PAD, 0, PIECE - 30), Part(4, 0, BLOCK)]


def test_bytes_in_any_portions_make_each_block_known_once_when_it_is_whole() -> None:
    for seed in range(50):
        rng = random.Random(seed)
        total = 5 * PIECE + rng.randrange(1, PIECE)
        geometry = Geometry(PIECE, [total])
        tail = BlockRun(5, 0, geometry.block_count(5))
        first = rng.randrange(4)
        one = WebRange(geometry, [BlockRun(2, first, 4 - first), *whole_pieces(3, 4), tail], set())
        at = 2 * PIECE + first * BLOCK
        got = bytearray(total)
        seen: list[tuple[int, int]] = []
        while not one.done:
            assert one.offset == at
            landing = one.next()
            assert landing.mode is Mode.DIRECT
            assert landing.index * PIECE + landing.begin == at
            count = rng.randrange(1, min(landing.length, rng.choice([7, BLOCK, 1 << 20])) + 1)
            got[at : at + count] = b"x" * count
            at += count
            landed = one.took(count)
            if landed is not None:
                assert landed.begin % BLOCK == 0
                start = landed.index * PIECE + landed.begin
                assert start + landed.length <= at
                assert got[start : start + landed.length] == b"x" * landed.length
                seen += [(landed.index, begin) for begin in range(landed.begin, landed.begin + landed.length, BLOCK)]
        assert at == total
        assert len(seen) == len(set(seen)) == 12 - first + tail.count
        assert one.left() == []
        assert one.left_bytes == 0


def test_a_cancelled_block_is_thrown_away_from_that_moment_on() -> None:
    geometry = Geometry(PIECE, [3 * PIECE])
    one = WebRange(geometry, whole_pieces(0, 1, 2), set())
    assert one.next() == (0, 0, PIECE, Mode.DIRECT)
    assert one.took(BLOCK + 100) == (0, 0, BLOCK, None)
    assert one.cancel(BlockRun(0, 0, 2)) == 1
    assert one.next() == (0, BLOCK + 100, BLOCK - 100, Mode.DISCARD)
    assert one.took(BLOCK - 100) is None
    assert one.next() == (0, 2 * BLOCK, 2 * BLOCK, Mode.DIRECT)
    assert one.cancel(BlockRun(1, 0, 4)) == 4
    assert one.cancel(BlockRun(1, 0, 4)) == 0
    assert one.took(2 * BLOCK) == (0, 2 * BLOCK, 2 * BLOCK, None)
    assert one.next() == (1, 0, PIECE, Mode.DISCARD)
    assert one.left() == [BlockRun(2, 0, 4)]
    assert not one.useless
    one.cancel(BlockRun(2, 0, 4))
    assert one.useless


def test_blocks_that_others_were_asked_for_too_come_beside_the_piece() -> None:
    geometry = Geometry(PIECE, [PIECE - 5])
    data = random.Random(1).randbytes(PIECE - 5)
    one = WebRange(geometry, whole_pieces(0), set(), aside=True)
    got = {}
    at = 0
    while not one.done:
        landing = one.next()
        assert landing.mode is Mode.ASIDE
        count = min(landing.length, 5000)
        landed = one.took(count, memoryview(data)[at : at + count])
        at += count
        if landed is not None:
            got[landed.begin] = landed.data
    assert got == {begin: data[begin : begin + BLOCK] for begin in range(0, PIECE - 5, BLOCK)}


def test_runs_that_do_not_follow_one_another_are_ranges_of_their_own() -> None:
    geometry = Geometry(PIECE, [3 * PIECE])
    assert chained([BlockRun(0, 1, 3), BlockRun(1, 0, 4), BlockRun(2, 0, 1)], geometry) == [
        [BlockRun(0, 1, 3), BlockRun(1, 0, 4), BlockRun(2, 0, 1)]
    ]
    assert chained([BlockRun(0, 0, 3), BlockRun(1, 0, 4)], geometry) == [[BlockRun(0, 0, 3)], [BlockRun(1, 0, 4)]]
    assert chained([BlockRun(2, 2, 1), BlockRun(0, 0, 1)], geometry) == [[BlockRun(2, 2, 1)], [BlockRun(0, 0, 1)]]
    assert chained([], geometry) == []


def test_a_hole_in_a_piece_is_part_of_the_range_where_the_runs_are_given_so() -> None:
    geometry = Geometry(PIECE, [PIECE])
    one = WebRange(geometry, [BlockRun(0, 0, 1), BlockRun(0, 2, 2)], set())
    assert one.took(one.next().length) == (0, 0, BLOCK, None)
    assert one.next() == (0, BLOCK, BLOCK, Mode.DISCARD)


def test_nothing_is_next_when_all_has_come() -> None:
    one = WebRange(Geometry(PIECE, [PIECE]), whole_pieces(0), set())
    one.took(PIECE)
    with pytest.raises(IndexError):
        one.next()
