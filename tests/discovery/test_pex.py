from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btfast._bencode import decode, encode
from btfast.discovery.pex import (
    MAX_A_MINUTE,
    MAX_BODY,
    MAX_FIRST,
    MAX_LATER,
    REACHABLE,
    SEED,
    Added,
    PexIntake,
    decode_pex,
    encode_pex,
)
from btfast.errors import RemoteError
from btfast.metainfo.addresses import PeerAddress

calm = settings(deadline=None, derandomize=True)
V4 = [PeerAddress(f"8.8.{n >> 8}.{n & 255}", 6881) for n in range(600)]
V6 = [PeerAddress(f"2606:4700::{n + 1:x}", 6881) for n in range(600)]


def test_a_message_comes_back_as_it_was() -> None:
    added = [Added(V4[0], SEED), Added(V6[0], REACHABLE), Added(V4[1], 0), Added(V6[1], SEED)]
    message = decode_pex(encode_pex(added, [V6[2], V4[2]]), 100)
    assert sorted(message.added) == sorted(added)
    assert sorted(message.dropped) == sorted([V4[2], V6[2]])


def test_the_bytes_of_a_message() -> None:
    """A byte of flags an address; lists that libtorrent and others look for are there even when they are empty."""
    assert encode_pex([Added(PeerAddress("1.2.3.4", 5), 2)], []) == b"d5:added6:\1\2\3\4\0\x057:added.f1:\x027:dropped0:e"
    assert set(decode(encode_pex([], [V6[0]]))) == {b"added", b"added.f", b"dropped", b"dropped6"}


@pytest.mark.parametrize("flags", [{}, {b"added.f": b""}, {b"added.f": b"\2\2\2"}, {b"added.f": 7}])
def test_flags_that_do_not_fit_count_as_none(flags: dict[bytes, object]) -> None:
    """rTorrent sends none at all."""
    body = encode({b"added": b"\1\2\3\4\0\5\1\2\3\4\0\6", **flags})
    assert decode_pex(body, 9).added == [(("1.2.3.4", 5), 0), (("1.2.3.4", 6), 0)]


def test_flags_stay_with_their_address_when_another_has_no_port() -> None:
    body = encode({b"added": b"\1\2\3\4\0\0\1\2\3\4\0\6", b"added.f": b"\0\2"})
    assert decode_pex(body, 9).added == [(("1.2.3.4", 6), 2)]


def test_odd_lists_are_left() -> None:
    assert decode_pex(b"de", 9) == ([], [])
    assert decode_pex(encode({b"added": 1, b"dropped": [], b"added6": b"short"}), 9) == ([], [])
    assert decode_pex(encode({b"added": b"\1\2\3\4\0\5rest"}), 9).added == [(("1.2.3.4", 5), 0)]


@pytest.mark.parametrize("body", [b"", b"le", b"i1e", b"d", b"\xff" * 100, b"d5:added999999999:e", bytes(MAX_BODY + 1)])
def test_what_is_no_message_at_all(body: bytes) -> None:
    with pytest.raises(RemoteError, match="the peer is dropped"):
        decode_pex(body, 9)


@calm
@given(st.binary(max_size=200))
def test_hostile_bytes_raise_nothing_else(body: bytes) -> None:
    with suppress(RemoteError):
        decode_pex(body, 9)


def test_no_more_is_read_than_an_honest_peer_sends() -> None:
    intake = PexIntake()
    body = encode_pex([Added(address, 0) for address in V4 + V6], V4 + V6)
    first, later = intake.handle_message(body, 0.0), intake.handle_message(body, 60.0)
    assert (len(first.added), len(first.dropped)) == (MAX_FIRST, MAX_FIRST)
    assert (len(later.added), len(later.dropped)) == (MAX_LATER, MAX_LATER)


def test_a_flood_is_an_error_and_a_message_a_minute_is_none() -> None:
    intake = PexIntake()
    for minute in range(50):
        intake.handle_message(b"de", minute * 60.0)
    flooded = PexIntake()
    for second in range(MAX_A_MINUTE):
        flooded.handle_message(b"de", float(second))
    with pytest.raises(RemoteError, match="within a minute"):
        flooded.handle_message(b"de", 59.0)
