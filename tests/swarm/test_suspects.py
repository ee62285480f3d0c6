from __future__ import annotations

from btfast.swarm.blocks import BlockRun
from btfast.swarm.suspects import MAX_PIECES, BadBlocks

SHARED = [(1, BlockRun(0, 0, 2)), (2, BlockRun(0, 2, 2)), (1, BlockRun(0, 4, 1))]


def test_the_only_sender_is_guilty_at_once() -> None:
    bad = BadBlocks()
    assert bad.failed(0, [(7, BlockRun(0, 0, 3)), (7, BlockRun(0, 3, 1))], [1, 2, 3, 4]) == [7]
    assert not bad.waiting(0)


def test_the_sender_of_the_block_that_differs_is_guilty() -> None:
    bad = BadBlocks()
    assert bad.failed(0, SHARED, [10, 11, 99, 13, 14]) == []
    assert bad.waiting(0)
    assert bad.verified(0, [10, 11, 12, 13, 14]) == [2]
    assert not bad.waiting(0)
    assert bad.verified(0, [0, 0, 0, 0, 0]) == []


def test_several_failures_name_several() -> None:
    bad = BadBlocks()
    bad.failed(0, SHARED, [99, 11, 12, 13, 14])
    bad.failed(0, [(3, BlockRun(0, 0, 4)), (4, BlockRun(0, 4, 1))], [10, 11, 12, 13, 98])
    assert bad.verified(0, [10, 11, 12, 13, 14]) == [1, 4]


def test_two_different_answers_for_one_block_are_a_lie() -> None:
    bad = BadBlocks()
    assert bad.failed(0, SHARED, [10, 11, 12, 13, 14]) == []
    assert bad.failed(0, SHARED, [10, 11, 77, 13, 14]) == [2]


def test_memory_is_bounded() -> None:
    bad = BadBlocks()
    for index in range(MAX_PIECES * 2):
        bad.failed(index, [(1, BlockRun(index, 0, 1)), (2, BlockRun(index, 1, 1))], [1, 2])
    assert len(bad) == MAX_PIECES
    assert not bad.waiting(0)
    assert bad.waiting(MAX_PIECES * 2 - 1)
