from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from engine_parts import small_context

from btfast._arena import Arena, Slot
from btfast.engine.large_pieces import LargePieces, is_large, part_length
from btfast.metainfo.geometry import BLOCK
from btfast.metainfo.torrent import Torrent
from btfast.storage.messages import BAD, GOOD, CheckPieces, PiecesChecked
from btfast.swarm.blocks import BlockRun

sys.path.append(str(Path(__file__).resolve().parents[1]))
from support.torrents import make

ARENA = 64 * BLOCK
PART = 2  # blocks
MADE = make(2 * 20 * BLOCK + 100, piece_length=20 * BLOCK)


class Workers:
    """What was given to be written, and what a reading back will say."""

    def __init__(self, arena: Arena) -> None:
        self.allocate = arena.allocate
        self.given: list[tuple[int, Slot]] = []
        self.state = GOOD

    def write_part(self, torrent: int, index: int, slot: Slot) -> None:
        self.given.append((index, slot))

    async def check(self, order: CheckPieces, worker: int) -> PiecesChecked:
        assert (order.torrent, len(order.hashes)) == (1, 20)
        return PiecesChecked(1, order.first, bytes((self.state,)))


class Owner:
    def __init__(self) -> None:
        self.unlocked: list[tuple[int, int]] = []
        self.read_back: list[tuple[int, bool, list[int]]] = []

    def unlock(self, index: int, room: int) -> None:
        self.unlocked.append((index, room))

    def handle_read_back(self, index: int, good: bool, fingerprints: list[int]) -> None:
        self.read_back.append((index, good, fingerprints))


def parts_of(arena: int) -> tuple[LargePieces, Workers, Owner]:
    context: Any = small_context()
    context.arena = Arena.create(ARENA)
    context.workers = workers = Workers(Arena.create(arena))
    torrent = Torrent.parse(MADE.torrent, what="test")
    return LargePieces(context, 1, torrent, owner := Owner()), workers, owner


def land(pieces: LargePieces, index: int, first: int, count: int) -> None:
    run = BlockRun(index, first, count)
    for slot, begin, length in pieces.places(run):
        slot.write(begin, MADE.block(index, begin, length))
    pieces.landed(run)


def write_all(pieces: LargePieces, workers: Workers) -> None:
    given, workers.given = workers.given, []
    for index, slot in given:
        begin = index * MADE.piece_length + slot.first
        assert bytes(slot) == MADE.data[begin : begin + len(slot)]
        pieces.handle_written(index, slot)


@pytest.mark.parametrize("state", [GOOD, BAD])
async def test_a_piece_goes_through_four_parts_of_memory_and_is_hashed_at_the_end(state: int) -> None:
    pieces, workers, owner = parts_of(ARENA)
    workers.state = state
    room = pieces.open(0)
    assert room == 4 * PART
    done = 0
    while done < 20:
        land(pieces, 0, done, 1)  # half a part
        assert len(workers.given) == 0
        land(pieces, 0, done + 1, room - done - 1)
        done = room
        assert 0 in pieces
        write_all(pieces, workers)
        pieces.grow()
        if done < 20:
            index, room = owner.unlocked.pop()
            assert (index, room) == (0, min(20, done + 4 * PART))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    ((index, good, fingerprints),) = owner.read_back
    assert (index, good, len(set(fingerprints))) == (0, state == GOOD, 20)
    assert 0 not in pieces
    assert owner.unlocked == []


async def test_the_short_last_piece_has_one_short_part() -> None:
    pieces, workers, owner = parts_of(ARENA)
    assert pieces.open(2) >= 1
    land(pieces, 2, 0, 1)
    assert [len(slot) for _, slot in workers.given] == [100]
    write_all(pieces, workers)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [entry[:2] for entry in owner.read_back] == [(2, True)]


async def test_where_memory_is_short_a_piece_gets_on_with_one_part_and_another_waits() -> None:
    pieces, workers, owner = parts_of(PART * BLOCK)
    assert pieces.open(0) == PART
    assert pieces.open(1) == 0
    assert 1 not in pieces
    pieces.grow()
    assert owner.unlocked == []
    land(pieces, 0, 0, PART)
    pieces.grow()
    assert owner.unlocked == []  # it is still being written
    write_all(pieces, workers)
    pieces.grow()
    assert owner.unlocked == [(0, 2 * PART)]


async def test_a_piece_that_was_given_up_is_not_begun_again_while_a_part_of_it_is_being_written() -> None:
    pieces, workers, _ = parts_of(ARENA)
    pieces.open(0)
    land(pieces, 0, 0, 2 * PART)
    pieces.drop(0)
    assert pieces.open(0) == 0
    pieces.handle_written(*workers.given.pop(0))
    assert pieces.open(0) == 0
    pieces.handle_written(*workers.given.pop(0))
    assert pieces.open(0) == 4 * PART


def test_what_is_large_depends_on_memory() -> None:
    assert not is_large(64 << 20, 256 << 20)
    assert is_large((64 << 20) + 1, 256 << 20)
    assert part_length(256 << 20) == 8 << 20
    assert part_length(BLOCK) == BLOCK
