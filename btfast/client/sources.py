"""What a caller may name as a source, and how it is read.

A .torrent's path or bytes, a Torrent, an http(s) URL, a magnet URI, an info-hash.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import NamedTuple, Protocol, runtime_checkable

from btfast.errors import InputError, SourceNotFoundError, StorageError
from btfast.metainfo.addresses import parse_host_port

PeerLike = str | tuple[str, int]

TORRENT_LIMIT = 256 << 20  # bytes; the control protocol's frame holds it
_THREAD_ABOVE = 1 << 20  # a small file is read at once, a large one beside the loop
_INFO_HASH = re.compile(r"[0-9a-fA-F]{40}|(?:1220)?[0-9a-fA-F]{64}|[A-Za-z2-7]{32}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@runtime_checkable
class HasRaw(Protocol):
    """A parsed torrent, as `btfast.Torrent`."""

    @property
    def name(self) -> str: ...
    @property
    def raw(self) -> bytes: ...


class Content(NamedTuple):
    """A source that was looked at: how it is shown, and the .torrent unless the network process has to fetch it.

    `magnet`: the magnet URI where peers have to send the metadata.
    """

    label: str
    data: bytes | None
    magnet: str = ""


def is_url(source: str) -> bool:
    return source[:8].lower().startswith(("http://", "https://"))


def peer_address(peer: PeerLike) -> tuple[str, int]:
    """Host and port of a peer as callers name it. Raises InputError."""
    if isinstance(peer, str):
        return parse_host_port(peer)
    host, port = peer if isinstance(peer, tuple) and len(peer) == 2 else (None, None)
    if not isinstance(host, str) or not isinstance(port, int):
        raise InputError(f"peer {peer!r}: not understood: give 'host:port' or (host, port)")
    return parse_host_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


def web_seed_url(url: str) -> str:
    """The URL of a web seed, as it was given. InputError for what is none."""
    if not is_url(url) or not url.isprintable():
        raise InputError(f"web seed {shown(url)[:80]!r}: not an http or https URL: check it")
    return url.strip().replace(" ", "%20")


def magnet_uri(source: str) -> str:
    """The magnet URI that a source is, or that an info-hash stands for; "" for any other source. Raises InputError.

    A file that is called like an info-hash comes first.
    """
    link = source[:7].lower() == "magnet:"
    if not link and not _INFO_HASH.fullmatch(source.strip()):
        return ""
    from btfast.metainfo.magnet import Magnet

    if link:
        return Magnet.parse(source).uri()
    return "" if os.path.exists(source) else Magnet.from_info_hash(source).uri()


def metalink_of(source: str) -> str:
    """The path of the Metalink in SOURCE.meta4#NAME, which names one of its files; "" for every other text."""
    document, mark, _ = source.partition("#")
    return document if mark and is_metalink(document) and not os.path.exists(source) else ""


def is_metalink(path: str) -> bool:
    """Whether a file is called as Metalinks are."""
    return path.lower().endswith((".meta4", ".metalink"))


def each_of(source: str) -> list[str]:
    """What a source stands for: a Metalink of several files on this machine, for each of them; else itself alone."""
    if not is_metalink(source) or is_url(source):
        return [source]
    from urllib.parse import quote

    from btfast.metainfo.metalink import Metalink

    try:
        names = Metalink.names(read_torrent(source), what=shown(source))
    except (InputError, StorageError):
        return [source]  # it is told when it is read as a source
    return [f"{source}#{quote(name)}" for name in names] if len(names) > 1 else [source]


async def read_source(source: str | os.PathLike[str] | bytes | HasRaw) -> Content:
    """Raises InputError, SourceNotFoundError or StorageError, each with one line for the user."""
    if isinstance(source, bytes):
        return Content("(torrent in memory)", _within_limit("(torrent in memory)", source))
    if isinstance(source, (str, os.PathLike)):
        text = os.fspath(source)
        label = shown(text)
        if isinstance(source, str) and is_url(text):
            return Content(label, None)
        if isinstance(source, str) and (magnet := magnet_uri(text)):
            return Content(label, None, magnet)
        text = metalink_of(text) or text
        if stat_torrent(text) <= _THREAD_ABOVE:
            return Content(label, read_torrent(text))
        import asyncio  # who only looks into a torrent does without

        return Content(label, await asyncio.to_thread(read_torrent, text))
    if isinstance(source, HasRaw):
        return Content(shown(source.name), _within_limit(shown(source.name), source.raw))
    kinds = "a path, a URL, a magnet link, an info-hash, bytes or a btfast.Torrent"
    raise InputError(f"source {source!r}: not understood: give {kinds}")


def stat_torrent(path: str) -> int:
    """Size of the .torrent file at `path`; raises the error for what else the text may be."""
    label = shown(path)
    if not path:
        raise InputError("source '': empty: give a path, a URL, a magnet link or an info-hash")
    if path[:7].lower() == "magnet:":
        raise InputError(f"{label}: a magnet link: `btfast get --metadata-only` makes a .torrent file of it")
    try:
        info = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        if _INFO_HASH.fullmatch(path):
            why = "an info-hash: `btfast get --metadata-only` makes a .torrent file of it"
            raise InputError(f"{label}: {why}") from None
        if is_url(path):
            why = "a URL: `btfast get --metadata-only` makes a .torrent file of it"
            raise InputError(f"{label}: {why}") from None
        if scheme := _SCHEME.match(path):
            raise InputError(f"{label}: {scheme[1]} URLs are not supported: use http or https") from None
        raise SourceNotFoundError(f"{label}: no such file: check the path") from None
    except ValueError:
        raise InputError(f"{label}: not a path: check the spelling") from None
    except OSError as error:
        raise _unreadable(label, error) from error
    if not stat.S_ISREG(info.st_mode):
        what = "a directory" if stat.S_ISDIR(info.st_mode) else "not a regular file"
        raise InputError(f"{label}: {what}: give the path of a .torrent file")
    if info.st_size > TORRENT_LIMIT:
        raise InputError(f"{label}: {info.st_size} bytes: too large for a .torrent: check the path")
    return info.st_size


def read_torrent(path: str) -> bytes:
    """The bytes of a .torrent file, at most TORRENT_LIMIT. Raises like read_source."""
    try:
        with open(path, "rb") as file:
            return _within_limit(shown(path), file.read(TORRENT_LIMIT + 1))
    except OSError as error:
        raise _unreadable(shown(path), error) from error


def absolute_directory(directory: str | os.PathLike[str]) -> str:
    """The absolute path, which the network process uses whatever the caller's working directory becomes."""
    path = os.path.abspath(os.fspath(directory))
    if shown(path) != path or "\0" in path:
        raise InputError(f"directory {shown(path)!r}: not a UTF-8 path: choose another name")
    return path


def shown(text: str) -> str:
    """The text with what is not UTF-8 in a file name replaced, so that it can be printed and put in JSON."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _within_limit(label: str, data: bytes) -> bytes:
    if len(data) > TORRENT_LIMIT:
        raise InputError(f"{label}: {len(data)} bytes: too large for a .torrent: check the source")
    return data


def _unreadable(label: str, error: OSError) -> StorageError:
    advice = "check its permissions" if error.errno in (errno.EACCES, errno.EPERM) else "check the disk"
    return StorageError(f"{label}: cannot be read: {error.strerror or error}: {advice}", errno=error.errno)
