"""Making a .torrent of files on disk (BEP 3, 12, 17, 19, 27, 38, 39, 47, 52): listed, hashed by all cores, encoded.

The same files and options give the same bytes: files are in the order of BEP 52, and no date is written unless given.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from btfast import __version__
from btfast._bencode import encode
from btfast._plan import Plan
from btfast.errors import InputError, StorageError
from btfast.metainfo import fields, merkle
from btfast.metainfo.addresses import parse_host_port
from btfast.metainfo.listing import Listed, Listing, list_files
from btfast.sweep import sweep_pieces

MIN_PIECE_LENGTH = 16384
MAX_PIECE_LENGTH = 1 << 28  # the largest power of two that other clients take
AUTOMATIC_MAX = 16 << 20
AUTOMATIC_PIECES = 2000  # about as many at most
TRACKER_SCHEMES = ("http://", "https://", "udp://", "ws://", "wss://")
WEB_SCHEMES = ("http://", "https://", "ftp://")

Version = Literal["1", "2", "hybrid"]


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """All that decides what is in a .torrent besides the files. The names are those of the BEPs' keys."""

    version: Version = "1"
    piece_length: int = 0  # a power of two; 0: by the size of the data
    name: str = ""  # empty: that of the file or folder
    announce_list: tuple[tuple[str, ...], ...] = ()  # tiers
    url_list: tuple[str, ...] = ()  # web seeds (BEP 19)
    httpseeds: tuple[str, ...] = ()  # web seeds (BEP 17)
    nodes: tuple[str, ...] = ()  # HOST:PORT
    private: bool = False
    source: str = ""
    comment: str = ""
    similar: tuple[bytes, ...] = ()  # info-hashes of 20 bytes (BEP 38)
    collections: tuple[str, ...] = ()
    update_url: str = ""  # BEP 39
    created_by: str = f"btfast {__version__}"
    creation_date: int | None = None  # seconds since 1970
    mtime: bool = False  # each file's time goes in, and makes the info-hash another one
    attributes: bool = True  # executable and hidden (BEP 47)
    dot_hidden: bool = False  # names that begin with a dot are hidden
    align: bool = False  # pad files in a v1 torrent too, so that every file begins with a piece (BEP 47)
    exclude: tuple[str, ...] = ()
    follow_links: bool = False


def automatic_piece_length(total: int) -> int:
    """A power of two of 16 KiB to 16 MiB, so that there are about 1000 to 2000 pieces where that can be."""
    length = MIN_PIECE_LENGTH
    while length < AUTOMATIC_MAX and total > length * AUTOMATIC_PIECES:
        length *= 2
    return length


def create_torrent(
    path: str, recipe: Recipe, *, threads: int = 0, progress: Callable[[int, int], object] = lambda done, total: None
) -> bytes:
    """The .torrent of the file or folder at `path`. `progress`: bytes done, bytes in all, in the calling thread.

    Raises InputError for what cannot be made into a torrent, SourceNotFoundError, StorageError.
    """
    top = _top_fields(recipe)
    listing = list_files(
        path, exclude=recipe.exclude, follow_links=recipe.follow_links, dot_hidden=recipe.dot_hidden
    )
    total = sum(file.length for file in listing.files)
    if total == 0:
        raise InputError(f"{path}: has no bytes in all: there is nothing to hash")
    v1, v2 = recipe.version != "2", recipe.version != "1"
    piece_length = recipe.piece_length or automatic_piece_length(total)
    stream = list(_stream(listing, piece_length, v2=v2, align=v2 or recipe.align, tail=v1))
    plan = _hash(path, listing, stream, piece_length, (v1, v2), recipe.follow_links, threads, progress)
    info = _info_fields(recipe, listing, piece_length)
    if v1:
        info["pieces"] = plan.sha1
        if listing.single:
            info["length"] = total
            info |= _attributes(listing.files[0], recipe)
        else:
            info["files"] = [_v1_file(file, recipe) if isinstance(file, Listed) else _pad(file) for file in stream]
    if v2:
        roots, layers = _trees(plan, stream)
        info["meta version"] = 2
        info["file tree"] = _file_tree(listing, roots, recipe, info["name"])
        top["piece layers"] = layers
    return encode({**top, "info": info}, max_depth=128)


class _Pad(NamedTuple):
    """Zeros up to the next piece."""

    length: int


def _stream(
    listing: Listing, piece_length: int, *, v2: bool, align: bool, tail: bool
) -> Iterator[Listed | _Pad]:
    """The files, and where they are aligned what fills their last pieces; the last of all only with `tail`, in v2."""
    last = max((number for number, file in enumerate(listing.files) if file.length), default=0)
    for number, file in enumerate(listing.files):
        yield file
        rest = -file.length % piece_length
        if align and rest and not listing.single and (number < last or (number == last and v2 and tail)):
            yield _Pad(rest)


def _hash(
    path: str,
    listing: Listing,
    stream: Sequence[Listed | _Pad],
    piece_length: int,
    kinds: tuple[bool, bool],
    follow_links: bool,
    threads: int,
    progress: Callable[[int, int], object],
) -> Plan:
    """Reads all of it; the plan holds the digests. Raises StorageError when something changes meanwhile."""
    # Links that are followed lead anywhere: then all is read by its real path, else nothing is read by way of a link.
    base = "/" if follow_links or listing.single else os.path.abspath(path)
    lengths = [file.length for file in stream]
    try:
        root = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            paths = [_path_below(base, file) if isinstance(file, Listed) else None for file in stream]
            plan = Plan(root, piece_length, paths, lengths, lengths, sha1=kinds[0], sha256=kinds[1], keep=True)
        finally:
            os.close(root)
    except OSError as error:
        raise StorageError(f"{base}: cannot be read: {error.strerror}: check its permissions") from error
    total = plan.total_length

    def show(pieces: int) -> None:
        progress(min(pieces * piece_length, total), total)

    swept = sweep_pieces(plan, [range(plan.piece_count)], threads, show)
    for number, error_number, _ in swept.problems:
        file = stream[number]
        where = file.where if isinstance(file, Listed) else path
        if error_number == 0:
            raise _changed(where)
        raise StorageError(f"{where}: cannot be read: {os.strerror(error_number)}: check it", errno=error_number)
    for listed in listing.files:
        try:
            status = os.stat(listed.where, follow_symlinks=listed.link is None)
        except OSError:
            raise _changed(listed.where) from None
        if status.st_mtime_ns != listed.mtime_ns or (listed.link is None and status.st_size != listed.length):
            raise _changed(listed.where)
    return plan


def _path_below(base: str, file: Listed) -> bytes:
    where = os.path.realpath(file.where) if base == "/" else file.where
    return os.fsencode(os.path.relpath(where, base))


def _changed(where: str) -> StorageError:
    return StorageError(f"{where}: changed while it was hashed: run it again when nobody writes to it")


def _info_fields(recipe: Recipe, listing: Listing, piece_length: int) -> dict[str, Any]:
    info: dict[str, Any] = {"name": recipe.name.encode() or listing.name, "piece length": piece_length}
    if recipe.private:
        info["private"] = 1
    if recipe.source:
        info["source"] = recipe.source
    if recipe.similar:
        info["similar"] = list(recipe.similar)
    if recipe.collections:
        info["collections"] = list(recipe.collections)
    if recipe.update_url:
        info["update-url"] = recipe.update_url
    return info


def _attributes(file: Listed, recipe: Recipe) -> dict[str, Any]:
    """`attr`, `mtime` and where a link leads to."""
    found: dict[str, Any] = {}
    attr = "l" if file.link is not None else ""
    if recipe.attributes:
        attr += "x" * file.executable + "h" * file.hidden
    if attr:
        found["attr"] = attr
    if file.link is not None:
        found["symlink path"] = list(file.link)
    if recipe.mtime and file.mtime_ns >= 0:  # no reader takes a time before 1970
        found["mtime"] = file.mtime_ns // 10**9
    return found


def _v1_file(file: Listed, recipe: Recipe) -> dict[str, Any]:
    return {"length": file.length, "path": list(file.path), **_attributes(file, recipe)}


def _pad(pad: _Pad) -> dict[str, Any]:
    return {"attr": "p", "length": pad.length, "path": [".pad", str(pad.length)]}


def _trees(plan: Plan, stream: Sequence[Listed | _Pad]) -> tuple[dict[tuple[bytes, ...], bytes], dict[bytes, bytes]]:
    """The root of each file that has bytes, and the piece layers by root (BEP 52)."""
    roots: dict[tuple[bytes, ...], bytes] = {}
    layers: dict[bytes, bytes] = {}
    hashes = plan.sha256 or b""
    level = merkle.piece_level(plan.piece_length)
    piece = 0
    for file in stream:
        if not isinstance(file, Listed) or not file.length:
            continue
        count = -(-file.length // plan.piece_length)
        layer = hashes[piece * merkle.HASH : (piece + count) * merkle.HASH]
        piece += count
        if count == 1:
            roots[file.path] = layer
        else:
            root = roots[file.path] = merkle.root_of(layer, level, file.length)
            layers[root] = layer
    return roots, layers


def _file_tree(
    listing: Listing, roots: dict[tuple[bytes, ...], bytes], recipe: Recipe, name: bytes
) -> dict[bytes, Any]:
    tree: dict[bytes, Any] = {}
    for file in listing.files:
        node = tree
        path = (name,) if listing.single else file.path
        for element in path:
            node = node.setdefault(element, {})
        entry = _attributes(file, recipe)
        if file.link is None:
            entry["length"] = file.length
        if file.length:
            entry["pieces root"] = roots[file.path]
        node[b""] = entry
    return tree


def _top_fields(recipe: Recipe) -> dict[str, Any]:
    """What stands beside the info dict. Raises InputError for what no client could use."""
    _check_recipe(recipe)
    top: dict[str, Any] = {"created by": recipe.created_by} if recipe.created_by else {}
    tiers = [list(_urls(tier, "tracker", TRACKER_SCHEMES)) for tier in recipe.announce_list if tier]
    if tiers:
        top["announce"] = tiers[0][0]
    if sum(map(len, tiers)) > 1:
        top["announce-list"] = tiers
    if recipe.url_list:
        top["url-list"] = list(_urls(recipe.url_list, "web seed", WEB_SCHEMES))
    if recipe.httpseeds:
        top["httpseeds"] = list(_urls(recipe.httpseeds, "http seed", WEB_SCHEMES))
    if recipe.nodes:
        top["nodes"] = [list(parse_host_port(node)) for node in recipe.nodes]
    if recipe.comment:
        top["comment"] = recipe.comment
    if recipe.creation_date is not None:
        top["creation date"] = recipe.creation_date
    return top


def _check_recipe(recipe: Recipe) -> None:
    if recipe.version not in ("1", "2", "hybrid"):
        raise InputError(f"version {recipe.version!r}: no such version: use 1, 2 or hybrid")
    length = recipe.piece_length
    if length and (not MIN_PIECE_LENGTH <= length <= MAX_PIECE_LENGTH or length & (length - 1)):
        raise InputError(f"piece size {length}: not a power of two from 16 KiB to 256 MiB: give one, or none")
    if recipe.name and (recipe.name in (".", "..") or "/" in recipe.name or "\0" in recipe.name):
        raise InputError(f"name {recipe.name!r}: no file can be called so: give another")
    for what, text in (
        ("name", recipe.name), ("comment", recipe.comment), ("source", recipe.source),
        *(("collection", collection) for collection in recipe.collections),
    ):  # fmt: skip
        if not fields.is_utf8(text):
            raise InputError(f"{what} {text[:80]!r}: not UTF-8: write it in other letters")
    for info_hash in recipe.similar:
        if len(info_hash) != 20:
            raise InputError(f"similar {info_hash.hex()}: not an info-hash of 20 bytes: check it")
    if recipe.creation_date is not None and not 0 <= recipe.creation_date < 1 << 63:
        raise InputError(f"creation date {recipe.creation_date}: not seconds since 1970: check it")
    if recipe.update_url:
        list(_urls((recipe.update_url,), "update URL", WEB_SCHEMES))


def _urls(urls: Iterable[str], what: str, schemes: tuple[str, ...]) -> Iterator[str]:
    for url in urls:
        cleaned = fields.url(url.encode("utf-8", "surrogateescape"))
        if cleaned is None or not cleaned.lower().startswith(schemes) or not cleaned.partition("://")[2].strip("/"):
            raise InputError(f"{what} {url[:200]!r}: not a URL of {', '.join(schemes)}: correct it")
        yield cleaned
