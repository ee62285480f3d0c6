"""Which file it was: device, inode, size and modification time, and under which of its names it was found.

Five 64-bit numbers a file, so that a hundred thousand of them are one short string of bytes.
"""

from __future__ import annotations

import os
import struct
from array import array
from typing import NamedTuple

_FIELDS = 5
_MASK = (1 << 64) - 1

ABSENT = 0  # not recorded, or changed since
UNFINISHED = 1  # under the name of an unfinished file
FINAL = 2
CHANGED = 3  # said of a file that is there: it is the one that was recorded, but not as it was


class Identity(NamedTuple):
    """`name`: ABSENT, UNFINISHED or FINAL."""

    name: int
    device: int
    inode: int
    size: int
    mtime_ns: int


NO_FILE = Identity(ABSENT, 0, 0, 0, 0)


_PACKED = struct.Struct("<5Q")


def identity_of(status: os.stat_result, name: int) -> Identity:
    return Identity(name, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def pack(identity: Identity) -> bytes:
    """As the answer to the job of finishing a file carries it."""
    return _PACKED.pack(*(number & _MASK for number in identity))


def unpack(data: bytes) -> Identity:
    """What `pack` gave; struct.error for anything else."""
    return _signed(*_PACKED.unpack(data))


def _signed(name: int, device: int, inode: int, size: int, mtime: int) -> Identity:
    """Times before 1970 are below 0."""
    return Identity(name, device, inode, size, mtime if mtime >> 63 == 0 else mtime - (1 << 64))


class Identities:
    """Those of all files of a torrent, by number. `data`: as `to_bytes` gave it; ValueError when it does not fit."""

    def __init__(self, count: int, data: bytes | None = None) -> None:
        self._numbers = array("Q", bytes(8 * _FIELDS * count) if data is None else data)
        if len(self._numbers) != _FIELDS * count:
            raise ValueError(f"identities of {count} files: {len(data or b'')} bytes do not fit")

    def __getitem__(self, file: int) -> Identity:
        return _signed(*self._numbers[_FIELDS * file : _FIELDS * (file + 1)])

    def __setitem__(self, file: int, identity: Identity) -> None:
        self._numbers[_FIELDS * file : _FIELDS * (file + 1)] = array("Q", [number & _MASK for number in identity])

    def __len__(self) -> int:
        return len(self._numbers) // _FIELDS

    def to_bytes(self) -> bytes:
        return self._numbers.tobytes()
