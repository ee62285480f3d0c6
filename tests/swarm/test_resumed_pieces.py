"""Pieces of which an earlier run has received blocks: only the others are asked for, and nobody is blamed for theirs."""

from __future__ import annotations

import random

from btfast._bitfield import Bitfield
from btfast.metainfo.geometry import BLOCK, Geometry
from btfast.swarm.blocks import ALL_BLOCKS, NOBODY, BlockRun, OpenPiece
from btfast.swarm.picker import Picker
from btfast.swarm.pieces import HASHING, RECEIVING, WANTED, Pieces


class Memory:
    """A slot for everybody."""

    def open_piece(self, index: int) -> int:
        return ALL_BLOCKS


def picker() -> tuple[Picker, Pieces]:
    geometry = Geometry(4 * BLOCK, [12 * BLOCK])
    pieces = Pieces(geometry)
    found = Picker(geometry, pieces, random.Random(1), Memory())
    return found, pieces


def test_only_the_missing_blocks_are_asked_for() -> None:
    pick, pieces = picker()
    pick.resumed(OpenPiece.resumed(1, 4, 0b0101))
    assert pieces.state(1) == RECEIVING
    assert pick.under_way == {1: 0b0101}
    pick.peer_joined(7, Bitfield.full(3))
    assert pick.pick(7, 2) == [BlockRun(1, 1, 1), BlockRun(1, 3, 1)]
    assert not pick.received(7, BlockRun(1, 1, 1)).whole
    assert pick.received(7, BlockRun(1, 3, 1)).whole
    assert pieces.state(1) == HASHING
    assert {peer for peer, _ in pick.senders(1)} == {7, NOBODY}
    pick.piece_failed(1)
    assert pieces.state(1) == WANTED
    assert {run.index for run in pick.pick(7, 12)} == {0, 1, 2}


def test_a_piece_that_was_whole_is_only_hashed() -> None:
    pick, pieces = picker()
    pick.resumed(OpenPiece.resumed(2, 4, 0b1111))
    assert pieces.state(2) == HASHING
    assert pick.under_way == {}
    pick.piece_done(2)
    pick.peer_joined(7, Bitfield.full(3))
    assert {run.index for run in pick.pick(7, 12)} == {0, 1}


def test_blocks_beyond_the_room_stay_locked_unless_they_are_there() -> None:
    pick, _ = picker()
    pick.resumed(OpenPiece.resumed(0, 4, 0b0001, room=2))
    pick.peer_joined(7, Bitfield.full(3))
    assert pick.pick(7, 1) == [BlockRun(0, 1, 1)]
    pick.unlock(0, 4)
    assert BlockRun(0, 2, 2) in pick.pick(7, 10)
