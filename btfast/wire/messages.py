"""Peer messages as bytes and back (BEP 3, 5, 6, 10, 52).

The encoders give whole messages, length prefix included. decode_message is the plain reading of one message: the
engine's fast parser must agree with it on every input, and it validates more than speed would allow there.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from btfast.errors import RemoteError
from btfast.wire import ids

MAX_BLOCK: Final = 1 << 17  # no client serves longer requests; longer ones are hostile
MAX_EXTENDED: Final = 1 << 20  # bytes of one LTEP body
MAX_BITFIELD: Final = 1 << 26  # bytes; half a billion pieces
MAX_HASHES: Final = 512 + 64  # in one HASHES message: we never ask for more than 512 at a time, and a tree has no more uncles

KEEP_ALIVE: Final = b"\0\0\0\0"
CHOKE: Final = b"\0\0\0\1\x00"
UNCHOKE: Final = b"\0\0\0\1\x01"
INTERESTED: Final = b"\0\0\0\1\x02"
NOT_INTERESTED: Final = b"\0\0\0\1\x03"
HAVE_ALL: Final = b"\0\0\0\1\x0e"
HAVE_NONE: Final = b"\0\0\0\1\x0f"

_INDEX = struct.Struct("!IBI")
_RANGE = struct.Struct("!IBIII")
_PORT = struct.Struct("!IBH")
_HEAD = struct.Struct("!IB")
_BLOCK = struct.Struct("!IBII")
_EXTENDED = struct.Struct("!IBB")
_HASHES = struct.Struct("!IB32sIIII")

_BARE = frozenset((ids.CHOKE, ids.UNCHOKE, ids.INTERESTED, ids.NOT_INTERESTED, ids.HAVE_ALL, ids.HAVE_NONE))
_INDEXED = frozenset((ids.HAVE, ids.SUGGEST, ids.ALLOWED_FAST))
_RANGED = frozenset((ids.REQUEST, ids.CANCEL, ids.REJECT))

Event = tuple[Any, ...]


def encode_have(index: int) -> bytes:
    """HAVE (BEP 3)."""
    return _INDEX.pack(5, ids.HAVE, index)


def encode_haves(indexes: list[int]) -> bytes:
    """One HAVE for each of `indexes`, in one buffer."""
    return b"".join([_INDEX.pack(5, ids.HAVE, index) for index in indexes])


def encode_bitfield(field: bytes) -> bytes:
    """BITFIELD (BEP 3): ceil(pieces / 8) bytes, most significant bit first, spare bits 0."""
    return _HEAD.pack(1 + len(field), ids.BITFIELD) + field


def encode_request(index: int, begin: int, length: int) -> bytes:
    """REQUEST (BEP 3)."""
    return _RANGE.pack(13, ids.REQUEST, index, begin, length)


def encode_cancel(index: int, begin: int, length: int) -> bytes:
    """CANCEL (BEP 3)."""
    return _RANGE.pack(13, ids.CANCEL, index, begin, length)


def encode_reject(index: int, begin: int, length: int) -> bytes:
    """REJECT (BEP 6)."""
    return _RANGE.pack(13, ids.REJECT, index, begin, length)


def encode_piece_header(index: int, begin: int, length: int) -> bytes:
    """The 13 bytes before the `length` bytes of a block (PIECE, BEP 3)."""
    return _BLOCK.pack(9 + length, ids.PIECE, index, begin)


def encode_piece(index: int, begin: int, block: bytes) -> bytes:
    """PIECE with its block (BEP 3)."""
    return encode_piece_header(index, begin, len(block)) + block


def encode_port(port: int) -> bytes:
    """PORT: our DHT node's UDP port (BEP 5)."""
    return _PORT.pack(3, ids.PORT, port)


def encode_suggest(index: int) -> bytes:
    """SUGGEST (BEP 6)."""
    return _INDEX.pack(5, ids.SUGGEST, index)


def encode_allowed_fast(index: int) -> bytes:
    """ALLOWED FAST (BEP 6)."""
    return _INDEX.pack(5, ids.ALLOWED_FAST, index)


def encode_extended(ext_id: int, body: bytes) -> bytes:
    """EXTENDED (BEP 10) with the receiver's own id for the extension."""
    return _EXTENDED.pack(2 + len(body), ids.EXTENDED, ext_id) + body


def encode_hash_request(root: bytes, base: int, index: int, length: int, proof: int) -> bytes:
    """HASH REQUEST (BEP 52)."""
    return _HASHES.pack(49, ids.HASH_REQUEST, root, base, index, length, proof)


def encode_hash_reject(root: bytes, base: int, index: int, length: int, proof: int) -> bytes:
    """HASH REJECT (BEP 52)."""
    return _HASHES.pack(49, ids.HASH_REJECT, root, base, index, length, proof)


def encode_hashes(root: bytes, base: int, index: int, length: int, proof: int, hashes: bytes) -> bytes:
    """HASHES (BEP 52): `hashes` are 32 bytes each, base layer first, then the uncles."""
    return _HASHES.pack(49 + len(hashes), ids.HASHES, root, base, index, length, proof) + hashes


def encode_event(event: Event) -> bytes:
    """The message that decode_message reads as `event`; () is a keep-alive. A PIECE gets zeros for its block."""
    if not event:
        return KEEP_ALIVE
    kind, *rest = event
    if kind in _BARE:
        return _HEAD.pack(1, kind)
    if kind in _INDEXED:
        return _INDEX.pack(5, kind, *rest)
    if kind in _RANGED:
        return _RANGE.pack(13, kind, *rest)
    if kind == ids.PIECE:
        return encode_piece_header(*rest) + bytes(rest[2])
    if kind == ids.BITFIELD:
        return encode_bitfield(*rest)
    if kind == ids.PORT:
        return encode_port(*rest)
    if kind == ids.EXTENDED:
        return encode_extended(*rest)
    if kind == ids.HASHES:
        return encode_hashes(*rest)
    if kind in (ids.HASH_REQUEST, ids.HASH_REJECT):
        return _HASHES.pack(49, kind, *rest)
    raise ValueError(f"no message has id {kind}")


def decode_message(payload: bytes, *, pieces: int | None = None) -> Event:
    """The event of one message without its length prefix: a tuple whose first item is the id, () for a keep-alive.

    PIECE gives (7, index, begin, length); its block is payload[9:]. With `pieces`, the torrent's piece count, indexes
    and the bitfield's size are checked too. Raises RemoteError, and nothing else, for anything malformed or unknown.
    """
    if not payload:
        return ()
    kind = payload[0]
    size = len(payload)
    if kind in _BARE:
        _expect(size == 1, kind, size)
        return (kind,)
    if kind in _INDEXED:
        _expect(size == 5, kind, size)
        index = int.from_bytes(payload[1:5], "big")
        _check_index(index, pieces)
        return (kind, index)
    if kind in _RANGED:
        _expect(size == 13, kind, size)
        index, begin, length = struct.unpack("!III", payload[1:])
        _check_range(index, begin, length, pieces)
        return (kind, index, begin, length)
    if kind == ids.PIECE:
        _expect(9 < size <= 9 + MAX_BLOCK, kind, size)
        index, begin = struct.unpack("!II", payload[1:9])
        _check_range(index, begin, size - 9, pieces)
        return (kind, index, begin, size - 9)
    if kind == ids.BITFIELD:
        return (kind, _checked_bitfield(payload, pieces))
    if kind == ids.PORT:
        _expect(size == 3, kind, size)
        return (kind, int.from_bytes(payload[1:3], "big"))
    if kind == ids.EXTENDED:
        _expect(2 <= size <= 2 + MAX_EXTENDED, kind, size)
        return (kind, payload[1], bytes(payload[2:]))
    if kind in (ids.HASH_REQUEST, ids.HASH_REJECT):
        _expect(size == 49, kind, size)
        return (kind, *struct.unpack("!32sIIII", payload[1:]))
    if kind == ids.HASHES:
        _expect(size >= 49 and (size - 49) % 32 == 0 and size <= 49 + 32 * MAX_HASHES, kind, size)
        return (kind, *struct.unpack("!32sIIII", payload[1:49]), bytes(payload[49:]))
    raise RemoteError(f"message id {kind}: not one that we speak: the peer is dropped", id=kind)


def split_messages(data: bytes, *, limit: int = MAX_BITFIELD + 1) -> tuple[list[bytes], int]:
    """The whole messages in `data`, without their length prefixes, and how many bytes they took.

    Raises RemoteError for a length prefix above `limit`, before its bytes are waited for.
    """
    found: list[bytes] = []
    place = 0
    while len(data) - place >= 4:
        length = int.from_bytes(data[place : place + 4], "big")
        if length > limit:
            raise RemoteError(f"message of {length} bytes: above {limit}: the peer is dropped", length=length)
        if len(data) - place - 4 < length:
            break
        found.append(data[place + 4 : place + 4 + length])
        place += 4 + length
    return found, place


def _checked_bitfield(payload: bytes, pieces: int | None) -> bytes:
    field = bytes(payload[1:])
    if pieces is None:
        _expect(len(field) <= MAX_BITFIELD, ids.BITFIELD, len(payload))
        return field
    _expect(len(field) == (pieces + 7) >> 3, ids.BITFIELD, len(payload))
    spare = -pieces & 7
    if field and field[-1] & ((1 << spare) - 1):
        raise RemoteError("bitfield: spare bits are set: the peer is dropped", id=ids.BITFIELD)
    return field


def _check_index(index: int, pieces: int | None) -> None:
    if pieces is not None and index >= pieces:
        raise RemoteError(f"piece {index}: the torrent has {pieces}: the peer is dropped", index=index)


def _check_range(index: int, begin: int, length: int, pieces: int | None) -> None:
    _check_index(index, pieces)
    if not 0 < length <= MAX_BLOCK:
        raise RemoteError(f"block of {length} bytes: not 1 to {MAX_BLOCK}: the peer is dropped", length=length)
    if begin + length > 1 << 32:
        raise RemoteError(f"block at {begin}: outside every piece: the peer is dropped", begin=begin)


def _expect(right: bool, kind: int, size: int) -> None:
    if not right:
        raise RemoteError(f"message id {kind}: {size} bytes is not its size: the peer is dropped", id=kind, size=size)
