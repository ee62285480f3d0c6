"""`get --metadata-only`: a torrent's own file, NAME.torrent, in the output directory."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os

from btfast._bencode import BencodeError, info_span
from btfast.errors import StorageError
from btfast.metainfo.paths import ELEMENT_BYTES, safe_name
from btfast.metainfo.torrent import MAX_TORRENT_BYTES, Torrent
from btfast.storage.finish import make_directory

_SUFFIX = ".torrent"


async def save_torrent(directory: str, torrent: Torrent) -> str:
    """Writes the .torrent under a name that nothing else has, or finds it there; returns the name.

    When this returns, it is on disk. Raises StorageError.
    """
    try:
        return await asyncio.to_thread(_save, directory, torrent)
    except OSError as error:
        raise StorageError(
            f"{directory}: {error.strerror or error}: choose another directory with -o",
            errno=error.errno, path=directory,
        ) from None  # fmt: skip


def _save(directory: str, torrent: Torrent) -> str:
    make_directory(directory)
    digits = torrent.info_hash.hex()
    draft = os.path.join(directory, f"{digits}{_SUFFIX}.part")
    written = False
    try:
        for tail in (_SUFFIX, f".{digits[:12]}{_SUFFIX}", f".{digits}{_SUFFIX}"):
            stem = safe_name(torrent.name.encode(), digits, limit=ELEMENT_BYTES - len(tail))
            path = os.path.join(directory, stem + tail)
            if _holds(path, torrent.info_hash):
                return stem + tail
            if os.path.lexists(path):
                continue  # another torrent, or another file, has this name
            if not written:
                _write(draft, torrent.raw)
                written = True
            try:
                os.link(draft, path)  # never in the place of another that came meanwhile
            except FileExistsError:
                continue
            except OSError:
                os.rename(draft, path)  # a file system without links
            return stem + tail
        raise FileExistsError(17, "every name for it is taken")
    finally:
        with contextlib.suppress(OSError):
            os.unlink(draft)


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fdatasync(file.fileno())


def _holds(path: str, info_hash: bytes) -> bool:
    """Whether there is a .torrent with this info-hash."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_TORRENT_BYTES + 1)
        start, end = info_span(data)
    except (OSError, BencodeError):
        return False
    return hashlib.sha1(data[start:end]).digest() == info_hash
