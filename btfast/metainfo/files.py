"""The files of a torrent as values with safe, unique paths, and the `files` list of a v1 info dict (BEP 3, BEP 47)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

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
    mtime: int | None = None  # seconds since 1970
    pieces_root: bytes | None = None  # 32 bytes, of a v2 or hybrid torrent's file with bytes

    @property
    def executable(self) -> bool:
        """Whether the executable bit is asked for."""
        return "x" in self.attr

    @property
    def hidden(self) -> bool:
        """Whether its maker marked it hidden; nothing follows from it here."""
        return "h" in self.attr


class ListedFile(NamedTuple):
    """A file as the info dict has it, its names raw. A pad file has no path."""

    path: list[bytes] | None
    length: int
    attr: str = ""
    symlink: list[bytes] | None = None
    pieces_root: bytes | None = None
    plain_path: list[bytes] | None = None  # `path` where `path.utf-8` was taken
    mtime: int | None = None


def list_files(entries: object) -> list[ListedFile]:
    """The files of `entries`, the decoded list of a v1 info dict. Raises InputError."""
    if not isinstance(entries, list) or not entries:
        raise fields.damaged("its list of files is empty")
    return [_listed(number, entry) for number, entry in enumerate(entries)]


class Placed(NamedTuple):
    """Files at safe places. `renamed`: paths that had to change, in the torrent and as used.

    `folded`: files and the other paths that they get where case, or the composition of accents, does not count.
    """

    files: tuple[File, ...]
    renamed: list[tuple[str, str]]
    folded: tuple[tuple[int, tuple[str, ...]], ...]


def place_files(listed: Sequence[ListedFile]) -> Placed:
    """The same files at safe places. Raises InputError."""
    memo: dict[bytes, str] = {}
    safe = [None if file.path is None else safe_path(file.path, memo) for file in listed]
    places = unique_paths(safe, fold=False)
    folded = tuple(
        (number, new) for number, (old, new) in enumerate(zip(places, unique_paths(places), strict=True))
        if new is not None and new != old
    )  # fmt: skip
    files: list[File] = []
    renamed: list[tuple[str, str]] = []
    for (raw, length, attr, symlink, root, _, mtime), path in zip(listed, places, strict=True):
        if path is None or raw is None:
            files.append(File(path=(".pad", str(length)), length=length, attr=attr, pad=True))
            continue
        target = None if symlink is None else safe_path(symlink, memo)
        files.append(File(path=path, length=length, attr=attr, symlink=target, pieces_root=root, mtime=mtime))
        if "/".join(path).encode() != b"/".join(raw):
            renamed.append((printable(raw), "/".join(path)))
    return Placed(tuple(files), renamed, folded)


def list_symlink(entry: dict[bytes, Any], name: int | str) -> list[bytes]:
    """The elements of an entry's `symlink path`. Raises InputError."""
    target = elements_of(entry[b"symlink path"])
    if target is None:
        raise _damaged(name, "is a symlink whose target is not a path")
    return target


def _listed(number: int, entry: object) -> ListedFile:
    if not isinstance(entry, dict):
        raise _damaged(number, "is not a dict")
    attr = fields.attr_of(entry) if b"attr" in entry else ""
    if "p" in attr:
        return ListedFile(None, fields.length_of(entry, number), attr)
    better = elements_of(entry[b"path.utf-8"]) if b"path.utf-8" in entry else None
    plain = elements_of(entry.get(b"path"))
    path = better or plain
    if path is None:
        raise _damaged(number, "has no path")
    if path[-1].startswith(_OLD_PAD):
        return ListedFile(None, fields.length_of(entry, number), attr)
    if "l" in attr and b"symlink path" in entry:
        return ListedFile(path, 0, attr, list_symlink(entry, number), None, plain)
    return ListedFile(path, fields.length_of(entry, number), attr, None, None, plain, fields.mtime_of(entry))


def elements_of(value: object) -> list[bytes] | None:
    """The elements of a path; None for what is none."""
    if isinstance(value, list) and value and set(map(type, value)) == {bytes}:
        return value
    return None


def _damaged(name: int | str, why: str) -> InputError:
    return fields.damaged(f"file {name!r} {why}", file=name)
