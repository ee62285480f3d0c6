from __future__ import annotations

import pytest

from btfast._bitfield import Bitfield
from btfast.errors import InternalError
from btfast.metainfo.geometry import Geometry
from btfast.swarm.pieces import HASHLESS, WANTED, Pieces, PieceState

GEOMETRY = Geometry(100, [350])

TRANSITIONS = {
    "open": {PieceState.WANTED: PieceState.RECEIVING},
    "abandon": {PieceState.RECEIVING: PieceState.WANTED},
    "whole": {PieceState.RECEIVING: PieceState.HASHING},
    "failed": {PieceState.HASHING: PieceState.WANTED},
    "mend": {PieceState.HASHING: PieceState.RECEIVING},
    "verified_not_written": {PieceState.HASHING: PieceState.WRITING},
    "written": {PieceState.HASHING: PieceState.HAVE, PieceState.WRITING: PieceState.HAVE},
    "lost": {PieceState.HAVE: PieceState.WANTED},
}
WAY = {
    PieceState.MISSING: ["unwant"],
    PieceState.WANTED: [],
    PieceState.RECEIVING: ["open"],
    PieceState.HASHING: ["open", "whole"],
    PieceState.WRITING: ["open", "whole", "verified_not_written"],
    PieceState.HAVE: ["open", "whole", "written"],
    PieceState.HASHLESS: [],
}


def in_state(state: PieceState) -> Pieces:
    pieces = Pieces(GEOMETRY)
    if state is PieceState.HASHLESS:
        pieces.wait_for_hashes(range(1, 2))
    for name in WAY[state]:
        getattr(pieces, name)(1)
    assert pieces.state(1) is state
    return pieces


@pytest.mark.parametrize("name", TRANSITIONS)
@pytest.mark.parametrize("state", PieceState)
def test_only_the_transitions_of_the_table_are_possible(name: str, state: PieceState) -> None:
    pieces = in_state(state)
    if state in TRANSITIONS[name]:
        getattr(pieces, name)(1)
        assert pieces.state(1) is TRANSITIONS[name][state]
    else:
        with pytest.raises(InternalError):
            getattr(pieces, name)(1)
        assert pieces.state(1) is state
    assert sum(pieces.count(each) for each in PieceState) == 4
    assert pieces.count(pieces.state(1)) >= 1
    assert pieces.have[1] == (pieces.state(1) is PieceState.HAVE)


def test_bytes_left_counts_what_is_wanted_and_not_there() -> None:
    pieces = Pieces(GEOMETRY)
    assert pieces.bytes_left == 350
    for index in (0, 3):
        pieces.open(index)
        pieces.whole(index)
        pieces.written(index)
    assert pieces.bytes_left == 200
    assert pieces.unwant(1)
    assert not pieces.unwant(1)
    assert not pieces.unwant(0)
    assert pieces.bytes_left == 100
    pieces.found([1, 2, 0])
    assert (pieces.bytes_left, pieces.complete, pieces.seeding) == (0, True, True)
    pieces.lost(3)
    assert (pieces.bytes_left, pieces.complete) == (50, False)


def test_a_resumed_torrent_begins_with_what_it_has() -> None:
    have = Bitfield(4)
    have.set(2)
    pieces = Pieces(GEOMETRY, have)
    assert [pieces.state(index) for index in range(4)] == [
        PieceState.WANTED, PieceState.WANTED, PieceState.HAVE, PieceState.WANTED,
    ]  # fmt: skip
    assert pieces.bytes_left == 250
    assert pieces.wanted_indexes() == [0, 1, 3]
    assert pieces.mask(WANTED) == 0b1101
    assert [pieces.next_wanted(start) for start in range(5)] == [0, 1, 3, 3, -1]
    assert not pieces.complete


def test_nothing_wanted_is_complete_but_not_seeding() -> None:
    pieces = Pieces(GEOMETRY, wanted=False)
    assert pieces.complete
    assert not pieces.seeding
    assert pieces.bytes_left == 0
    assert pieces.want(0)
    assert not pieces.want(0)
    assert (pieces.bytes_left, pieces.complete) == (100, False)


def test_an_empty_torrent_is_complete() -> None:
    pieces = Pieces(Geometry(16384, [0]))
    assert pieces.complete
    assert pieces.seeding
    assert pieces.mask(WANTED) == 0


def test_what_is_held_is_missed_and_not_asked_for() -> None:
    pieces = Pieces(GEOMETRY)
    pieces.open(0)
    assert [pieces.hold(index) for index in range(4)] == [False, True, True, True]
    assert (pieces.wanted_indexes(), pieces.bytes_left, pieces.held) == ([], 350, {1, 2, 3})
    pieces.whole(0)
    pieces.written(0)
    assert not pieces.complete
    assert not pieces.want(1)
    pieces.found([1])
    assert [pieces.release(index) for index in range(4)] == [False, False, True, True]
    assert (pieces.wanted_indexes(), pieces.bytes_left, pieces.held) == ([2, 3], 150, set())


def test_what_has_no_hash_waits_for_it_and_no_other_piece_does() -> None:
    known: set[int] = {0, 3}
    pieces = Pieces(GEOMETRY, has_hash=known.__contains__)
    pieces.wait_for_hashes(range(1, 3))
    assert (pieces.wanted_indexes(), pieces.mask(HASHLESS), pieces.bytes_left) == ([0, 3], 0b0110, 350)
    assert [pieces.hold(1), pieces.release(1)] == [True, True]
    assert pieces.state(1) is PieceState.HASHLESS, "it does not come from elsewhere, and still has no hash"
    pieces.found([0, 2, 3])
    assert (pieces.bytes_left, pieces.complete) == (100, False)
    pieces.lost(2)
    pieces.lost(3)
    assert (pieces.state(2), pieces.state(3)) == (PieceState.HASHLESS, PieceState.WANTED)
    assert pieces.hashes_came(range(3)) == [1, 2]
    assert (pieces.wanted_indexes(), pieces.count(HASHLESS)) == ([1, 2, 3], 0)
    pieces.wait_for_hashes(range(4))
    assert pieces.unwant(1)
    assert pieces.bytes_left == 150
    assert sum(pieces.count(state) for state in PieceState) == 4
