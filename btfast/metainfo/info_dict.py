"""The info dict of a .torrent: v1 (BEP 3, 47), v2 or both at once (BEP 52), checked field by field."""

from __future__ import annotations

import hashlib
from typing import Any

from btfast._bencode import encode
from btfast.errors import InputError
from btfast.metainfo import fields, file_tree
from btfast.metainfo.files import ListedFile, list_files, place_files
from btfast.metainfo.geometry import MAX_TOTAL_LENGTH, Geometry
from btfast.metainfo.merkle import LEAF
from btfast.metainfo.paths import ELEMENT_BYTES, FILE_BYTES, printable, safe_name

MAX_PIECE_LENGTH = 32767 * 16384  # what other clients take at most
MAX_PIECES = 1 << 24  # as many as a .torrent of the greatest size can have hashes for
HASH_BYTES = 20
V2 = 2  # the `meta version` of BEP 52


def read_info(info: dict[bytes, Any], info_raw: bytes) -> dict[str, Any]:
    """The values of Torrent that an info dict says, by their names. Raises InputError."""
    raw_name = fields.preferred(info, b"name", bytes)
    if not raw_name or not raw_name.strip(b"\0"):
        raise fields.damaged("has no name")
    tree = _tree(info, info_raw)
    v1 = tree is None or b"pieces" in info
    single = (
        b"files" not in info if v1 else tree is not None and file_tree.is_single(tree, (raw_name, info.get(b"name")))
    )
    info_hash_v1 = hashlib.sha1(info_raw).digest() if v1 else None
    info_hash_v2 = hashlib.sha256(info_raw).digest() if tree is not None else None
    fallback = info_hash_v1 or info_hash_v2
    assert fallback is not None
    name = safe_name(raw_name, fallback.hex(), limit=FILE_BYTES if single else ELEMENT_BYTES)
    renamed = [] if name.encode() == raw_name else [(printable([raw_name]), name)]
    piece_length = _piece_length(info, v2=tree is not None)

    if not v1:
        assert tree is not None
        listed = [file.listed() for file in tree]
    elif single:
        plain = info.get(b"name")
        listed = [
            ListedFile(
                [raw_name],
                fields.length_of(info),
                fields.attr_of(info),
                plain_path=[plain] if isinstance(plain, bytes) else None,
                mtime=fields.mtime_of(info),
            )
        ]
    else:
        listed = list_files(info[b"files"])
    pieces = b""
    if v1:
        pieces = _pieces(info, sum(file.length for file in listed), piece_length)
    if v1 and tree is not None:
        other = file_tree.difference(listed, tree, piece_length, len(pieces) // HASH_BYTES)
        if other is not None:
            raise InputError(f"its v1 and v2 halves differ: {other}: get a .torrent that was made anew")
        listed = _with_roots(listed, tree)
    if single:
        listed = [listed[0]._replace(path=[name.encode()])]
    files, changes, folded = place_files(listed)
    geometry = _geometry(piece_length, [file.length for file in files], aligned=not v1)
    return {
        "info_hash": info_hash_v1 or fallback[:HASH_BYTES],
        "info_hash_v1": info_hash_v1,
        "info_hash_v2": info_hash_v2,
        "name": name,
        "files": files,
        "piece_length": piece_length,
        "pieces": pieces,
        "geometry": geometry,
        "private": info.get(b"private") == 1,
        "single_file": single,
        "source": fields.text(info.get(b"source")),
        "renamed": tuple(renamed if single else renamed + changes),
        "folded": folded,
    }


def _tree(info: dict[bytes, Any], info_raw: bytes) -> list[file_tree.TreeFile] | None:
    """The files of the v2 half; None where there is none."""
    version = info.get(b"meta version", 1)
    if not isinstance(version, int) or not 1 <= version <= V2:
        raise InputError(
            f"its meta version is {version!r}: only 1 and 2 are known: use a newer btfast, or another torrent"
        )
    if version != V2:
        if b"pieces" not in info and b"file tree" in info:
            raise fields.damaged("has a file tree but no meta version")
        return None
    # What is tolerated in v1, keys in any order or twice, would make others hash another info dict or order files otherwise.
    if encode(info) != info_raw:
        raise fields.damaged("the keys of its v2 info dict are not in ascending order, or one comes twice")
    return file_tree.read_tree(info.get(b"file tree"))


def _piece_length(info: dict[bytes, Any], *, v2: bool) -> int:
    piece_length = info.get(b"piece length")
    if not isinstance(piece_length, int) or not 0 < piece_length <= MAX_PIECE_LENGTH:
        raise fields.damaged(f"piece length is missing or not 1 to {MAX_PIECE_LENGTH}")
    if v2 and (piece_length < LEAF or piece_length & (piece_length - 1)):
        raise fields.damaged(f"piece length {piece_length} is no power of two from {LEAF} on, as v2 demands")
    return piece_length


def _pieces(info: dict[bytes, Any], total: int, piece_length: int) -> bytes:
    if not 0 < total <= MAX_TOTAL_LENGTH:
        raise fields.damaged(f"its files have {total} bytes in all, which is not 1 to 2**63 - 1")
    pieces = info.get(b"pieces")
    if not isinstance(pieces, bytes) or len(pieces) % HASH_BYTES:
        raise fields.damaged("its piece hashes are missing or not whole")
    needed = -(-total // piece_length)
    if len(pieces) != needed * HASH_BYTES:
        raise fields.damaged(f"has {len(pieces) // HASH_BYTES} piece hashes where {needed} are needed")
    return pieces


def _geometry(piece_length: int, lengths: list[int], *, aligned: bool) -> Geometry:
    total = sum(lengths)
    if not 0 < total <= MAX_TOTAL_LENGTH:
        raise fields.damaged(f"its files have {total} bytes in all, which is not 1 to 2**63 - 1")
    # A v1 torrent has brought a hash for each piece; a v2 one may claim any number of them.
    if sum(-(-length // piece_length) for length in lengths) > MAX_PIECES and aligned:
        raise fields.damaged(f"its files have more than {MAX_PIECES} pieces")
    return Geometry(piece_length, lengths, aligned=aligned)


def _with_roots(listed: list[ListedFile], tree: list[file_tree.TreeFile]) -> list[ListedFile]:
    files = iter(tree)
    return [file if file.path is None else file._replace(pieces_root=next(files).root) for file in listed]
