"""The `file tree` of an info dict (BEP 52): its files in order, and whether a hybrid's v1 half names the same ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from btfast.errors import InputError
from btfast.metainfo import fields
from btfast.metainfo.files import ListedFile, list_symlink
from btfast.metainfo.merkle import HASH
from btfast.metainfo.paths import printable

_NO_ROOT = bytes(HASH)


class TreeFile(NamedTuple):
    """A file as the tree has it. `root` is None where there are no bytes."""

    path: list[bytes]
    length: int
    attr: str
    root: bytes | None
    symlink: list[bytes] | None
    mtime: int | None = None

    def listed(self) -> ListedFile:
        """What files.place_files takes."""
        return ListedFile(self.path, self.length, self.attr, self.symlink, self.root, None, self.mtime)


def read_tree(tree: object) -> list[TreeFile]:
    """The files of a `file tree`, in its order, which is that of the pieces. Raises InputError.

    Its dicts hold their keys in ascending order: the caller has decoded them strictly. How deep they may be nested is
    bounded by the decoder.
    """
    if not isinstance(tree, dict):
        raise fields.damaged("its file tree is missing or not a dict")
    if b"" in tree:
        raise fields.damaged("its file tree has a file without a name")
    found: list[TreeFile] = []
    path: list[bytes] = []
    open_directories: list[Iterator[tuple[bytes, Any]]] = [iter(tree.items())]
    while open_directories:
        entry = next(open_directories[-1], None)
        if entry is None:
            open_directories.pop()
            if path:
                path.pop()
            continue
        name, node = entry
        if not isinstance(node, dict):
            raise fields.damaged(f"its file tree has {printable([*path, name])!r}, which is neither file nor directory")
        if b"" not in node:
            path.append(name)
            open_directories.append(iter(node.items()))
        elif len(node) > 1:
            raise fields.damaged(f"its file tree has {printable([*path, name])!r} as a file and as a directory")
        else:
            found.append(_file([*path, name], node[b""]))
    if not found:
        raise fields.damaged("its file tree is empty")
    return found


def _file(path: list[bytes], entry: object) -> TreeFile:
    if not isinstance(entry, dict):
        raise _damaged(path, "is not a dict")
    attr = fields.attr_of(entry) if b"attr" in entry else ""
    if "p" in attr:
        raise _damaged(path, "is a pad file, which a file tree cannot have")
    if "l" in attr and b"symlink path" in entry:
        return TreeFile(path, 0, attr, None, list_symlink(entry, printable(path)))
    length = entry.get(b"length")
    if not isinstance(length, int) or not 0 <= length <= fields.MAX_LENGTH:
        raise _damaged(path, "has no usable length")
    if not length:
        return TreeFile(path, 0, attr, None, None, fields.mtime_of(entry))
    root = entry.get(b"pieces root")
    if not isinstance(root, bytes) or len(root) != HASH or root == _NO_ROOT:
        raise _damaged(path, "has no pieces root")
    return TreeFile(path, length, attr, root, None, fields.mtime_of(entry))


def _damaged(path: list[bytes], why: str) -> InputError:
    name = printable(path)
    return fields.damaged(f"file {name!r} {why}", file=name)


def is_single(files: Sequence[TreeFile], names: Sequence[object]) -> bool:
    """Whether the torrent is that one file, and not a directory of files: it has the torrent's own name, at the top."""
    return len(files) == 1 and len(files[0].path) == 1 and files[0].path[0] in names


def difference(listed: Sequence[ListedFile], tree: Sequence[TreeFile], piece_length: int, v1_pieces: int) -> str | None:
    """How a hybrid's list of files differs from its tree, for a person to read; None when they say the same.

    The same files in the same order is not enough: each must begin with a piece, or a piece would hold different bytes
    in either half.
    """
    number = offset = pieces = 0
    for file in listed:
        if file.path is not None:
            if number == len(tree):
                return f"the v1 half has more than the {len(tree)} files of the v2 half"
            other = tree[number]
            number += 1
            if other.path not in (file.path, file.plain_path):
                return f"{printable(file.path)!r} in the v1 half is {printable(other.path)!r} in the v2 half"
            if file.symlink != other.symlink:
                return f"{printable(other.path)!r} is another link in the v1 half than in the v2 half"
            if file.length != other.length:
                lengths = f"{file.length} bytes in the v1 half and {other.length} in the v2 half"
                return f"{printable(other.path)!r} has {lengths}"
            if file.length and offset != pieces * piece_length:
                return f"{printable(other.path)!r} does not begin with a piece in the v1 half"
            pieces += -(-other.length // piece_length)
        offset += file.length
    if number != len(tree):
        return f"the v1 half has {number} files and the v2 half {len(tree)}"
    if v1_pieces != pieces:
        return f"the v1 half has {v1_pieces} pieces and the v2 half {pieces}"
    return None
