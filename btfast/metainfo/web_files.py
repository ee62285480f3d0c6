"""Where the files of a torrent are at a web seed: the URL rules of BEP 19 and BEP 17.

The names are those that the torrent gives, and not the safe ones that are used on disk.
https://www.bittorrent.org/beps/bep_0019.html, bep_0017.html
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from btfast._bencode import decode
from btfast.metainfo import fields
from btfast.metainfo.file_tree import read_tree
from btfast.metainfo.files import elements_of
from btfast.metainfo.torrent import MAX_TOKENS, Torrent


class WebFiles:
    """The URLs of one torrent's files; the names are read when the first is wanted."""

    def __init__(self, torrent: Torrent) -> None:
        self._torrent = torrent
        self._info: dict[bytes, Any] | None = None
        self._name = ""
        self._tree: list[list[bytes]] = []  # of a torrent that has no list of files (BEP 52)

    def url(self, base: str, file: int) -> str:
        """BEP 19: where file number `file` is below `base`, which of a single file may be its URL itself."""
        return base + self.suffix(base, file)

    def suffix(self, base: str, file: int) -> str:
        """What `base` lacks of the file's URL."""
        if self._torrent.single_file:
            return self._quoted_name() if base.endswith("/") else ""
        slash = "" if base.endswith("/") else "/"
        return f"{slash}{self._quoted_name()}/{self._quoted_path(file)}"

    def _names(self) -> dict[bytes, Any]:
        if self._info is None:
            info = decode(self._torrent.info_raw, strict=False, max_tokens=MAX_TOKENS)
            self._info = info if isinstance(info, dict) else {}
        return self._info

    def _quoted_name(self) -> str:
        if not self._name:
            raw = fields.preferred(self._names(), b"name", bytes)
            self._name = quote(raw or self._torrent.name.encode(), safe="")
        return self._name

    def _quoted_path(self, file: int) -> str:
        path: list[bytes] | None = None
        listed = self._names().get(b"files")
        if isinstance(listed, list) and len(listed) == len(self._torrent.files):
            entry = listed[file] if isinstance(listed[file], dict) else {}
            path = elements_of(entry.get(b"path.utf-8")) or elements_of(entry.get(b"path"))
        elif listed is None and b"file tree" in self._names():
            if not self._tree:
                self._tree = [file.path for file in read_tree(self._names()[b"file tree"])]
            path = self._tree[file]
        elements = path or [element.encode() for element in self._torrent.files[file].path]
        return "/".join(quote(element, safe="") for element in elements if element not in (b"", b".", b".."))


def piece_url(base: str, info_hash: bytes, index: int, begin: int, length: int, size: int) -> str:
    """BEP 17: the request for bytes [begin, begin + length) of piece `index`, which has `size`."""
    joint = "?" if "?" not in base else "" if base[-1] in "?&" else "&"
    ranges = "" if length == size else f"&ranges={begin}-{begin + length - 1}"
    return f"{base}{joint}info_hash={quote(info_hash, safe='')}&piece={index}{ranges}"
