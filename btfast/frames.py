"""Length-prefixed frames on a byte stream: how the three kinds of process pass messages that are not per piece."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from btfast.errors import InternalError

FRAME_LIMIT = 1 << 29  # a .torrent of 256 MiB and its envelope
HEADER = struct.Struct("<I")


def frame(body: bytes) -> bytes:
    """One frame around `body`."""
    return HEADER.pack(len(body)) + body


class Frames:
    """Cuts a byte stream into the bodies of its frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def handle_bytes(self, data: bytes) -> Iterator[bytes]:
        """The bodies that are whole now. Raises InternalError for a frame above FRAME_LIMIT."""
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            (length,) = HEADER.unpack_from(self._buffer)
            if length > FRAME_LIMIT:
                raise InternalError(f"frame of {length} bytes: above the limit of {FRAME_LIMIT}: please report this")
            if len(self._buffer) < HEADER.size + length:
                return
            body = bytes(self._buffer[HEADER.size : HEADER.size + length])
            del self._buffer[: HEADER.size + length]
            yield body
