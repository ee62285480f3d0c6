"""A .torrent file as a value (BEP 3, 12, 17, 19, 27, 47): checked, names made safe, info-hash over the raw bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, Self

import msgspec

from btfast._bencode import BencodeError, decode_with_info, encode
from btfast.errors import InputError, SourceNotFoundError
from btfast.metainfo import fields
from btfast.metainfo.files import File, read_files
from btfast.metainfo.geometry import MAX_TOTAL_LENGTH, Geometry
from btfast.metainfo.magnet import Magnet
from btfast.metainfo.paths import ELEMENT_BYTES, FILE_BYTES, printable, safe_name

MAX_TORRENT_BYTES = 256 << 20
MAX_TOKENS = 5_000_000  # half a million files
MAX_PIECE_LENGTH = 32767 * 16384  # what other clients take at most
HASH_BYTES = 20


class Torrent(msgspec.Struct, frozen=True, kw_only=True, eq=False, weakref=True):
    """What a v1 .torrent, or the v1 half of a hybrid, says. Unknown keys and those of v2 stay in `raw`."""

    info_hash: bytes  # 20 bytes: SHA-1 of info_raw
    name: str  # safe as one path element
    files: tuple[File, ...]  # in the order of the payload stream, pad files and symlinks included
    piece_length: int  # bytes, 1..MAX_PIECE_LENGTH
    pieces: bytes  # 20 bytes a piece
    geometry: Geometry
    private: bool
    single_file: bool
    announce_list: tuple[tuple[str, ...], ...]  # tiers; from `announce` where there is no list
    url_list: tuple[str, ...]  # web seeds, BEP 19
    httpseeds: tuple[str, ...]  # web seeds, BEP 17
    nodes: tuple[tuple[str, int], ...]  # DHT nodes: host (possibly a name) and port
    comment: str | None
    created_by: str | None
    creation_date: int | None  # seconds since 1970
    source: str | None
    hybrid: bool
    renamed: tuple[tuple[str, str], ...]  # (in the torrent, as used): the name, and paths below it, that had to change
    raw: bytes
    info_start: int
    info_end: int

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The .torrent at `path`. Raises SourceNotFoundError where there is none, else InputError."""
        what = os.fspath(path)
        try:
            with open(path, "rb") as file:
                data = file.read(MAX_TORRENT_BYTES + 1)
        except FileNotFoundError:
            raise SourceNotFoundError(f"{what}: no such file: check the path", path=what) from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise InputError(f"{what}: cannot be read: {reason}: give a readable .torrent file", path=what) from None
        return cls.parse(data, what=what)

    @classmethod
    def parse(cls, data: bytes, *, what: str = "torrent") -> Self:
        """The bytes of a .torrent; `what` names it in messages. Raises InputError."""
        if len(data) > MAX_TORRENT_BYTES:
            raise _refused(what, f"larger than {MAX_TORRENT_BYTES >> 20} MiB")
        data = bytes(data)
        try:
            top, start, end = decode_with_info(data, max_tokens=MAX_TOKENS)
        except BencodeError as error:
            if data[:1] != b"d":
                raise _refused(what, "not a .torrent file", "give a .torrent file or a magnet link") from None
            raise _refused(what, f"damaged: {error}") from None
        if not isinstance(top, dict):
            raise _refused(what, "not a .torrent file", "give a .torrent file or a magnet link")
        info = top.get(b"info")
        if not isinstance(info, dict):
            raise _refused(what, "has no info dict")
        try:
            values = _info_fields(info, data[start:end]) | _top_fields(top, info)
        except InputError as error:
            raise InputError(f"{what}: {error}", **error.facts) from None
        return cls(raw=data, info_start=start, info_end=end, **values)

    @classmethod
    def from_metadata(
        cls, info: bytes, *, trackers: Sequence[str] = (), web_seeds: Sequence[str] = (), what: str = "torrent"
    ) -> Self:
        """A torrent of the info dict `info` as peers send it (BEP 9), each tracker in a tier of its own. Raises InputError.

        The info-hash is to be compared: bytes around the dictionary may make it another one.
        """
        parts = [b"d"]
        if trackers:
            parts += [b"8:announce", encode(trackers[0])]
        if len(trackers) > 1:
            parts += [b"13:announce-list", encode([[url] for url in trackers])]
        parts += [b"4:info", info]
        if web_seeds:
            parts += [b"8:url-list", encode(list(web_seeds))]
        return cls.parse(b"".join((*parts, b"e")), what=what)

    @property
    def info_raw(self) -> bytes:
        """The bytes of the info dict as the file has them: what the info-hash is of, and what BEP 9 hands out."""
        return self.raw[self.info_start : self.info_end]

    @property
    def total_length(self) -> int:
        """Bytes of all files, pad files included."""
        return self.geometry.total_length

    @property
    def piece_count(self) -> int:
        """How many pieces there are; at least 1."""
        return self.geometry.piece_count

    def piece_hash(self, index: int) -> bytes:
        """The 20-byte SHA-1 of piece `index`. Raises IndexError."""
        if not 0 <= index < self.geometry.piece_count:
            raise IndexError(f"piece {index} of {self.geometry.piece_count}")
        return self.pieces[index * HASH_BYTES : (index + 1) * HASH_BYTES]

    def file_path(self, index: int) -> PurePosixPath:
        """Where file number `index` goes, relative to the output directory. Raises IndexError."""
        if not 0 <= index < len(self.files):
            raise IndexError(f"file {index} of {len(self.files)}")
        if self.single_file:
            return PurePosixPath(self.name)
        return PurePosixPath(self.name, *self.files[index].path)

    def magnet(self) -> Magnet:
        """The magnet link of this torrent, with its trackers and web seeds (BEP 9)."""
        return Magnet(
            info_hash=self.info_hash,
            info_hash_v2=hashlib.sha256(self.info_raw).digest() if self.hybrid else None,
            name=self.name,
            trackers=tuple(dict.fromkeys(url for tier in self.announce_list for url in tier)),
            web_seeds=self.url_list,
        )


def _info_fields(info: dict[bytes, Any], info_raw: bytes) -> dict[str, Any]:
    pieces = info.get(b"pieces")
    meta_version = info.get(b"meta version")
    if pieces is None and (meta_version is not None or b"file tree" in info):
        raise InputError("a v2-only torrent, which is not supported yet: use a v1 or hybrid torrent of the same data")
    raw_name = fields.preferred(info, b"name", bytes)
    if not raw_name or not raw_name.strip(b"\0"):
        raise fields.damaged("has no name")
    info_hash = hashlib.sha1(info_raw).digest()
    single_file = b"files" not in info
    name = safe_name(raw_name, info_hash.hex(), limit=FILE_BYTES if single_file else ELEMENT_BYTES)
    renamed = [] if name.encode() == raw_name else [(printable([raw_name]), name)]

    piece_length = info.get(b"piece length")
    if not isinstance(piece_length, int) or not 0 < piece_length <= MAX_PIECE_LENGTH:
        raise fields.damaged(f"piece length is missing or not 1 to {MAX_PIECE_LENGTH}")
    if single_file:
        files: tuple[File, ...] = (File(path=(name,), length=fields.length_of(info), attr=fields.attr_of(info)),)
    else:
        files, changes = read_files(info[b"files"])
        renamed += changes
    total = sum(file.length for file in files)
    if not 0 < total <= MAX_TOTAL_LENGTH:
        raise fields.damaged(f"its files have {total} bytes in all, which is not 1 to 2**63 - 1")
    if not isinstance(pieces, bytes) or len(pieces) % HASH_BYTES:
        raise fields.damaged("its piece hashes are missing or not whole")
    needed = -(-total // piece_length)
    if len(pieces) != needed * HASH_BYTES:
        raise fields.damaged(f"has {len(pieces) // HASH_BYTES} piece hashes where {needed} are needed")
    return {
        "info_hash": info_hash,
        "name": name,
        "files": files,
        "piece_length": piece_length,
        "pieces": pieces,
        "geometry": Geometry(piece_length, [file.length for file in files]),
        "private": info.get(b"private") == 1,
        "single_file": single_file,
        "source": fields.text(info.get(b"source")),
        "hybrid": meta_version == 2 and isinstance(info.get(b"file tree"), dict),
        "renamed": tuple(renamed),
    }


def _top_fields(top: dict[bytes, Any], info: dict[bytes, Any]) -> dict[str, Any]:
    several = isinstance(info.get(b"files"), list) and len(info[b"files"]) > 1
    date = top.get(b"creation date")
    return {
        "announce_list": fields.tiers(top),
        "url_list": fields.web_seeds(top.get(b"url-list"), base=several),
        "httpseeds": fields.web_seeds(top.get(b"httpseeds"), base=False),
        "nodes": fields.nodes(top.get(b"nodes")),
        "comment": fields.text(fields.preferred(top, b"comment", bytes)),
        "created_by": fields.text(top.get(b"created by")),
        "creation_date": date if isinstance(date, int) and 0 <= date < 1 << 63 else None,
    }


def _refused(what: str, why: str, remedy: str = "get the file anew from where it came from") -> InputError:
    return InputError(f"{what}: {why}: {remedy}")
