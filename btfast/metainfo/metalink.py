"""Metalink 4 (RFC 5854): the mirrors and hashes of files, and the .torrent of each where one is named.

XML from strangers: no document type is accepted, so there are no entities to expand; depth, elements and text are bounded.
Where there is no .torrent, one is made of the SHA-1 hashes of the file's pieces, or of the whole file as one piece: then
everything else is as for any torrent with web seeds. It is private, since nobody else knows it by that info-hash. Of hashes of
the whole file alone one is made that says nothing of its pieces: whoever fetches it has to prove the whole. MD5 proves nothing.
https://www.rfc-editor.org/rfc/rfc5854
"""

from __future__ import annotations

import re
from hashlib import sha1
from typing import NamedTuple
from xml.parsers.expat import ExpatError, ParserCreate

from btfast._bencode import encode
from btfast.errors import InputError
from btfast.metainfo.paths import safe_name

MAX_BYTES = 64 << 20
MAX_DEPTH = 16
MAX_ELEMENTS = 3_000_000
MAX_TEXT = 1 << 16
MAX_URLS = 1000
MAX_PIECE_LENGTH = 32767 * 16384  # as of any torrent
USUAL_PIECE = 1 << 20  # bytes, where no hash depends on it
MOST_PIECES = 1 << 20
MAX_FILES = 10_000
MAX_DEPTH_OF_NAME = 32
NAMED = 5  # files that a message lists
HASH_BYTES = {"sha-1": 20, "sha-224": 28, "sha-256": 32, "sha-384": 48, "sha-512": 64}  # of a whole file, by RFC 5854
_NAMESPACE = "urn:ietf:params:xml:ns:metalink"
_SHA1 = re.compile(r"[0-9a-fA-F]{40}")
_LAST = 999_999


class Metalink(NamedTuple):
    """`urls` of the file and `torrents` of it, best first. `torrent`: made of its hashes, None where those do not do.

    `hashes`: kind and digest of the whole file. `proves_pieces`: the torrent says what its pieces hash to. `sized`: the size
    is known. `folder`: safe elements of the path that a document of several files gives it.
    """

    name: str
    urls: tuple[str, ...]
    torrents: tuple[str, ...]
    torrent: bytes | None
    why: str  # there is no torrent
    hashes: tuple[tuple[str, bytes], ...] = ()
    folder: tuple[str, ...] = ()
    proves_pieces: bool = True
    sized: bool = True

    @classmethod
    def parse(cls, data: bytes, *, what: str, chosen: str = "", size: int = -1) -> Metalink:
        """The file that is described; of several, the one with the name `chosen`. Raises InputError.

        `size`: of the file, where the document does not say it.
        """
        files = _files(data, what)
        for file in files:
            file.size = size if file.size < 0 else file.size
        if len(files) == 1 and chosen in ("", files[0].name):
            return files[0].result()
        named = [file for file in files if file.name == chosen] if chosen else []
        if named:
            return named[0].result(folder=True)
        names = ", ".join(repr(file.name[:80]) for file in files[:NAMED]) + (", ..." if len(files) > NAMED else "")
        why = f"no file {chosen[:80]!r} in it" if chosen else f"it describes {len(files)} files"
        raise InputError(f"{what}: {why}: name one as SOURCE#NAME: {names}")

    @classmethod
    def names(cls, data: bytes, *, what: str) -> list[str]:
        """Those of the files, as the document has them, each once. Raises InputError."""
        return list(dict.fromkeys(file.name for file in _files(data, what)))


def _files(data: bytes, what: str) -> list[_File]:
    if len(data) > MAX_BYTES:
        raise _refused(what, f"larger than {MAX_BYTES >> 20} MiB")
    reader = _Reader()
    parser = ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reader.handle_doctype
    parser.StartElementHandler = reader.handle_start
    parser.EndElementHandler = reader.handle_end
    parser.CharacterDataHandler = reader.handle_text
    try:
        parser.Parse(data, True)
    except ExpatError:
        raise _refused(what, "not well-formed XML") from None
    except _Wrong as wrong:
        raise _refused(what, str(wrong)) from None
    if not reader.seen:
        raise _refused(what, "XML, but no Metalink 4")
    if not reader.files:
        raise _refused(what, "describes 0 files")
    return reader.files


def looks_like_xml(data: bytes) -> bool:
    """Whether these first bytes of a file may be XML."""
    return data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<"


class _Wrong(Exception):
    """Why it is refused."""


class _File:
    def __init__(self, name: str) -> None:
        self.name = name
        self.size = -1
        self.whole = ""  # SHA-1 of the file
        self.weak = False  # an MD5 is there
        self.hashes: dict[str, bytes] = {}
        self.piece_length = 0
        self.kind = ""
        self.pieces: list[str] = []
        self.urls: list[tuple[int, int, str]] = []
        self.torrents: list[tuple[int, int, str]] = []

    def add(self, found: list[tuple[int, int, str]], priority: str, url: str) -> None:
        url = url.strip()
        if len(found) < MAX_URLS and url.lower().startswith(("http://", "https://")) and url.isprintable():
            rank = int(priority) if priority.isdigit() and len(priority) < 7 else _LAST
            found.append((rank, len(found), url.replace(" ", "%20")))

    def result(self, *, folder: bool = False) -> Metalink:
        torrent, proves_pieces, why = self._torrent()
        urls, torrents = (tuple(url for _, _, url in sorted(found)) for found in (self.urls, self.torrents))
        elements = self.name.replace("\\", "/").split("/")[:-1][:MAX_DEPTH_OF_NAME] if folder else []
        safe = [safe_name(element.encode("utf-8", "replace"), "_") for element in elements if element not in ("", ".", "..")]
        whole = tuple(self.hashes.items())
        return Metalink(
            self.name, urls, torrents, torrent, why, whole, tuple(safe), proves_pieces=proves_pieces, sized=self.size >= 0
        )  # fmt: skip

    def _torrent(self) -> tuple[bytes | None, bool, str]:
        if self.size <= 0:
            return None, False, "it does not say how large the file is" if self.size < 0 else "the file is empty"
        length, hashes = self.piece_length, self.pieces
        proves = True
        if not (self.kind == "sha-1" and 0 < length <= MAX_PIECE_LENGTH and len(hashes) == -(-self.size // length)):
            if self.whole and self.size <= MAX_PIECE_LENGTH:
                length, hashes = -(-self.size // 16384) * 16384, [self.whole]
            elif self.hashes:
                length, hashes, proves = *self._marks(), False
            else:
                none = "it has no SHA hash of the file or its pieces"
                return None, False, "its only hash is an MD5, which proves nothing" if self.weak else none
        if not all(_SHA1.fullmatch(digest) for digest in hashes):
            return None, False, "its SHA-1 hashes are damaged"
        name = self.name.replace("\\", "/").rpartition("/")[2] or "file"
        info = {
            "length": self.size, "name": name, "piece length": length, "pieces": bytes.fromhex("".join(hashes)), "private": 1,
        }  # fmt: skip
        return encode({"info": info}), proves, ""

    def _marks(self) -> tuple[int, list[str]]:
        """A piece length, and what stands in the place of hashes: it makes the info-hash that of this file alone."""
        length = USUAL_PIECE
        while self.size > length * MOST_PIECES:
            length *= 2
        mark = sha1(b"".join(self.hashes[kind] for kind in sorted(self.hashes)), usedforsecurity=False).hexdigest()
        return length, [mark] * -(-self.size // length)


class _Reader:
    """expat's callbacks."""

    def __init__(self) -> None:
        self.seen = False
        self.files: list[_File] = []
        self._path: list[str] = []
        self._attributes: dict[str, str] = {}
        self._text: list[str] = []
        self._length = 0
        self._elements = 0
        self._taking = False  # the hashes of the present <pieces>

    def handle_doctype(self, *_: object) -> None:
        raise _Wrong("it has a document type, which a Metalink must not have")

    def handle_start(self, name: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        if self._elements > MAX_ELEMENTS or len(self._path) >= MAX_DEPTH:
            raise _Wrong("too large")
        space, _, local = name.rpartition(" ")
        self._path.append(local if space == _NAMESPACE else "?")
        self._attributes = attributes
        self._text.clear()
        self._length = 0
        if self._path == ["metalink"]:
            self.seen = True
        elif self._path == ["metalink", "file"]:
            if len(self.files) >= MAX_FILES:
                raise _Wrong("too large")
            self.files.append(_File(attributes.get("name", "")))
        elif self._path == ["metalink", "file", "pieces"]:
            length = attributes.get("length", "")
            file = self.files[-1]
            self._taking = file.kind != "sha-1" and length.isdigit() and len(length) < 12  # the best kind of several counts
            if self._taking:
                file.piece_length, file.kind, file.pieces = int(length), attributes.get("type", "").lower(), []

    def handle_text(self, text: str) -> None:
        self._length += len(text)
        if self._length > MAX_TEXT:
            raise _Wrong("too large")
        self._text.append(text)

    def handle_end(self, _: str) -> None:
        path, text = self._path, "".join(self._text).strip()
        self._text.clear()
        if len(path) > 2 and path[:2] == ["metalink", "file"]:
            self._handle_value(self.files[-1], path[2:], text)
        path.pop()

    def _handle_value(self, file: _File, path: list[str], text: str) -> None:
        kind = self._attributes.get("type", "").lower()
        if path == ["size"] and text.isdigit() and len(text) < 19:
            file.size = int(text)
        elif path == ["hash"]:
            if kind == "sha-1":
                file.whole = text
            file.weak = file.weak or kind in ("md5", "md2")
            if kind in HASH_BYTES and re.fullmatch(f"[0-9a-fA-F]{{{2 * HASH_BYTES[kind]}}}", text):
                file.hashes[kind] = bytes.fromhex(text)
        elif path == ["pieces", "hash"]:
            if self._taking:
                file.pieces.append(text)
        elif path == ["url"]:
            file.add(file.urls, self._attributes.get("priority", ""), text)
        elif path == ["metaurl"] and self._attributes.get("mediatype", "").lower() == "torrent":
            file.add(file.torrents, self._attributes.get("priority", ""), text)


def _refused(what: str, why: str, remedy: str = "get it anew from where it came from") -> InputError:
    return InputError(f"{what}: a damaged Metalink: {why}: {remedy}")
