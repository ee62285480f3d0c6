from __future__ import annotations

import pytest

import btfast
from btfast.errors import RemoteError
from btfast.wire.handshake import CLIENT_VERSION, decode_handshake, encode_handshake, make_peer_id

HASH = bytes(range(20))
PEER = b"-XX0000-abcdefghijkl"


@pytest.mark.parametrize(("dht", "last"), [(False, 0x04), (True, 0x05)])
def test_handshake_sets_the_bits_that_we_speak(dht: bool, last: int) -> None:
    data = encode_handshake(HASH, PEER, dht=dht)
    assert data == b"\x13BitTorrent protocol" + bytes((0, 0, 0, 0, 0, 0x10, 0, last)) + HASH + PEER
    read = decode_handshake(data)
    assert (read.info_hash, read.peer_id) == (HASH, PEER)
    assert (read.extensions, read.fast, read.dht, read.v2_upgrade) == (True, True, dht, False)


def test_a_hybrid_upgrade_bit_is_said_and_seen() -> None:
    data = encode_handshake(HASH, PEER, dht=True, v2_upgrade=True)
    assert data[20:28].hex() == "0000000000100015"
    assert decode_handshake(data).v2_upgrade


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 400 Bad Request", encode_handshake(HASH, PEER)[:-1], bytes(68)])
def test_anything_else_is_a_remote_error(data: bytes) -> None:
    with pytest.raises(RemoteError):
        decode_handshake(data)


def test_wrong_lengths_are_refused_before_sending() -> None:
    with pytest.raises(ValueError, match="20 bytes"):
        encode_handshake(HASH[:19], PEER)


def test_peer_id_names_client_and_version_and_is_twenty_bytes() -> None:
    assert make_peer_id(lambda n: b"\xff" * n) == b"-bf0100-" + b"\xff" * 12


def test_the_peer_id_has_the_version_of_the_package() -> None:
    assert btfast.__version__ == CLIENT_VERSION
