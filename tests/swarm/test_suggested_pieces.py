"""Suggestions (BEP 6) and loose pieces: what a leecher asks of a seed while the swarm lacks pieces."""

from __future__ import annotations

import random

from btfast._bitfield import Bitfield
from btfast.metainfo.geometry import BLOCK, Geometry
from btfast.swarm.blocks import ALL_BLOCKS, BlockRun
from btfast.swarm.choice import MOST_HINTS
from btfast.swarm.picker import Picker
from btfast.swarm.pieces import Pieces

SEED, LEECHER = 1, 2
BLOCKS = 4


class Slots:
    room = ALL_BLOCKS

    def open_piece(self, index: int) -> int:
        return self.room


class Swarm:
    def __init__(self, pieces: int, *common: int, sequential: bool = False) -> None:
        """A seed, and three leechers that have the pieces `common`."""
        geometry = Geometry(BLOCKS * BLOCK, [pieces * BLOCKS * BLOCK])
        self.slots = Slots()
        self.picker = Picker(geometry, Pieces(geometry), random.Random(3), self.slots, sequential=sequential)
        self.picker.peer_joined(SEED, Bitfield.full(pieces))
        for peer in range(LEECHER, LEECHER + 3):
            have = Bitfield(pieces)
            for index in common:
                have.set(index)
            self.picker.peer_joined(peer, have)

    def picked(self, peer: int, pieces: int = 1) -> list[int]:
        return [run.index for run in self.picker.pick(peer, pieces * BLOCKS)]


def test_what_a_seed_suggests_is_asked_of_it_first() -> None:
    swarm = Swarm(40, 0)
    for index in (31, 7, 22):
        swarm.picker.peer_suggests(SEED, index)
    assert swarm.picked(SEED, 3) == [31, 7, 22]
    assert swarm.picked(SEED) not in ([31], [7], [22])


def test_a_common_piece_is_not_fetched_first_because_somebody_suggests_it() -> None:
    swarm = Swarm(40, 7)
    for _ in range(4):  # the first pieces of a download are chosen at random
        swarm.picked(SEED)
    swarm.picker.peer_suggests(SEED, 7)
    assert swarm.picked(SEED) != [7]


def test_suggestions_of_what_does_not_exist_or_is_not_there_do_nothing() -> None:
    swarm = Swarm(40, 3, 4)
    swarm.picker.peer_suggests(SEED, 40)
    swarm.picker.peer_suggests(SEED, 1 << 31)
    swarm.picker.peer_suggests(LEECHER, 9)
    assert swarm.picked(LEECHER)[0] in (3, 4)
    assert 0 <= swarm.picked(SEED)[0] < 40


def test_a_flood_of_suggestions_is_bounded_and_the_last_ones_are_kept() -> None:
    swarm = Swarm(5000, 0)
    for index in range(4000):
        swarm.picker.peer_suggests(SEED, index)
        swarm.picker.peer_suggests(SEED, index)
    assert swarm.picked(SEED, MOST_HINTS) == list(range(4000 - MOST_HINTS, 4000))
    assert swarm.picked(SEED)[0] not in range(4000 - 2 * MOST_HINTS, 4000)


def test_a_download_in_order_heeds_no_suggestions() -> None:
    swarm = Swarm(40, sequential=True)
    swarm.picker.peer_suggests(SEED, 31)
    assert swarm.picked(SEED) == [0]


def test_no_slot_for_a_suggested_piece_leaves_it_suggested() -> None:
    swarm = Swarm(40, 0)
    swarm.slots.room = 0
    swarm.picker.peer_suggests(SEED, 31)
    assert swarm.picked(SEED) == []
    swarm.slots.room = ALL_BLOCKS
    assert swarm.picked(SEED) == [31]


def test_what_others_can_send_is_not_gone_on_with_from_a_seed_while_it_alone_has_pieces() -> None:
    swarm = Swarm(40, 5)
    picked = swarm.picked(LEECHER)
    assert picked == [5]
    swarm.picker.received(LEECHER, BlockRun(5, 0, 1))
    swarm.picker.returned_all(LEECHER)
    assert swarm.picked(SEED) != [5]
    assert swarm.picked(LEECHER + 1) == [5]


def test_what_nobody_else_has_is_gone_on_with_before_another_suggestion() -> None:
    swarm = Swarm(40, 5)
    swarm.picker.peer_suggests(SEED, 31)
    assert swarm.picked(SEED) == [31]
    swarm.picker.received(SEED, BlockRun(31, 0, 1))
    swarm.picker.returned_all(SEED)
    swarm.picker.peer_suggests(SEED, 22)
    assert swarm.picked(SEED, 2)[:2] == [31, 22]


def test_a_begun_piece_is_fetched_from_the_seed_when_nothing_rarer_is_left() -> None:
    swarm = Swarm(2, 0, 1)
    assert sorted(set(swarm.picked(LEECHER, 2))) == [0, 1]
    swarm.picker.received(LEECHER, BlockRun(0, 0, 1))
    swarm.picker.returned_all(LEECHER)
    assert sorted(set(swarm.picked(SEED, 2))) == [0, 1]
