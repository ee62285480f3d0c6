"""What an http(s) URL, or a file that is no .torrent, stands for: a .torrent, a Metalink, or an ordinary file with a
.torrent beside it. The last two bring mirrors along, which become web seeds.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import Protocol
from urllib.parse import unquote

import msgspec

from btfast.engine.control import Add
from btfast.errors import Error, InputError, SourceNotFoundError
from btfast.metainfo.reach import Reach, Way
from btfast.metainfo.torrent import Torrent

ASKED_FOR_SIZE = 10  # mirrors
_LOOKS = 64  # bytes that tell what a file is

# (url, whether it may be any file, which None stands for, who led there)
Fetch = Callable[[str, bool, Way], Awaitable[bytes | None]]


class Files(Protocol):
    """Who fetches files over HTTP."""

    async def fetch(
        self, url: str, *, enough: Callable[[bytes], bool] | None = None, way: Way | None = None
    ) -> bytes: ...

    async def length_of(self, url: str, *, way: Way | None = None) -> int | None: ...


async def torrent_of(add: Add, files: Files) -> tuple[Add, Torrent]:
    """The torrent behind an item, and the item with the web seeds that were found with it. Raises btfast.Error."""

    async def fetch(url: str, any_file: bool, way: Way) -> bytes | None:
        other = False

        def enough(beginning: bytes) -> bool:
            nonlocal other
            other = is_other(beginning)
            return other

        data = await files.fetch(url, enough=enough if any_file else None, way=way)
        return None if other else data

    data = add.data
    way = Way()
    if data is None:
        address = add.source.partition("#")[0]
        ordinary = not address.partition("?")[0].lower().endswith(".torrent")
        data = await fetch(address, ordinary, way)
        if data is None:
            return await _beside(add, fetch)
    if not add.source.lower().endswith(".torrent") and _may_be_metalink(data):
        return await _metalink(add, data, files, fetch, way.reach)
    return add, Torrent.parse(data, what=add.source)


def is_other(data: bytes) -> bool:
    """Whether a file that begins so is neither a .torrent nor XML."""
    return data[:1] != b"d" and not _may_be_metalink(data)


def _may_be_metalink(data: bytes) -> bool:
    beginning = data[:_LOOKS].removeprefix(b"\xef\xbb\xbf").lstrip()
    return beginning[:5].lower() in (b"<?xml", b"<meta") or (beginning[:9].lower() == b"<!doctype" and b"html" not in beginning)


async def _beside(add: Add, fetch: Fetch) -> tuple[Add, Torrent]:
    address, mark, query = add.source.partition("#")[0].partition("?")
    beside = f"{address}.torrent{mark}{query}"
    try:
        data = await fetch(beside, False, Way())
    except SourceNotFoundError:
        raise SourceNotFoundError(
            f"{add.source}: an ordinary file, and there is no .torrent beside it: give the URL of a .torrent or Metalink"
        ) from None
    assert data is not None
    torrent = Torrent.parse(data, what=beside)
    if not torrent.single_file:
        raise InputError(f"{beside}: a torrent of {len(torrent.files)} files, not of {add.source}: give its own URL")
    return msgspec.structs.replace(add, web_seeds=[add.source, *add.web_seeds]), torrent


async def _metalink(add: Add, data: bytes, files: Files, fetch: Fetch, reach: Reach | None) -> tuple[Add, Torrent]:
    """`reach`: of the host that the Metalink is from, which can lead us no nearer than that; None: a file of the user's."""
    from btfast.metainfo.metalink import Metalink  # few need it

    document, _, chosen = add.source.partition("#")
    found = Metalink.parse(data, what=document, chosen=unquote(chosen))
    directory = os.path.join(add.directory, *found.folder)
    add = msgspec.structs.replace(add, directory=directory, whole=list(found.hashes))
    with_mirrors = msgspec.structs.replace(add, found_seeds=list(found.urls))
    failure: Error | None = None
    for url in found.torrents[:3]:
        try:
            body = await fetch(url, False, Way(reach))
            assert body is not None
            torrent = Torrent.parse(body, what=url)
        except Error as error:
            failure = error
            continue
        return with_mirrors if torrent.single_file else msgspec.structs.replace(add, whole=[]), torrent
    if not (add.web_seeds or found.urls):
        raise failure or InputError(f"{add.source}: names no http or https URL: get another Metalink")
    if not found.sized and found.hashes:
        size = await _size(files, [*add.web_seeds, *found.urls], reach)
        found = Metalink.parse(data, what=document, chosen=unquote(chosen), size=size)
    if found.torrent is None:
        raise failure or InputError(f"{add.source}: cannot be verified: {found.why}: get another Metalink")
    torrent = Torrent.parse(found.torrent, what=add.source)
    if found.proves_pieces:
        return with_mirrors, torrent
    if add.metadata_only or add.seed:
        raise InputError(f"{add.source}: has no hashes of the file's pieces: no torrent can be made of it")
    return with_mirrors, torrent.without_hashes()


async def _size(files: Files, urls: list[str], reach: Reach | None) -> int:
    """What the first mirror that says it says of the file's size; -1 where none does. The hash of the whole proves it."""
    for url in urls[:ASKED_FOR_SIZE]:
        # What a Metalink has a local server asked must not do anything there.
        way = Way(Reach.PUBLIC if "?" in url else reach)
        with contextlib.suppress(Error):
            size = await files.length_of(url, way=way)
            if size is not None:
                return size
    return -1
