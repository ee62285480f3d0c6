"""Bodies of ut_metadata messages: a torrent's info dict in pieces of 16 KiB (BEP 9)."""

from __future__ import annotations

from typing import Final, NamedTuple

from btfast._bencode import BencodeError, decode_prefix, encode
from btfast.errors import RemoteError

REQUEST: Final = 0
DATA: Final = 1
REJECT: Final = 2

PIECE: Final = 16384  # bytes of metadata in one message, less in the last
MAX_PIECES: Final = 1 << 16
_MAX_HEAD = 1024  # bytes of the dictionary; what clients send is below 60


class MetadataMessage(NamedTuple):
    """One message. `kind`: REQUEST, DATA or REJECT. `total_size` is what the sender says of the whole metadata.

    `data` follows the dictionary of a DATA message; it is empty in others.
    """

    kind: int
    piece: int
    total_size: int | None = None
    data: bytes = b""


def encode_metadata(message: MetadataMessage) -> bytes:
    """The body, without the extension's id before it."""
    head: dict[str, int] = {"msg_type": message.kind, "piece": message.piece}
    if message.total_size is not None:
        head["total_size"] = message.total_size
    return encode(head) + message.data


def decode_metadata(body: bytes) -> MetadataMessage | None:
    """Reads a body; None for a type of message that BEP 9 does not name, which is to be ignored.

    Not every client tells the same `total_size` (I2PSnark: that of the piece), so it is no more than a hint.
    Raises RemoteError.
    """
    if len(body) > _MAX_HEAD + PIECE:
        raise _broken(f"{len(body)} bytes are more than a piece of metadata has")
    try:
        head, end = decode_prefix(body, strict=False, max_depth=4, max_tokens=64)
    except BencodeError as error:
        raise _broken(f"not bencoding ({error})") from None
    if not isinstance(head, dict):
        raise _broken("not a dictionary")
    kind, piece, total_size = head.get(b"msg_type"), head.get(b"piece"), head.get(b"total_size")
    if not isinstance(kind, int) or not REQUEST <= kind <= REJECT:
        return None
    if not isinstance(piece, int) or not 0 <= piece < MAX_PIECES:
        raise _broken("its piece is missing or out of range")
    data = b""
    if kind == DATA:
        data = bytes(body[end:])
        if len(data) > PIECE:
            raise _broken(f"{len(data)} bytes are more than a piece of metadata has")
    known = isinstance(total_size, int) and 0 < total_size <= 1 << 40
    return MetadataMessage(kind, piece, total_size if known else None, data)


def _broken(why: str) -> RemoteError:
    return RemoteError(f"ut_metadata: {why}: the peer is dropped")
