"""Which of a torrent's info-hashes is said to whom, and when a connection speaks v2 (BEP 52)."""

from __future__ import annotations

import pytest
from engine_parts import Owner, connected, small_context

from btfast._peer_stream import INFO_HASH_EVENT
from btfast.engine import swarm_names as module
from btfast.engine.connection import PeerConnection
from btfast.engine.swarm_names import SwarmNames
from btfast.metainfo.addresses import PeerAddress
from btfast.wire.handshake import decode_handshake, encode_handshake

V1, V2, OTHER = b"1" * 20, b"2" * 20, b"3" * 20
ME = b"-XX0000-abcdefghijkl"
THERE = PeerAddress("192.0.2.1", 1)
ELSEWHERE = PeerAddress("192.0.2.2", 1)


def hybrid() -> SwarmNames:
    return SwarmNames((V1, V2), v2=True)


def said(info_hash: bytes, *, upgrade: bool = False) -> list[tuple[object, ...]]:
    return [(INFO_HASH_EVENT, encode_handshake(info_hash, ME, v2_upgrade=upgrade)[:48])]


def upgrade_bit(names: SwarmNames, info_hash: bytes, *, outgoing: bool = True) -> bool:
    handshake = decode_handshake(names.handshake(info_hash, ME, dht=True, outgoing=outgoing))
    assert handshake.info_hash == info_hash
    assert handshake.dht
    return handshake.v2_upgrade


def test_the_upgrade_bit_is_said_with_the_v1_hash_of_a_hybrid_alone() -> None:
    assert upgrade_bit(hybrid(), V1)
    assert not upgrade_bit(hybrid(), V2)
    assert not upgrade_bit(hybrid(), V1, outgoing=False)
    assert not upgrade_bit(SwarmNames((V1,), v2=False), V1), "it makes libtorrent close"
    assert not upgrade_bit(SwarmNames((V2,), v2=True), V2)


def test_who_was_found_in_the_v2_swarm_alone_is_greeted_by_that_hash() -> None:
    names = hybrid()
    assert names.hash_for(THERE) == V1
    names.found([THERE], V2)
    assert names.hash_for(THERE) == V2
    assert names.hash_for(ELSEWHERE) == V1
    names.found([THERE, ELSEWHERE], V1)
    assert names.hash_for(THERE) == V1
    names.found([THERE, ELSEWHERE], V2)
    assert (names.hash_for(THERE), names.hash_for(ELSEWHERE)) == (V1, V1), "they are in both"


def test_who_does_not_answer_by_one_hash_is_greeted_by_the_other_next_time() -> None:
    names = hybrid()
    for expected in (V2, V1, V2):
        names.failed(THERE)
        assert names.hash_for(THERE) == expected
    alone = SwarmNames((V2,), v2=True)
    alone.failed(THERE)
    alone.found([THERE], V2)
    assert alone.hash_for(THERE) == V2


def test_addresses_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    names = hybrid()
    found = [PeerAddress("192.0.2.1", port) for port in range(1, 6)]
    names.found(found, V2)
    assert [names.hash_for(address) for address in found] == [V1, V1, V2, V2, V2]


def test_a_connection_to_us_is_answered_by_the_hash_it_came_by_or_the_v2_hash_it_may_have() -> None:
    names = hybrid()
    assert names.answer(V1, said(V1)) == V1
    assert names.answer(V2, said(V2)) == V2
    assert names.answer(V1, said(V1, upgrade=True)) == V2
    assert names.answer(V1, []) == V1, "encrypted, and nothing said yet"
    assert names.answer(V1, said(V2)) == V2
    assert names.answer(V1, said(OTHER)) == V1
    v1 = SwarmNames((V1,), v2=False)
    assert v1.answer(V1, said(V1, upgrade=True)) == V1


@pytest.mark.parametrize(
    ("outgoing", "ours", "theirs", "fits", "v2"),
    [
        (True, V1, V1, True, False),
        (True, V1, V2, True, True),
        (True, V2, V2, True, True),
        (True, V2, V1, True, False),
        (True, V1, OTHER, False, False),
        (False, V1, V1, True, False),
        (False, V2, V1, True, True),
        (False, V2, V2, True, True),
        (False, V1, OTHER, False, False),
    ],
)
async def test_a_connection_speaks_v2_when_the_answer_is_the_v2_hash(
    outgoing: bool, ours: bytes, theirs: bytes, fits: bool, v2: bool
) -> None:
    peer, end = connected(small_context(), Owner())
    peer.outgoing = outgoing
    peer.info_hash = ours
    assert hybrid().settle(peer, theirs) is fits
    assert peer.v2 is v2
    _close(peer)
    end.close()


async def test_nothing_speaks_v2_in_a_v1_torrent() -> None:
    peer, end = connected(small_context(), Owner())
    peer.info_hash = V1
    assert SwarmNames((V1,), v2=False).settle(peer, V1)
    assert not peer.v2
    _close(peer)
    end.close()


def _close(peer: PeerConnection) -> None:
    peer.close("over")
