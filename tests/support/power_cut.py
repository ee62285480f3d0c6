"""A simulated power cut: programs run above a layer that notes what is durable; then all else is taken back."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path
from typing import NamedTuple

from support.preloaded import compile_library

_RECORD = struct.Struct("=6Q")
_WRITE, _SYNC, _RENAME, _SYNC_ALL = 1, 2, 3, 4


_Inode = tuple[int, int]  # device and number


class _Change(NamedTuple):
    """An entry of the journal that ends at byte `end` of it."""

    kind: int
    inode: _Inode
    offset: int
    size: int
    payload: bytes
    end: int


class PowerCut:
    """Programs that have `environment` and work below `root` can be cut off; their journal lies in `folder`."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._library = compile_library("power_cut", folder)
        self._journal = folder / "power_cut.journal"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(self._library),
            "POWER_CUT_ROOT": str(self._root),
            "POWER_CUT_JOURNAL": str(self._journal),
        }

    def happen(self, rng: random.Random, *, kept: float) -> int:
        """Takes back what was not made durable, but for a share `kept` of it; how many changes that were.

        Every file keeps the times that it has: what a disk has of a file's data and what of its inode are two things.
        """
        changes, durable, everything = self._read()
        files = {_inode(status): (path, status) for path in self._root.rglob("*") for status in (path.lstat(),)}
        surviving: dict[_Inode, list[tuple[int, int]]] = {}
        lost = 0
        for change in reversed(changes):
            path, _ = files.get(change.inode, (None, None))
            if path is None or change.end <= max(durable.get(change.inode, 0), everything.get(change.inode[0], 0)):
                continue
            if change.kind == _RENAME:
                old, new = (Path(os.fsdecode(name)) for name in change.payload.split(b"\0")[:2])
                parent = durable.get(_inode(new.parent.stat()), 0)
                if change.end > parent and rng.random() >= kept and new == path:
                    new.rename(old)
                    files[change.inode] = (old, files[change.inode][1])
                    lost += 1
                continue
            ranges = surviving.setdefault(change.inode, [])
            begin, end = change.offset, change.offset + len(change.payload)
            stays = rng.random() < kept or any(first < end and begin < last for first, last in ranges)
            if stays:
                ranges.append((begin, max(end, path.stat().st_size if end > change.size else end)))
                continue
            _undo(path, change, max((last for _, last in ranges), default=0))
            lost += 1
        first = {change.inode: change.end for change in reversed(changes)}
        for inode, (path, status) in files.items():
            if path.is_file() and path.exists():
                synced = inode in durable or everything.get(inode[0], 0) >= first.get(inode, 0)
                if not surviving.get(inode) and not synced:
                    path.unlink()  # not even its name was ever made durable
                else:
                    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        self._journal.unlink()
        return lost

    def _read(self) -> tuple[list[_Change], dict[_Inode, int], dict[int, int]]:
        """The changes in their order; up to where in the journal each inode is durable, and up to where all of a device is."""
        data = self._journal.read_bytes()
        changes: list[_Change] = []
        durable: dict[_Inode, int] = {}
        everything: dict[int, int] = {}
        at = 0
        while at + _RECORD.size <= len(data):
            kind, device, number, offset, length, size = _RECORD.unpack_from(data, at)
            inode = device, number
            at += _RECORD.size
            payload = data[at : at + length]
            at += length
            if kind == _SYNC:
                durable[inode] = max(durable.get(inode, 0), size)
            elif kind == _SYNC_ALL:
                everything[device] = max(everything.get(device, 0), size)
            else:
                changes.append(_Change(kind, inode, offset, size, payload, at))
        return changes, durable, everything


def _inode(status: os.stat_result) -> _Inode:
    return status.st_dev, status.st_ino


def _undo(path: Path, change: _Change, least: int) -> None:
    """What was there before; the file is not cut below `least`."""
    with path.open("r+b") as file:
        file.seek(change.offset)
        file.write(change.payload)
        file.flush()
        size = max(change.size, least)
        if size < os.fstat(file.fileno()).st_size:
            os.ftruncate(file.fileno(), size)
