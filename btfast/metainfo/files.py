"""The files of a torrent: the `files` list of its info dict as values with safe, unique paths (BEP 3, BEP 47)."""

from __future__ import annotations

from typing import Any

import msgspec

from btfast.errors import InputError
from btfast.metainfo import fields
from btfast.metainfo.paths import printable, safe_path, unique_paths

# How torrents from before BEP 47 name their pad files, which have no attr; other clients take them for pads too.
_OLD_PAD = b"_____padding_file_"


class File(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A file of a torrent. A pad file is zeros: part of the payload stream, never written. A symlink has no bytes."""

    path: tuple[str, ...]  # below the torrent's directory: safe, and no other file's
    length: int
    attr: str = ""  # as given: p pad, l symlink, x executable, h hidden
    pad: bool = False
    symlink: tuple[str, ...] | None = None  # what it points to, below the torrent's directory

    @property
    def executable(self) -> bool:
        """Whether the executable bit is asked for."""
        return "x" in self.attr

    @property
    def hidden(self) -> bool:
        """Whether its maker marked it hidden; nothing follows from it here."""
        return "h" in self.attr


def read_files(entries: object) -> tuple[tuple[File, ...], list[tuple[str, str]]]:
    """The files of `entries` (the decoded list), and the paths that had to change: (in the torrent, as used).

    Raises InputError.
    """
    if not isinstance(entries, list) or not entries:
        raise fields.damaged("its list of files is empty")
    memo: dict[bytes, str] = {}
    raws: list[list[bytes] | None] = []
    paths: list[tuple[str, ...] | None] = []
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise _damaged(number, "is not a dict")
        pad = b"attr" in entry and b"p" in fields.raw_attr(entry)
        raw = None if pad else _path_of(entry)
        if raw is None and not pad:
            raise _damaged(number, "has no path")
        if raw is not None and raw[-1].startswith(_OLD_PAD):
            raw = None
        raws.append(raw)
        paths.append(None if raw is None else safe_path(raw, memo))
    files: list[File] = []
    renamed: list[tuple[str, str]] = []
    for number, (entry, raw, path) in enumerate(zip(entries, raws, unique_paths(paths), strict=True)):
        file = _file(number, entry, path, memo)
        files.append(file)
        if path is not None and raw is not None and "/".join(path).encode() != b"/".join(raw):
            renamed.append((printable(raw), "/".join(path)))
    return tuple(files), renamed


def _file(number: int, entry: dict[bytes, Any], path: tuple[str, ...] | None, memo: dict[bytes, str]) -> File:
    attr = fields.attr_of(entry) if b"attr" in entry else ""
    if path is None:
        length = fields.length_of(entry, number)
        return File(path=(".pad", str(length)), length=length, attr=attr, pad=True)
    if "l" in attr and b"symlink path" in entry:
        target = _elements(entry[b"symlink path"])
        if target is None:
            raise _damaged(number, "is a symlink whose target is not a path")
        return File(path=path, length=0, attr=attr, symlink=safe_path(target, memo))
    return File(path=path, length=fields.length_of(entry, number), attr=attr)


def _path_of(entry: dict[bytes, Any]) -> list[bytes] | None:
    better = _elements(entry[b"path.utf-8"]) if b"path.utf-8" in entry else None
    return better or _elements(entry.get(b"path"))


def _elements(value: object) -> list[bytes] | None:
    if isinstance(value, list) and value and set(map(type, value)) == {bytes}:
        return value
    return None


def _damaged(number: int, why: str) -> InputError:
    return fields.damaged(f"file {number} {why}", file=number)
