"""A .torrent file as a value (BEP 3, 12, 17, 19, 27, 47, 52): checked, names made safe, info-hashes over the raw bytes."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, Self

import msgspec

from btfast._bencode import BencodeError, decode_with_info, encode
from btfast.errors import InputError, SourceNotFoundError
from btfast.metainfo import fields
from btfast.metainfo.files import File
from btfast.metainfo.geometry import Geometry
from btfast.metainfo.info_dict import HASH_BYTES, read_info
from btfast.metainfo.magnet import Magnet
from btfast.metainfo.piece_hashes import NoHashes, PieceHashes

if TYPE_CHECKING:
    from btfast.progress import ProgressLike

MAX_TORRENT_BYTES = 256 << 20
MANY_FILES_BYTES = 1 << 20
MAX_TOKENS = 5_000_000  # half a million files


class Torrent(msgspec.Struct, frozen=True, kw_only=True, eq=False, weakref=True):
    """What a .torrent says: v1, v2, or a hybrid, which is both. Unknown keys stay in `raw`.

    A hybrid's files and pieces are those of its v1 half, which the v2 half names too. Only what `hashes` learns changes.
    """

    info_hash: bytes  # 20 bytes: what names it to peers and trackers; of a hybrid, to those who know v1 alone
    info_hash_v1: bytes | None  # 20 bytes: SHA-1 of info_raw; None for v2 alone
    info_hash_v2: bytes | None  # 32 bytes: SHA-256 of info_raw; None for v1 alone
    name: str  # safe as one path element
    files: tuple[File, ...]  # in the order of the payload stream, pad files and symlinks included
    piece_length: int  # bytes, 1..MAX_PIECE_LENGTH
    pieces: bytes  # 20 bytes a piece; none for v2 alone
    geometry: Geometry
    hashes: PieceHashes
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
    similar: tuple[bytes, ...]  # 20 bytes each: torrents that may have files of this one (BEP 38)
    collections: tuple[bytes, ...]  # torrents with one of these names may, too
    folded: tuple[tuple[int, tuple[str, ...]], ...]  # files with other paths where case or accents do not count
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
        with _collector_rests() if len(data) > MANY_FILES_BYTES else contextlib.nullcontext():
            return cls._parse(data, what)

    @classmethod
    def _parse(cls, data: bytes, what: str) -> Self:
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
            values = read_info(info, data[start:end]) | _top_fields(top, info)
            values["hashes"] = _hashes(values, top)
        except InputError as error:
            raise InputError(f"{what}: {error}", **error.facts) from None
        return cls(raw=data, info_start=start, info_end=end, **values)

    @classmethod
    def from_metadata(
        cls, info: bytes, *, trackers: Sequence[str] = (), web_seeds: Sequence[str] = (), what: str = "torrent",
        layers: Mapping[bytes, bytes] | None = None,
    ) -> Self:  # fmt: skip
        """A torrent of the info dict `info` as peers send it (BEP 9), each tracker in a tier of its own. Raises InputError.

        `layers`: piece layers by root, where they are known already. The info-hash is to be compared: bytes around the
        dictionary may make it another one.
        """
        parts = [b"d"]
        if trackers:
            parts += [b"8:announce", encode(trackers[0])]
        if len(trackers) > 1:
            parts += [b"13:announce-list", encode([[url] for url in trackers])]
        parts += [b"4:info", info]
        if layers:
            parts += [b"12:piece layers", encode(dict(layers))]
        if web_seeds:
            parts += [b"8:url-list", encode(list(web_seeds))]
        return cls.parse(b"".join((*parts, b"e")), what=what)

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        version: Literal["1", "2", "hybrid"] = "1",
        piece_length: int = 0,
        trackers: Sequence[str | Sequence[str]] = (),
        web_seeds: Sequence[str] = (),
        progress: ProgressLike | None = None,
        workers: int = 0,
        **options: Any,
    ) -> Self:
        """A torrent of the file or folder at `path`, which all cores read and hash.

        `version`: "1", "2" or "hybrid". `piece_length`: a power of two, 0: by the size of the data. Each of `trackers` is
        a tier, or a sequence of the URLs of one. `progress`: a callable `(done, total)` in bytes, or a tqdm-style object.
        `options`: the other fields of btfast.metainfo.create.Recipe, such as private, source, comment, nodes, similar,
        collections, update_url, creation_date, exclude. Raises InputError, SourceNotFoundError, StorageError.
        """
        from btfast.metainfo.create import Recipe, create_torrent  # here: few who read a .torrent make one
        from btfast.progress import shower

        recipe = Recipe(
            version=version,
            piece_length=piece_length,
            announce_list=tuple((tier,) if isinstance(tier, str) else tuple(tier) for tier in trackers),
            url_list=tuple(web_seeds),
            **options,
        )
        what = os.fspath(path)
        return cls.parse(create_torrent(what, recipe, threads=workers, progress=shower(progress)), what=what)

    @property
    def info_raw(self) -> bytes:
        """The bytes of the info dict as the file has them: what the info-hash is of, and what BEP 9 hands out."""
        return self.raw[self.info_start : self.info_end]

    @property
    def version(self) -> str:
        """What it is: "1", "2" or "hybrid"."""
        if self.info_hash_v2 is None:
            return "1"
        return "2" if self.info_hash_v1 is None else "hybrid"

    @property
    def hybrid(self) -> bool:
        """Whether it is v1 and v2 at once."""
        return self.info_hash_v1 is not None and self.info_hash_v2 is not None

    @property
    def swarm_hashes(self) -> tuple[bytes, ...]:
        """The 20 bytes that name it in each of its swarms: of v1, and the beginning of those of v2 (BEP 52)."""
        hashes = (self.info_hash_v1, self.info_hash_v2)
        return tuple(info_hash[:HASH_BYTES] for info_hash in hashes if info_hash is not None)

    @property
    def piece_layers(self) -> Mapping[bytes, bytes]:
        """The layers that are known, by the root of their file: 32 bytes a piece, of files longer than a piece (BEP 52)."""
        return self.hashes.layers

    def without_hashes(self) -> Self:
        """The same without what it says of pieces: whoever fetches it has to prove the whole of its file."""
        return msgspec.structs.replace(self, pieces=b"", hashes=NoHashes(self.geometry, self.files, b"", {}))

    @property
    def proves_pieces(self) -> bool:
        """Whether single pieces can be verified."""
        return not isinstance(self.hashes, NoHashes)

    def complete_raw(self) -> bytes:
        """The bytes of a .torrent with all piece layers that are known: `raw`, unless some were learned since."""
        top, start, end = decode_with_info(self.raw, max_tokens=MAX_TOKENS)
        known = top.get(b"piece layers")
        if not self.piece_layers or (isinstance(known, dict) and self.piece_layers.keys() <= known.keys()):
            return self.raw
        top[b"piece layers"] = dict(self.piece_layers)
        before = encode({key: value for key, value in top.items() if key < b"info"})
        after = encode({key: value for key, value in top.items() if key > b"info"})
        return before[:-1] + b"4:info" + self.raw[start:end] + after[1:]

    @property
    def total_length(self) -> int:
        """Bytes of all files, pad files included."""
        return self.geometry.total_length

    @property
    def piece_count(self) -> int:
        """How many pieces there are; at least 1."""
        return self.geometry.piece_count

    def piece_hash(self, index: int) -> bytes:
        """What piece `index` hashes to: 20 bytes of SHA-1 and 32 of its merkle tree, whichever are known. IndexError."""
        return self.hashes.digest(index)

    def path_text(self, index: int) -> str:
        """`file_path` as text, its elements joined by `/`. Raises IndexError."""
        if self.single_file and index == 0:
            return self.name
        return "/".join((self.name, *self.files[index].path))

    def file_path(self, index: int) -> PurePosixPath:
        """Where file number `index` goes, relative to the output directory. Raises IndexError."""
        if not 0 <= index < len(self.files):
            raise IndexError(f"file {index} of {len(self.files)}")
        if self.single_file:
            return PurePosixPath(self.name)
        return PurePosixPath(self.name, *self.files[index].path)

    def where_case_is_ignored(self) -> Self:
        """The same torrent with names that differ also for a file system that takes `A` and `a` for one."""
        files = list(self.files)
        renamed = list(self.renamed)
        for number, path in self.folded:
            renamed.append(("/".join(files[number].path), "/".join(path)))
            files[number] = msgspec.structs.replace(files[number], path=path)
        return msgspec.structs.replace(self, files=tuple(files), renamed=tuple(renamed), folded=())

    def magnet(self) -> Magnet:
        """The magnet link of this torrent, with its trackers and web seeds (BEP 9)."""
        return Magnet(
            info_hash=self.info_hash,
            info_hash_v2=self.info_hash_v2,
            name=self.name,
            trackers=tuple(dict.fromkeys(url for tier in self.announce_list for url in tier)),
            web_seeds=self.url_list,
        )


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
        "similar": fields.strings(top, info, b"similar", 20),
        "collections": fields.strings(top, info, b"collections"),
        "creation_date": date if isinstance(date, int) and 0 <= date < 1 << 63 else None,
    }


@contextlib.contextmanager
def _collector_rests() -> Iterator[None]:
    """All that is made is kept, so that looking for cycles in it again and again finds none: 0.5 of 1.3 s for a hybrid of
    100,000 files."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _hashes(values: dict[str, Any], top: dict[bytes, Any]) -> PieceHashes:
    layers: object = top.get(b"piece layers", {}) if values["info_hash_v2"] is not None else {}
    if not isinstance(layers, dict) or not all(isinstance(layer, bytes) for layer in layers.values()):
        raise fields.damaged("a piece layer is no string of hashes")
    try:
        return PieceHashes(values["geometry"], values["files"], values["pieces"], layers)
    except ValueError as error:
        raise fields.damaged(f"a piece layer is wrong: {error}") from None


def _refused(what: str, why: str, remedy: str = "get the file anew from where it came from") -> InputError:
    return InputError(f"{what}: {why}: {remedy}")
