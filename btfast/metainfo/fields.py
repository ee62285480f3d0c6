"""Single fields of a decoded .torrent: a value of the wrong kind counts as absent where that is harmless."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from btfast.errors import InputError
from btfast.metainfo.addresses import parse_host_port

MAX_URLS = 1000  # trackers, web seeds or nodes of one torrent
MAX_URL_BYTES = 4096
MAX_LENGTH = 2**63 - 1
MAX_MTIME = 253_402_300_799  # the end of the year 9999


def damaged(why: str, **facts: object) -> InputError:
    """The error for a .torrent that no one can use; the caller puts the file's name in front."""
    return InputError(f"{why}: the file is damaged, get it anew from where it came from", **facts)


def preferred(source: dict[bytes, Any], key: bytes, kind: type) -> Any:
    """The value of `key`, that of its .utf-8 twin before it; None unless of the `kind`."""
    for name in (key + b".utf-8", key):
        value = source.get(name)
        if isinstance(value, kind):
            return value
    return None


def text(value: object) -> str | None:
    """A string as text; what is not UTF-8 in it is replaced. None when it is no string."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else None


def strings(top: dict[bytes, Any], info: dict[bytes, Any], key: bytes, size: int = 0) -> tuple[bytes, ...]:
    """The strings of a list that may stand in the info dict and beside it (BEP 38); of `size` bytes, where that is told."""
    if key not in top and key not in info:
        return ()
    found: list[bytes] = []
    for source in (info, top):
        listed = source.get(key)
        for value in listed[:MAX_URLS] if isinstance(listed, list) else ():
            if isinstance(value, bytes) and (len(value) == size if size else 0 < len(value) <= MAX_URL_BYTES):
                found.append(value)
    return tuple(dict.fromkeys(found[:MAX_URLS]))


def length_of(source: dict[bytes, Any], number: int = 0) -> int:
    """The `length` of a file, 0..2**63 - 1. Raises InputError."""
    length = source.get(b"length")
    if not isinstance(length, int) or not 0 <= length <= MAX_LENGTH:
        raise damaged(f"file {number} has no usable length", file=number)
    return length


def is_utf8(text: str) -> bool:
    """Whether a text that came from a command line can be written into a torrent."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def mtime_of(source: dict[bytes, Any]) -> int | None:
    """The `mtime` of a file, in seconds since 1970; None where there is none, or no file system could keep it."""
    if b"mtime" not in source:
        return None
    value = source[b"mtime"]
    return value if isinstance(value, int) and 0 <= value <= MAX_MTIME else None


def raw_attr(source: dict[bytes, Any]) -> bytes:
    """The value of `attr` (BEP 47), b"" where there is none."""
    value = source.get(b"attr")
    return value if isinstance(value, bytes) else b""


def attr_of(source: dict[bytes, Any]) -> str:
    """The letters of `attr` (BEP 47), each once, those that are no ASCII letter left out."""
    value = raw_attr(source)
    if not value:
        return ""
    if len(value) == 1 and value.isalpha():  # most
        return value.decode("ascii")
    return "".join(dict.fromkeys(c for c in value[:64].decode("ascii", "ignore") if c.isalpha()))


def url(value: object) -> str | None:
    """A URL with the space around it gone and the space in it escaped; None for what cannot be one."""
    if not isinstance(value, bytes) or len(value) > MAX_URL_BYTES:
        return None
    try:
        cleaned = value.decode("utf-8").strip()
    except UnicodeDecodeError:
        return None
    if not cleaned or not cleaned.isprintable():
        return None
    return quote(cleaned, safe="!#$%&'()*+,/:;=?@[]~")


def tiers(top: dict[bytes, Any]) -> tuple[tuple[str, ...], ...]:
    """Trackers by tier (BEP 12): announce-list, or announce when the list has none."""
    found: list[tuple[str, ...]] = []
    seen: set[str] = set()
    listed = top.get(b"announce-list")
    for tier in listed if isinstance(listed, list) else ():
        kept = []
        for value in tier if isinstance(tier, list) else [tier]:
            address = url(value)
            if address is not None and address not in seen and len(seen) < MAX_URLS:
                seen.add(address)
                kept.append(address)
        if kept:
            found.append(tuple(kept))
    if not found:
        address = url(top.get(b"announce"))
        if address is not None:
            found.append((address,))
    return tuple(found)


def web_seeds(value: object, *, base: bool) -> tuple[str, ...]:
    """The http and https URLs of a string or list, each once; with `base` each ends in a slash (BEP 19)."""
    found: dict[str, None] = {}
    for item in value if isinstance(value, list) else [value]:
        address = url(item)
        if address is not None and address.lower().startswith(("http://", "https://")) and len(found) < MAX_URLS:
            found[address if not base or address.endswith("/") else address + "/"] = None
    return tuple(found)


def nodes(value: object) -> tuple[tuple[str, int], ...]:
    """DHT nodes of a list of [host, port] (BEP 5); the host may be a name. Those that cannot be read are left out."""
    found: dict[tuple[str, int], None] = {}
    for item in value if isinstance(value, list) else ():
        if not (isinstance(item, list) and len(item) == 2 and len(found) < MAX_URLS):
            continue
        host, port = text(item[0]), item[1]
        if host is None or not isinstance(port, int):
            continue
        try:
            found[parse_host_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")] = None
        except InputError:
            continue
    return tuple(found)
