"""What passes between a caller and the network process: length-prefixed msgpack over a Unix stream socket.

Caller to network process: Configure once, then Add, Remove, Stop. Network process to caller: Listening once, then events.
Framing and types; the only socket is that of `read_configure`.
"""

from __future__ import annotations

import socket

import msgspec

from btfast import events
from btfast.config import Settings
from btfast.errors import InputError, InternalError
from btfast.frames import FRAME_LIMIT, HEADER, frame
from btfast.metainfo.selection import Wanted


class Configure(msgspec.Struct, frozen=True, tag="configure"):
    """The first message: everything the network process needs to start.

    `details`: the caller hears of single peers, of files, and of what it has added.
    """

    settings: Settings
    details: bool = True


class Add(msgspec.Struct, frozen=True, kw_only=True, tag="add"):
    """Download, or serve, one torrent. `source` is shown in events; `data` holds the .torrent where the caller read it.

    `magnet` is the magnet URI where that is all there is. With `metadata_only` the .torrent itself is what is wanted.
    """

    id: int
    source: str
    directory: str
    data: bytes | None = None
    magnet: str = ""
    metadata_only: bool = False
    peers: list[tuple[str, int]] = []
    web_seeds: list[str] = []  # besides those of the torrent
    found_seeds: list[str] = []  # the same, but from strangers: a Metalink named them
    whole: list[tuple[str, bytes]] = []  # kinds and digests of the one file, such as "sha-256", where a Metalink has them
    seed: bool = False  # all data is in `directory` under its final names: serve it
    wanted: Wanted | None = None  # which files, and in what order; None: all


class Remove(msgspec.Struct, frozen=True, tag="remove"):
    """Stop one item and keep its state; it ends in Failed with kind InterruptedError."""

    id: int


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Save everything, announce `stopped`, and exit."""


class Listening(msgspec.Struct, frozen=True, tag="listening", tag_field="event"):
    """The network process is up; peers reach it at this port."""

    port: int
    pid: int
    workers: list[int]


Command = Configure | Add | Remove | Stop
Report = Listening | events.Event

_encoder = msgspec.msgpack.Encoder()
_commands: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_reports: msgspec.msgpack.Decoder[Report] = msgspec.msgpack.Decoder(Report)


def encode(message: Command | Report) -> bytes:
    """One framed message. Raises InputError for text that has no UTF-8 form."""
    try:
        return frame(_encoder.encode(message))
    except UnicodeEncodeError as error:
        text = error.object.encode("utf-8", "replace").decode()
        raise InputError(f"{text[:80]!r}: not UTF-8: write it in other letters") from None


def read_configure(stream: socket.socket) -> Configure | None:
    """Waits for Configure, the first message of a blocking `stream`, and reads not a byte more; None when it ends."""
    header = stream.recv(HEADER.size, socket.MSG_WAITALL)
    if len(header) < HEADER.size:
        return None
    (length,) = HEADER.unpack(header)
    body = stream.recv(min(length, FRAME_LIMIT), socket.MSG_WAITALL)
    if len(body) < length:
        return None
    command = decode_command(body)
    if not isinstance(command, Configure):
        raise InternalError(f"control stream: begins with {type(command).__name__} instead of Configure")
    return command


def decode_command(body: bytes) -> Command:
    return _commands.decode(body)


def decode_report(body: bytes) -> Report:
    return _reports.decode(body)
