"""Magnet links (BEP 9, 52, 53): parsed into values and written back."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Self
from urllib.parse import quote, unquote_to_bytes

import msgspec

from btfast.errors import InputError
from btfast.metainfo.addresses import parse_host_port

MAX_LENGTH = 1 << 16  # characters of a magnet link
_MAX_REPEATS = 1000  # of one parameter

_HEX = re.compile(r"[0-9A-Fa-f]{40}")
_BASE32 = re.compile(r"[A-Za-z2-7]{32}")
_BTMH = re.compile(r"(?:1220)?([0-9A-Fa-f]{64})")
_TRUNCATED = 20  # bytes of a v2 info-hash that peers, trackers and the DHT use
_RANGE = re.compile(r"(\d{1,10})(?:-(\d{1,10}))?")
_NUMBERED = re.compile(r"(xt|tr|ws|as|x\.pe|xs)\.\d+")


class Magnet(msgspec.Struct, frozen=True, kw_only=True):
    """What a magnet link says. `info_hash`: 20 bytes, the v1 hash, or the beginning of the v2 hash where there is no v1."""

    info_hash: bytes
    info_hash_v2: bytes | None = None  # all 32 bytes of a v2 torrent's or hybrid's SHA-256
    name: str | None = None  # dn: to show, never a path
    trackers: tuple[str, ...] = ()  # tr
    web_seeds: tuple[str, ...] = ()  # ws and as
    peers: tuple[tuple[str, int], ...] = ()  # x.pe: host and port, the host possibly a name
    select_only: tuple[tuple[int, int], ...] = ()  # so: first and last file index of each range, both included

    @classmethod
    def parse(cls, text: str) -> Self:
        """The magnet link `text`. Unknown parameters, and peers that cannot be read, are passed over.

        Raises InputError when it is no magnet link of a torrent.
        """
        text = text.strip()
        if len(text) > MAX_LENGTH:
            raise _refused(text, f"longer than {MAX_LENGTH} characters")
        if text[:8].lower() != "magnet:?":
            raise _refused(text, "does not begin with magnet:?")
        values = _parameters(text)
        info_hash, info_hash_v2 = _topics(text, values.get("xt", []))
        return cls(
            info_hash=_first(info_hash, info_hash_v2),
            info_hash_v2=info_hash_v2,
            name=next(filter(None, values.get("dn", [])), None),
            trackers=_urls(values.get("tr", [])),
            web_seeds=_urls(values.get("ws", []) + values.get("as", [])),
            peers=_peers(values.get("x.pe", [])),
            select_only=_ranges(text, values.get("so", [])),
        )

    @classmethod
    def from_info_hash(cls, text: str) -> Self:
        """The magnet of a bare info-hash: 40 hexadecimal or 32 base32 characters, or 64 hexadecimal ones of v2.

        Raises InputError.
        """
        found, found_v2 = _info_hash(text.strip()), _info_hash_v2(text.strip())
        if found is None and found_v2 is None:
            why = "not 40 or 64 hexadecimal or 32 base32 characters"
            raise InputError(f"info-hash {text[:80]!r}: {why}: check that it was copied whole", text=text)
        return cls(info_hash=_first(found, found_v2), info_hash_v2=found_v2)

    @property
    def swarm_hashes(self) -> tuple[bytes, ...]:
        """The 20 bytes that name it in each of its swarms: of v1, and the beginning of those of v2 (BEP 52)."""
        hashes = (self.info_hash_v1, self.info_hash_v2)
        return tuple(info_hash[:_TRUNCATED] for info_hash in hashes if info_hash is not None)

    def names(self, metadata: bytes) -> bool:
        """Whether `metadata` is the info dict that the link means, by any hash that it gives."""
        v1, v2 = hashlib.sha1(metadata).digest(), hashlib.sha256(metadata).digest()
        # Some programs show no more of a v2 info-hash than what peers use: such a link looks like one of v1.
        return v2 == self.info_hash_v2 or self.info_hash_v1 in (v1, v2[:_TRUNCATED])

    @property
    def info_hash_v1(self) -> bytes | None:
        """The 20-byte v1 hash; None for a torrent of v2 alone."""
        v2 = self.info_hash_v2
        return None if v2 is not None and v2.startswith(self.info_hash) else self.info_hash

    def uri(self) -> str:
        """The link, which parses back to an equal value."""
        parts = [] if self.info_hash_v1 is None else [f"xt=urn:btih:{self.info_hash.hex()}"]
        if self.info_hash_v2 is not None:
            parts.append(f"xt=urn:btmh:1220{self.info_hash_v2.hex()}")
        if self.name:
            parts.append(f"dn={_quoted(self.name)}")
        parts += [f"tr={_quoted(url)}" for url in self.trackers]
        parts += [f"ws={_quoted(url)}" for url in self.web_seeds]
        parts += [f"x.pe=[{host}]:{port}" if ":" in host else f"x.pe={host}:{port}" for host, port in self.peers]
        if self.select_only:
            ranges = (str(first) if first == last else f"{first}-{last}" for first, last in self.select_only)
            parts.append("so=" + ",".join(ranges))
        return "magnet:?" + "&".join(parts)

    def __str__(self) -> str:
        return self.uri()


def _parameters(text: str) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for pair in text[8:].partition("#")[0].split("&"):
        key, equals, value = pair.partition("=")
        if not equals:
            continue
        key = key.lower()
        numbered = _NUMBERED.fullmatch(key)
        found = values.setdefault(numbered[1] if numbered else key, [])
        if len(found) < _MAX_REPEATS:
            written = (value.replace("+", " ") if key == "dn" else value).encode("utf-8", "replace")  # a list may be Latin-1
            found.append(unquote_to_bytes(written).decode("utf-8", "replace"))
    return values


def _topics(text: str, topics: list[str]) -> tuple[bytes | None, bytes | None]:
    v1: bytes | None = None
    v2: bytes | None = None
    for topic in topics:
        urn = topic[:9].lower()
        if urn == "urn:btih:":
            found = _info_hash(topic[9:])
            if found is None:
                raise _refused(text, "its info-hash is not 40 hexadecimal or 32 base32 characters")
            if v1 not in (None, found):
                raise _refused(text, "names two different torrents")
            v1 = found
        elif urn == "urn:btmh:":
            found_v2 = _info_hash_v2(topic[9:]) if topic[9:13] == "1220" else None
            if found_v2 is None:
                raise _refused(text, "its btmh is not 1220 and 64 hexadecimal characters")
            if v2 not in (None, found_v2):
                raise _refused(text, "names two different torrents")
            v2 = found_v2
    if v1 is None and v2 is None:
        raise _refused(text, "has neither xt=urn:btih: nor xt=urn:btmh:")
    return v1, v2


def _first(v1: bytes | None, v2: bytes | None) -> bytes:
    """What names the torrent to peers, to those who know v1 alone where it can."""
    found = v1 or v2
    assert found is not None
    return found[:_TRUNCATED]


def _info_hash(text: str) -> bytes | None:
    if _HEX.fullmatch(text):
        return bytes.fromhex(text)
    if _BASE32.fullmatch(text):
        try:
            return base64.b32decode(text.upper())
        except binascii.Error:
            return None
    return None


def _info_hash_v2(text: str) -> bytes | None:
    match = _BTMH.fullmatch(text)
    return bytes.fromhex(match[1]) if match is not None else None


def _urls(values: list[str]) -> tuple[str, ...]:
    cleaned = (value.strip() for value in values)
    return tuple(dict.fromkeys(url for url in cleaned if url and url.isprintable()))


def _peers(values: list[str]) -> tuple[tuple[str, int], ...]:
    found: dict[tuple[str, int], None] = {}
    for value in values:
        try:
            found[parse_host_port(value)] = None
        except InputError:
            continue  # one bad hint must not cost the download
    return tuple(found)


def _ranges(text: str, values: list[str]) -> tuple[tuple[int, int], ...]:
    found = []
    for item in ",".join(values).split(",") if values else ():
        match = _RANGE.fullmatch(item.strip())
        if match is None or (match[2] is not None and int(match[2]) < int(match[1])):
            raise _refused(text, f"its so={item[:40]!r} is not a file index or a range of them")
        found.append((int(match[1]), int(match[2] or match[1])))
    return tuple(found)


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _refused(text: str, why: str, remedy: str = "check that it was copied whole") -> InputError:
    return InputError(f"magnet {text[:80]!r}: {why}: {remedy}", text=text)
