from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btfast.errors import RemoteError
from btfast.wire import ids, messages
from btfast.wire.extensions import decode_extended_handshake
from btfast.wire.handshake import decode_handshake
from btfast.wire.messages import decode_message, encode_event, split_messages

VECTORS = Path(__file__).resolve().parents[2] / ".." / "shared" / "vectors" / "wire"

u32 = st.integers(0, 2**32 - 1)
byte = st.integers(0, 255)
length = st.integers(1, messages.MAX_BLOCK)
begin = st.integers(0, 2**32 - messages.MAX_BLOCK)
root = st.binary(min_size=32, max_size=32)

events = st.one_of(
    st.just(()),
    st.tuples(st.sampled_from((0, 1, 2, 3, 14, 15))),
    st.tuples(st.sampled_from((4, 13, 17)), u32),
    st.tuples(st.sampled_from((6, 8, 16)), u32, begin, length),
    st.tuples(st.just(7), u32, begin, st.integers(1, 70_000)),
    st.tuples(st.just(5), st.binary(max_size=300)),
    st.tuples(st.just(9), st.integers(0, 65535)),
    st.tuples(st.just(20), byte, st.binary(max_size=300)),
    st.tuples(st.sampled_from((21, 23)), root, u32, u32, u32, u32),
    st.tuples(st.just(22), root, u32, u32, u32, u32, st.integers(0, 9).map(lambda n: bytes(32 * n))),
)


@given(events)
def test_what_is_encoded_decodes_to_the_same(event: tuple[object, ...]) -> None:
    data = encode_event(event)
    payloads, used = split_messages(data + b"\0\0")
    assert used == len(data)
    assert [decode_message(payload) for payload in payloads] == [event]


@given(st.binary(max_size=60), st.one_of(st.none(), st.integers(0, 1000)))
def test_garbage_is_a_remote_error_and_nothing_else(payload: bytes, pieces: int | None) -> None:
    try:
        event = decode_message(payload, pieces=pieces)
    except RemoteError:
        return
    assert encode_event(event)[4 : 4 + min(len(payload), 9)] == payload[:9]


def test_encoders_give_the_bytes_of_the_protocol() -> None:
    assert messages.encode_have(1) == bytes.fromhex("00000005 04 00000001")
    assert messages.encode_haves([1, 2]) == messages.encode_have(1) + messages.encode_have(2)
    assert messages.encode_request(1, 2, 3) == bytes.fromhex("0000000d 06 00000001 00000002 00000003")
    assert messages.encode_cancel(1, 2, 3) == bytes.fromhex("0000000d 08 00000001 00000002 00000003")
    assert messages.encode_reject(1, 2, 3) == bytes.fromhex("0000000d 10 00000001 00000002 00000003")
    assert messages.encode_piece(1, 2, b"abc") == bytes.fromhex("0000000c 07 00000001 00000002 616263")
    assert messages.encode_bitfield(b"\xf0") == bytes.fromhex("00000002 05 f0")
    assert messages.encode_port(6881) == bytes.fromhex("00000003 09 1ae1")
    assert messages.encode_suggest(9) == bytes.fromhex("00000005 0d 00000009")
    assert messages.encode_allowed_fast(9) == bytes.fromhex("00000005 11 00000009")
    assert messages.encode_extended(3, b"x") == bytes.fromhex("00000003 14 03 78")
    simple = (
        messages.KEEP_ALIVE, messages.CHOKE, messages.UNCHOKE, messages.INTERESTED, messages.NOT_INTERESTED,
        messages.HAVE_ALL, messages.HAVE_NONE,
    )  # fmt: skip
    read = [decode_message(payload) for payload in split_messages(b"".join(simple))[0]]
    assert read == [(), (0,), (1,), (2,), (3,), (14,), (15,)]
    assert messages.encode_hashes(bytes(32), 1, 2, 3, 4, bytes(32))[:5] == bytes.fromhex("00000051 16")
    assert messages.encode_hash_request(bytes(32), 1, 2, 3, 4)[:5] == bytes.fromhex("00000031 15")
    assert messages.encode_hash_reject(bytes(32), 1, 2, 3, 4)[:5] == bytes.fromhex("00000031 17")
    with pytest.raises(ValueError, match="no message"):
        encode_event((99,))


@pytest.mark.parametrize(
    "payload",
    [
        b"\x00\x00",
        b"\x04\x00\x00\x00",
        b"\x04\x00\x00\x00\x41",
        b"\x05\xff",
        b"\x05" + b"\xff" * 9,
        b"\x06" + bytes(12),
        b"\x06" + bytes(8) + b"\x00\x02\x00\x01",
        b"\x06" + bytes(4) + b"\xff\xff\xff\xff" + b"\x00\x00\x40\x00",
        b"\x07" + bytes(8),
        b"\x07" + bytes(8) + bytes(messages.MAX_BLOCK + 1),
        b"\x09\x00",
        b"\x14",
        b"\x15" + bytes(47),
        b"\x16" + bytes(49),
        b"\x16" + bytes(48 + 32 * 577),
        b"\x63",
    ],
)
def test_malformed_messages_are_refused(payload: bytes) -> None:
    with pytest.raises(RemoteError):
        decode_message(payload, pieces=65)


def test_a_bitfield_must_fit_the_torrent() -> None:
    assert decode_message(b"\x05" + b"\xff" * 8 + b"\x80", pieces=65) == (5, b"\xff" * 8 + b"\x80")
    with pytest.raises(RemoteError, match="spare"):
        decode_message(b"\x05" + b"\xff" * 8 + b"\xc0", pieces=65)


def test_a_huge_length_prefix_is_refused_at_once() -> None:
    with pytest.raises(RemoteError):
        split_messages(b"\xff\xff\xff\xff")


@pytest.mark.skipif(not VECTORS.is_dir(), reason="the folder shared/vectors is not beside the checkout")
def test_what_real_clients_send_is_understood() -> None:
    files = sorted(VECTORS.glob("*.bin"))
    assert files
    for file in files:
        data = file.read_bytes()
        handshake = decode_handshake(data[:68])
        assert handshake.info_hash.hex() == "05a2022b87fa2bae05d5bf7527c257c7bbf86d48"
        payloads, used = split_messages(data[68:])
        assert used == len(data) - 68, file.name
        read = [decode_message(payload, pieces=65) for payload in payloads]
        for event in read:
            if event and event[0] == ids.EXTENDED and event[1] == 0:
                said = decode_extended_handshake(event[2])
                assert said.m, file.name
                assert (said.reqq or 0) in (0, 512, 2000, 2048), file.name
        if "hs_nobits" in file.name and read:
            assert read[0][0] == ids.BITFIELD, file.name
