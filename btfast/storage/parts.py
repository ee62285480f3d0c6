"""Pieces that hold bytes of files nobody wants: kept whole in one hidden file beside the torrent's own.

A piece can be verified, served and used for another selection only as a whole. So one that lies in several files of which
some are not wanted goes to the parts file, and the wanted files get their shares of it as well. The file is sparse, and
what is in a slot is believed only after its piece has been hashed.
"""

from __future__ import annotations

import contextlib
import os

from btfast import _hashing
from btfast.storage.files import Files
from btfast.storage.layout import Layout
from btfast.storage.messages import IN_PARTS, TO_RESTORE

_CHUNK = 1 << 20


def look_into_parts(layout: Layout, pieces: list[int], hashes: list[bytes]) -> list[int | None]:
    """IN_PARTS or TO_RESTORE for each of the pieces that the parts file has, None for the others.

    TO_RESTORE: some wanted file does not have its share of it.
    """
    try:
        parts = layout.open_for_reading(layout.parts_file)
    except OSError:
        return [None] * len(pieces)
    reader = _Reader(layout)
    try:
        found: list[int | None] = []
        for piece, expected in zip(pieces, hashes, strict=True):
            found.append(reader.state(parts, piece, expected) if piece in layout.slots else None)
        return found
    finally:
        os.close(parts)
        reader.close()


class _Reader:
    """Reads slots and the shares of wanted files side by side."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._slot, self._share = memoryview(bytearray(_CHUNK)), memoryview(bytearray(_CHUNK))
        self._file = -1
        self._fd: int | None = None

    def state(self, parts: int, piece: int, expected: bytes) -> int | None:
        layout = self._layout
        hasher = _hashing.Hasher("sha1")
        at = layout.slots.offset(piece)
        shares = True
        for file, offset, length in layout.geometry.piece_spans(piece):
            end = offset + length
            while offset < end:
                part = self._slot[: min(_CHUNK, end - offset)]
                if not read_whole(parts, part, at):
                    return None
                _hashing.update_many([hasher], [part])
                if shares and layout.wants(file) and file not in layout.pads:
                    shares = self._has(file, part, offset)
                at += len(part)
                offset += len(part)
        if hasher.digest() != expected:
            return None
        return IN_PARTS if shares else TO_RESTORE

    def _has(self, file: int, part: memoryview, offset: int) -> bool:
        """Whether the file itself has these bytes at `offset`."""
        if file != self._file:
            self.close()
            self._file = file
            with contextlib.suppress(OSError):  # it is not there, or cannot be read: it is written
                self._fd = self._layout.open_for_reading(file)
        share = self._share[: len(part)]
        return self._fd is not None and read_whole(self._fd, share, offset) and share == part

    def close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def restore_piece(files: Files, layout: Layout, piece: int, expected: bytes) -> bool:
    """Gives the wanted files their shares of a piece out of the parts file. OSError.

    False: what is in the parts file does not have that hash, nor have the shares.
    """
    parts = layout.open_for_reading(layout.parts_file)
    try:
        hasher = _hashing.Hasher("sha1")
        room = memoryview(bytearray(min(_CHUNK, layout.geometry.piece_length)))
        at = layout.slots.offset(piece)
        for file, offset, length in layout.geometry.piece_spans(piece):
            end = offset + length
            while offset < end:
                part = room[: min(len(room), end - offset)]
                if not read_whole(parts, part, at):
                    return False
                _hashing.update_many([hasher], [part])
                if layout.wants(file) and file not in layout.pads:
                    _write(files.writable(layout, file, direct=False), part, offset)
                at += len(part)
                offset += len(part)
        return hasher.digest() == expected
    finally:
        os.close(parts)


def remove_parts(layout: Layout) -> None:
    """Nothing needs it any more. OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(layout.path(layout.parts_file))


def read_whole(fd: int, part: memoryview, offset: int) -> bool:
    """Fills `part` from `offset` on; False where the file ends before that or cannot be read."""
    while part:
        try:
            got = os.preadv(fd, [part], offset)
        except OSError:
            return False  # what cannot be read is fetched again
        if got == 0:
            return False
        part = part[got:]
        offset += got
    return True


def _write(fd: int, part: memoryview, offset: int) -> None:
    while part:
        written = os.pwrite(fd, part, offset)
        part = part[written:]
        offset += written
