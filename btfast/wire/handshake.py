"""The 68 bytes that open every connection (BEP 3), and our peer id (BEP 20)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from btfast.errors import RemoteError
from btfast.wire.ids import RESERVED_DHT, RESERVED_EXTENSIONS, RESERVED_FAST, RESERVED_V2

PROTOCOL: Final = b"\x13BitTorrent protocol"
HANDSHAKE_LENGTH: Final = 68
# A tracker that only checks whether it can reach us sends no more than this; answer here, not after the peer id.
ANSWER_AFTER: Final = 48
RESERVED: Final = slice(20, 28)  # of the handshake
INFO_HASH: Final = slice(28, 48)

CLIENT_PAIR: Final = b"bf"  # unregistered in BEP 20 and in clients' lists; upper-case BF is Bitflu
CLIENT_VERSION: Final = "0.1.0"


class Handshake(NamedTuple):
    """What a peer says first: info_hash (20 bytes), peer_id (20 bytes, any), reserved (8 bytes)."""

    info_hash: bytes
    peer_id: bytes
    reserved: bytes

    @property
    def extensions(self) -> bool:
        """Speaks LTEP (BEP 10)."""
        return _has(self.reserved, RESERVED_EXTENSIONS)

    @property
    def fast(self) -> bool:
        """Speaks the Fast extension (BEP 6)."""
        return _has(self.reserved, RESERVED_FAST)

    @property
    def dht(self) -> bool:
        """Sends PORT messages (BEP 5)."""
        return _has(self.reserved, RESERVED_DHT)

    @property
    def v2_upgrade(self) -> bool:
        """Used the v1 hash of a hybrid torrent but speaks v2 as well (BEP 52)."""
        return wants_upgrade(self.reserved)


def encode_handshake(info_hash: bytes, peer_id: bytes, *, dht: bool = False, v2_upgrade: bool = False) -> bytes:
    """68 bytes with the LTEP and Fast bits set, and the DHT bit when `dht`. Raises ValueError on a wrong length.

    `v2_upgrade`: for the v1 hash of a hybrid torrent alone, whose v2 half we have as well. Whoever gets it may answer with
    the other hash (BEP 52).
    """
    if len(info_hash) != 20 or len(peer_id) != 20:
        raise ValueError(f"info_hash and peer_id are 20 bytes each, not {len(info_hash)} and {len(peer_id)}")
    reserved = bytearray(8)
    wanted = ((RESERVED_EXTENSIONS, True), (RESERVED_FAST, True), (RESERVED_DHT, dht), (RESERVED_V2, v2_upgrade))
    for (byte, mask), said in wanted:
        if said:
            reserved[byte] |= mask
    return b"".join((PROTOCOL, reserved, info_hash, peer_id))


def wants_upgrade(reserved: bytes) -> bool:
    """Whether who said the v1 hash of a hybrid torrent may be answered with the v2 hash (BEP 52)."""
    return _has(reserved, RESERVED_V2)


def decode_handshake(data: bytes) -> Handshake:
    """Reads the 68 bytes. Raises RemoteError."""
    if not data.startswith(PROTOCOL):
        raise RemoteError(
            "handshake: not the BitTorrent protocol: another service listens there", start=bytes(data[:20])
        )
    if len(data) != HANDSHAKE_LENGTH:
        raise RemoteError(f"handshake: {len(data)} bytes instead of 68: the peer is dropped", length=len(data))
    return Handshake(info_hash=bytes(data[INFO_HASH]), peer_id=bytes(data[48:68]), reserved=bytes(data[RESERVED]))


def make_peer_id(random: Callable[[int], bytes]) -> bytes:
    """A new peer id: `-bf`, the version's digits, `-`, and 12 bytes from `random(12)` (BEP 20, Azureus style)."""
    major, minor, patch = CLIENT_VERSION.split(".")[:3]
    tail = random(12)
    if len(tail) != 12:
        raise ValueError(f"random(12) gave {len(tail)} bytes")
    return b"-" + CLIENT_PAIR + f"{major:.1}{minor:.1}{patch:.1}0".encode() + b"-" + tail


def _has(reserved: bytes, bit: tuple[int, int]) -> bool:
    byte, mask = bit
    return bool(reserved[byte] & mask)
