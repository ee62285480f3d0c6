"""Ranges of hash requests: which make sense, how many uncles they bring, and what an answer leads to."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btfast.metainfo import merkle
from btfast.metainfo.hash_range import MOST, HashRange, ranges
from btfast.metainfo.merkle import HASH, LEAF, Tree

ROOT = b"r" * 32
LENGTH = 300 * LEAF  # height 9


@pytest.mark.parametrize(
    ("asked", "uncles"),
    [
        # What libtorrent answered for a tree of height 9 and pieces of four leaves.
        ((2, 0, 64, 6), 1),
        ((2, 0, 128, 6), 0),
        ((2, 0, 2, 6), 6),
        ((2, 0, 2, 0), 0),
        ((2, 74, 1, 6), 6),
        ((0, 0, 4, 1), 0),
        ((0, 256, 16, 8), 5),
        ((8, 0, 2, 0), 0),
    ],
)
def test_ranges_that_make_sense_and_their_uncles(asked: tuple[int, int, int, int], uncles: int) -> None:
    found = HashRange(ROOT, *asked)
    assert found.fits(LENGTH)
    assert found.uncles == uncles


@pytest.mark.parametrize(
    "asked",
    [
        (2, 0, 64, 7),  # a proof that goes on above the root
        (2, 2, 4, 0),  # not aligned
        (2, 0, 3, 0),  # no power of two, and not where the layer ends
        (2, 0, 256, 0),  # wider than the tree
        (2, 128, 2, 0),  # beside the tree
        (2, 0, 0, 0),
        (9, 0, 1, 0),  # the root itself
        (10, 0, 2, 0),
        (2**32 - 1, 0, 2, 0),
        (0, 2**32 - 2, 2, 0),
        (0, 0, 2**32 - 1, 0),
        (0, 0, 2, 2**32 - 1),
        (-1, 0, 2, 0),
        (0, -2, 2, 0),
    ],
)
def test_ranges_that_make_no_sense_do_not_fit(asked: tuple[int, int, int, int]) -> None:
    assert not HashRange(ROOT, *asked).fits(LENGTH)


def test_a_run_may_be_cut_short_where_the_layer_ends() -> None:
    assert merkle.layer_count(LENGTH, 2) == 75
    assert HashRange(ROOT, 2, 64, 11, 6).fits(LENGTH)
    assert not HashRange(ROOT, 2, 64, 12, 6).fits(LENGTH)


def test_nothing_can_be_asked_of_a_file_of_one_leaf() -> None:
    assert not HashRange(ROOT, 0, 0, 1, 0).fits(LEAF)


@given(st.integers(2, 700), st.data())
def test_the_right_answer_leads_to_the_root_and_every_other_one_elsewhere(leaf_count: int, data: st.DataObject) -> None:
    leaves = random.Random(leaf_count).randbytes(leaf_count * HASH)
    length = leaf_count * LEAF
    height = merkle.height_of(length)
    tree = Tree(leaves, 0, length)
    base = data.draw(st.integers(0, height - 1))
    steps = data.draw(st.integers(1, height - base))
    index = data.draw(st.integers(0, (1 << (height - base - steps)) - 1)) << steps
    assert HashRange(tree.root, base, index, 1, 0).ancestor(tree.run(base, index, 1)) is None, "it proves nothing"
    count = 1 << steps
    rest = merkle.layer_count(length, base) - index
    if 0 < rest < count and 2 * rest > count and data.draw(st.booleans()):
        count = rest
    asked = HashRange(tree.root, base, index, count, height - base - 1)
    assert asked.fits(length)
    answer = tree.run(base, index, count) + tree.uncles(base, index, 1 << steps)
    assert asked.ancestor(answer) == tree.root
    changed = bytearray(answer)
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1
    assert asked.ancestor(bytes(changed)) != tree.root
    assert asked.ancestor(answer[:-HASH]) is None
    assert asked.ancestor(answer + bytes(HASH)) is None
    assert asked.ancestor(answer[:-1]) is None


@pytest.mark.parametrize("leaf_count", [2, 3, 511, 512, 513, 1024, 1025, 5000])
def test_a_layer_is_asked_for_in_runs_that_fit_and_cover_it(leaf_count: int) -> None:
    length = leaf_count * LEAF
    tree = Tree(random.Random(1).randbytes(leaf_count * HASH), 0, length)
    asked = list(ranges(tree.root, 0, 0, leaf_count, tree.height))
    assert all(wanted.fits(length) and 2 <= wanted.length <= MOST for wanted in asked)
    covered = [place for wanted in asked for place in range(wanted.index, wanted.index + wanted.length)]
    assert covered == list(range(len(covered)))
    assert leaf_count <= len(covered) < leaf_count + MOST
    for wanted in asked:
        answer = tree.run(0, wanted.index, wanted.length) + tree.uncles(0, wanted.index, wanted.length)
        assert wanted.ancestor(answer) == tree.root


def test_the_leaves_of_a_piece_are_proved_against_the_piece() -> None:
    tree = Tree(random.Random(2).randbytes(3000 * HASH), 0, 3000 * LEAF)
    level = 10  # pieces of 16 MiB: the second one has two runs of 512
    asked = list(ranges(tree.root, 0, 1024, 1024, level))
    assert [(wanted.index, wanted.length, wanted.uncles) for wanted in asked] == [(1024, 512, 1), (1536, 512, 1)]
    for wanted in asked:
        answer = tree.run(0, wanted.index, 512) + tree.uncles(0, wanted.index, 512)[: HASH * wanted.uncles]
        assert wanted.ancestor(answer) == tree.run(level, 1, 1)
