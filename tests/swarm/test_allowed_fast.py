"""Which pieces a choked peer may have (BEP 6), and how often; and which a picker asks for that may ask for these alone."""

from __future__ import annotations

import random

import pytest

from btfast._bitfield import Bitfield
from btfast.metainfo.geometry import BLOCK, Geometry
from btfast.swarm.allowed_fast import (
    MOST_BYTES,
    MOST_HEARD,
    MOST_HOSTS,
    REST,
    Allowance,
    Grant,
    GrantedHosts,
    allowed_fast_set,
    set_size,
)
from btfast.swarm.blocks import ALL_BLOCKS, BlockRun
from btfast.swarm.picker import Picker
from btfast.swarm.pieces import Pieces

HASH = b"\xaa" * 20
PUBLISHED = [1059, 431, 808, 1217, 287, 376, 1188, 353, 508]  # BEP 6


@pytest.mark.parametrize("count", [0, 1, 7, 9])
def test_the_set_is_the_published_one(count: int) -> None:
    assert allowed_fast_set("80.4.4.200", HASH, 1313, count) == PUBLISHED[:count]


def test_a_network_has_one_set() -> None:
    assert allowed_fast_set("80.4.4.7", HASH, 1313, 9) == PUBLISHED
    assert allowed_fast_set("80.4.5.200", HASH, 1313, 9) != PUBLISHED


@pytest.mark.parametrize("pieces", [0, 1, 2, 9])
def test_of_few_pieces_all_are_allowed_once(pieces: int) -> None:
    assert sorted(allowed_fast_set("80.4.4.200", HASH, pieces, 10)) == list(range(pieces))


@pytest.mark.parametrize("host", ["::1", "2001:db8::1"])
def test_there_is_no_set_for_ipv6(host: str) -> None:
    assert allowed_fast_set(host, HASH, 1313, 9) == []


@pytest.mark.parametrize(
    ("length", "count"), [(BLOCK, 10), (MOST_BYTES // 8, 8), (MOST_BYTES, 1), (MOST_BYTES + 1, 0), (1 << 30, 0)]
)
def test_what_is_given_away_is_bounded(length: int, count: int) -> None:
    assert set_size(length) == count


def test_each_block_is_given_twice_however_it_is_cut() -> None:
    grant = Grant([3, 5], 2 * BLOCK + 1)
    assert 3 in grant
    assert 4 not in grant
    assert not grant.take(4, 0, BLOCK)
    assert grant.take(3, 0, BLOCK)
    assert grant.take(3, BLOCK - 1, 2)  # of two blocks
    assert not grant.take(3, 0, 1)
    assert grant.take(3, BLOCK, BLOCK + 1)
    assert not grant.take(3, BLOCK, BLOCK)
    assert grant.take(3, 2 * BLOCK, 1)
    assert not grant.take(3, 2 * BLOCK, 1)
    assert grant.take(5, 0, 2 * BLOCK + 1)


def test_a_host_has_one_set_until_it_has_been_gone_for_long() -> None:
    hosts = GrantedHosts()
    assert hosts.take("1.2.3.4", 0.0)
    assert not hosts.take("1.2.3.4", 1e9)
    assert hosts.take("1.2.3.5", 0.0)
    hosts.left("1.2.3.4", 100.0)
    assert not hosts.take("1.2.3.4", 99.0 + REST)
    assert hosts.take("1.2.3.4", 100.0 + REST)


def test_hosts_that_are_remembered_are_bounded() -> None:
    hosts = GrantedHosts()
    for number in range(MOST_HOSTS):
        assert hosts.take(f"10.0.{number >> 8}.{number & 255}", 0.0)
    assert not hosts.take("1.2.3.4", 0.0)
    hosts.left("10.0.0.0", 0.0)
    assert not hosts.take("1.2.3.4", REST - 1)
    assert hosts.take("1.2.3.4", REST)


def test_what_a_peer_allows_is_bounded_and_a_refusal_lasts() -> None:
    allowance = Allowance()
    for index in [7, 7, 3]:
        allowance.add(index)
    assert allowance.pieces == [7, 3]
    allowance.refuse(7)
    allowance.refuse(99)
    allowance.add(7)
    assert allowance.pieces == [3]
    for index in range(100, 300):
        allowance.add(index)
    assert len(allowance.pieces) == MOST_HEARD - 1
    allowance.refuse_all()
    assert allowance.pieces == []


class Slots:
    def __init__(self) -> None:
        self.left = 10

    def open_piece(self, index: int) -> int:
        self.left -= 1
        return ALL_BLOCKS if self.left >= 0 else 0


def swarm(*haves: list[int]) -> tuple[Picker, Pieces, Slots]:
    """Eight pieces of four blocks, and peers that have some."""
    geometry = Geometry(4 * BLOCK, [32 * BLOCK])
    pieces, slots = Pieces(geometry), Slots()
    picker = Picker(geometry, pieces, random.Random(1), slots)
    for number, indexes in enumerate(haves):
        have = Bitfield(8)
        for index in indexes:
            have.set(index)
        picker.peer_joined(number, have)
    return picker, pieces, slots


def test_only_what_is_allowed_and_there_is_picked() -> None:
    picker, _, _ = swarm([2, 5, 6])
    assert picker.pick_among([5, 3, 2], 0, 6) == [BlockRun(5, 0, 4), BlockRun(2, 0, 2)]
    assert picker.pick_among([5, 3, 2], 0, 6) == [BlockRun(2, 2, 2)]
    assert picker.pick_among([5, 3, 2], 0, 6) == []


def test_what_others_have_begun_is_gone_on_with() -> None:
    picker, _, _ = swarm([1], list(range(8)))
    assert picker.pick(0, 2) == [BlockRun(1, 0, 2)]
    assert picker.pick_among([1], 1, 8) == [BlockRun(1, 2, 2)]


def test_a_piece_that_is_not_allowed_any_more_is_for_all() -> None:
    picker, _, _ = swarm(list(range(8)), [4])
    assert picker.pick_among([4], 0, 2) == [BlockRun(4, 0, 2)]
    assert picker.pick_among([], 0, 2) == []
    assert picker.pick(1, 8) == [BlockRun(4, 2, 2)]


def test_without_memory_nothing_is_picked() -> None:
    picker, pieces, slots = swarm(list(range(8)))
    slots.left = 0
    assert picker.pick_among([4, 2], 0, 2) == []
    assert pieces.is_wanted(4)
