"""What the network process and a worker tell each other besides the records of the rings."""

from __future__ import annotations

import msgspec

from btfast.frames import frame

# Kinds of job records. `index` is a piece for WRITE_PIECE and a file for FINISH_FILE and DEMOTE_FILE.
WRITE_PIECE = 1  # hash the payload at `offset`; write it where it belongs if it matches `digest`
FINISH_FILE = 2  # every byte is written: make it durable and give it its final name
DEMOTE_FILE = 3  # it has its final name but is not complete: back to the name of an unfinished file
WRITE_PART = 4  # write the payload at `offset` into the piece as it is, from the byte that `digest` tells on
# `offset` of the two for files: how many workers have died over it. Each may have done it and not said so any more.

# A completion record has the job's kind plus this, and one of the statuses; its detail is the errno of FAILED.
DONE = 128
OK = 0
MISMATCH = 1
FAILED = 2

# What a check says of a piece.
BAD = 0
GOOD = 1
MISSING = 2


class OpenTorrent(msgspec.Struct, frozen=True, kw_only=True, tag="open"):
    """Where a torrent's files go. `paths` are safe, relative to `directory`, with `/` between their elements."""

    torrent: int
    directory: str
    paths: list[str]
    lengths: list[int]
    pads: list[int]
    piece_length: int
    in_place: bool
    io: str  # "auto", "direct", "buffered"


class CloseTorrent(msgspec.Struct, frozen=True, tag="close"):
    """Forget the torrent and close its files."""

    torrent: int


class CheckPieces(msgspec.Struct, frozen=True, tag="check"):
    """Hash pieces first, first+1, ... as they are on disk; `hashes` holds 20 bytes a piece. Answered by PiecesChecked."""

    torrent: int
    first: int
    hashes: bytes


class Surveyed(msgspec.Struct, frozen=True, tag="surveyed"):
    """`unfinished` and `final`: numbers of the files that are there under either name; `error`: why it cannot work here.

    `wrong_size`: those that have their final names and cannot be complete, whatever is in them.
    """

    torrent: int
    unfinished: list[int]
    final: list[int]
    free: int  # bytes that the file system has left
    allocated: int  # bytes that the files found occupy already
    wrong_size: list[int] = []
    error: str = ""
    errno: int = 0


class PiecesChecked(msgspec.Struct, frozen=True, tag="checked"):
    """One of GOOD, BAD, MISSING a piece; nothing when the torrent is closed."""

    torrent: int
    first: int
    states: bytes


class Problem(msgspec.Struct, frozen=True, tag="problem"):
    """An operation on a file failed; the completion record that follows has its errno."""

    torrent: int
    path: str
    message: str
    errno: int


Order = OpenTorrent | CloseTorrent | CheckPieces
Answer = PiecesChecked | Problem

_encoder = msgspec.msgpack.Encoder()
_orders: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def encode(message: Order | Answer) -> bytes:
    """One framed message."""
    return frame(_encoder.encode(message))


def decode_order(body: bytes) -> Order:
    return _orders.decode(body)


def decode_answer(body: bytes) -> Answer:
    return _answers.decode(body)
