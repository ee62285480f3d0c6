"""Names out of a torrent made safe: whatever it says, a file lands below its destination, at a place of its own.

Each path element is cleaned by itself (`safe_element`), a path is the cleaned elements (`safe_path`), and
`unique_paths` gives every file a place that no other file or directory takes, also where the disk ignores case or the
way accents are composed, and also while files still carry `.part`. The same torrent always gives the same names.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

from btfast.errors import InputError

ELEMENT_BYTES = 255  # NAME_MAX of every common file system
PATH_BYTES = 2048  # leaves room for the destination below PATH_MAX
PATH_ELEMENTS = 32
PART_SUFFIX = ".part"
PARTS_SUFFIX = ".btfast-parts"  # of the hidden file that keeps pieces with bytes of files that are not wanted
FILE_BYTES = ELEMENT_BYTES - len(PART_SUFFIX)  # of a file's own name, so that its working name fits
MAX_DIRECTORIES = 1_000_000  # of one torrent; bounds what a hostile one costs
MAX_CLASHES = 100  # files of one name; more is an attack or a broken tool

_EXTENSION_BYTES = 32
_CONSIDERED = 1024  # bytes at either end of an element that are looked at; the middle of a longer one is gone anyway
_SURELY_SHORT = PATH_BYTES // (ELEMENT_BYTES + 1) - 1  # so many elements always fit

# Plain elements need no work: this is nearly all of them. Reserved names are looked up besides.
_PLAIN = re.compile(rb"[A-Za-z0-9_\-+,()\[\]{}=@#!$%&'~;^ ][A-Za-z0-9_\-+,()\[\]{}=@#!$%&'~;^ .]{0,199}", re.ASCII)
_DRIVE = re.compile(r"[A-Za-z]:")
# C0, DEL, C1, line and paragraph separators, and the bidi controls that make a name read as another one.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_RESERVED = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$"]
    + [f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789\u00b9\u00b2\u00b3"]
)
_RESERVED_STARTS = frozenset(name[:3].encode() for name in _RESERVED)


def safe_element(raw: bytes, *, limit: int = ELEMENT_BYTES) -> str:
    """One path element that every file system takes, at most `limit` (200 or more) bytes of UTF-8.

    "" comes out for an empty element and for `.`: nothing is to be kept of them. `..` and elements of separators alone
    become `_`. Inside an element separators are dropped; bytes that are not UTF-8, NUL and other control characters
    become `_`, as does the colon of a drive letter; a name that Windows reserves gets a `_` in front; an over-long one
    is cut before its extension.
    """
    if _PLAIN.fullmatch(raw):
        text = raw.decode("ascii")
        if raw[:3].lower() not in _RESERVED_STARTS or _device(text) not in _RESERVED:
            return text
    if raw in (b"", b"."):
        return ""
    if len(raw) > 2 * _CONSIDERED:
        raw = raw[:_CONSIDERED] + raw[-_CONSIDERED:]
    return _clean(raw, limit) or "_"


def safe_name(raw: bytes, fallback: str, *, limit: int = ELEMENT_BYTES) -> str:
    """A torrent's name as one path element; `fallback` (the hex info-hash) when no character of it can be used."""
    text = raw[:_CONSIDERED].decode("utf-8", "replace")
    usable = _UNSEEN.sub("", text).replace("/", "").replace("\\", "").replace("\ufffd", "").strip(". \t")
    return (safe_element(raw, limit=limit) or fallback) if usable else fallback


def safe_path(elements: Sequence[bytes], memo: dict[bytes, str]) -> tuple[str, ...]:
    """The path that a torrent's list of elements names, relative to the torrent's root; never empty.

    Empty elements and `.` are dropped. A path that is too long or too deep keeps its last element, in one directory
    named by the hash of the rest. `memo` carries directory names from one path to the next.
    """
    kept = []
    for raw in elements[:-1]:
        text = memo.get(raw)
        if text is None:
            text = memo[raw] = safe_element(raw)
        if text:
            kept.append(text)
    last = safe_element(elements[-1], limit=FILE_BYTES)
    if last:
        kept.append(last)
    elif kept:
        kept[-1] = _shorten(kept[-1], FILE_BYTES)
    else:
        return ("_",)
    if len(kept) > _SURELY_SHORT and (len(kept) > PATH_ELEMENTS or len("/".join(kept).encode()) > PATH_BYTES):
        kept[:-1] = [hashlib.sha1("/".join(kept[:-1]).encode()).hexdigest()]
    return tuple(kept)


def parts_name(name: str, info_hash: bytes) -> str:
    """What the parts file of the torrent `name` is called, beside its file or folder: hidden, and no other torrent's."""
    return f".{_cut(name, 180)}.{info_hash[:8].hex()}{PARTS_SUFFIX}"


def unique_paths(paths: Sequence[tuple[str, ...] | None], *, fold: bool = True) -> list[tuple[str, ...] | None]:
    """The same paths, those that clash renamed `name.1.ext`, `name.2.ext` and so on; None is a file never written.

    Two paths clash when they are one, with `fold` also when only a file system that does not mind case or the composition
    of accents takes them for one; when one is a file where the other needs a directory; or when one is the other's `.part`.
    Directories stay, and so does the first file of a name.
    Raises InputError when more than MAX_CLASHES files want one name, or for more than MAX_DIRECTORIES directories.
    """
    if len(paths) == 1:
        return list(paths)  # it is alone
    key_of = _key if fold else str
    directories: set[str] = set()
    seen_parents: set[tuple[str, ...]] = set()
    keys: list[str | None] = []
    for path in paths:
        if path is None:
            keys.append(None)
            continue
        keys.append(key_of("/".join(path)))
        parent = path[:-1]
        if parent and parent not in seen_parents:
            seen_parents.add(parent)
            for depth in range(1, len(parent) + 1):
                directories.add(key_of("/".join(parent[:depth])))
            if len(directories) > MAX_DIRECTORIES:
                raise InputError(f"more than {MAX_DIRECTORIES} directories: use another torrent")
    wanted = {key for key in keys if key is not None}
    if len(wanted) == sum(key is not None for key in keys) and _no_clash(wanted, directories):
        return list(paths)

    taken: set[str] = set()
    attempts: dict[str, int] = {}
    made: list[tuple[str, ...] | None] = []
    for path, key in zip(paths, keys, strict=True):
        if path is None or key is None:
            made.append(None)
        elif key not in taken and _free(key, directories, wanted):
            taken.add(key)
            made.append(path)
        else:
            path, key = _renamed(path, key, attempts, (taken, wanted, directories), key_of)
            taken.add(key)
            made.append(path)
    return made


def printable(elements: Iterable[bytes]) -> str:
    """Raw path elements for a person to read: joined by `/`, cut when long, what a terminal would not show escaped."""
    text = "/".join(raw[:_CONSIDERED].decode("utf-8", "backslashreplace") for raw in elements)
    if len(text) > 4 * _CONSIDERED:
        text = text[: 4 * _CONSIDERED] + "..."
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _clean(raw: bytes, limit: int) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("utf-8", "replace").replace("\ufffd", "_")
    text = _UNSEEN.sub("_", text.replace("/", "").replace("\\", ""))
    if text in (".", ".."):
        return "_"
    if _DRIVE.match(text):
        text = f"{text[0]}_{text[2:]}"
    if _device(text) in _RESERVED:
        text = f"_{text}"
    return _shorten(text, limit)


def _device(text: str) -> str:
    # Windows looks at what stands before the first dot, spaces aside: `aux.h` and `NUL ` are devices.
    return text.partition(".")[0].rstrip(" ").lower()


def _shorten(text: str, limit: int) -> str:
    if len(text) * 4 <= limit or len(text.encode()) <= limit:
        return text
    stem, dot, extension = text.rpartition(".")
    tail = (dot + extension).encode()
    if not stem or len(tail) > _EXTENSION_BYTES:
        stem, tail = text, b""
    return (_cut(stem, limit - len(tail)).encode() + tail).decode()


def _cut(text: str, limit: int) -> str:
    return text.encode()[:limit].decode("utf-8", "ignore")


def _key(path: str) -> str:
    """Equal for two paths that some file system takes for the same one."""
    if path.isascii():
        return path.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())


def _no_clash(wanted: set[str], directories: set[str]) -> bool:
    if not wanted.isdisjoint(directories):
        return False
    parts = [key for key in wanted if key.endswith(PART_SUFFIX)]
    parts += [key for key in directories if key.endswith(PART_SUFFIX)]
    return not any(key[: -len(PART_SUFFIX)] in wanted for key in parts)


def _free(key: str, directories: set[str], files: set[str]) -> bool:
    """Whether a file may be at `key`, and at its `.part` while it is being downloaded, as far as others' wishes go."""
    if key in directories or key + PART_SUFFIX in directories:
        return False
    return not (key.endswith(PART_SUFFIX) and key[: -len(PART_SUFFIX)] in files)


def _renamed(
    path: tuple[str, ...], key: str, attempts: dict[str, int], others: tuple[set[str], set[str], set[str]],
    key_of: Callable[[str], str],
) -> tuple[tuple[str, ...], str]:  # fmt: skip
    taken, wanted, _ = others
    stem, dot, extension = path[-1].rpartition(".")
    if not stem:
        stem, dot, extension = path[-1], "", ""
    for number in range(attempts.get(key, 0) + 1, MAX_CLASHES + 1):
        tail = f".{number}{dot}{extension}"
        candidate = (*path[:-1], _cut(stem, FILE_BYTES - len(tail.encode())) + tail)
        new = key_of("/".join(candidate))
        clear = not any(new in group or new + PART_SUFFIX in group for group in others)
        if clear and not (new.endswith(PART_SUFFIX) and new[: -len(PART_SUFFIX)] in taken | wanted):
            attempts[key] = number
            return candidate, new
    name = "/".join(path)
    raise InputError(f"file {name!r}: more than {MAX_CLASHES} others want its name: use another torrent", path=name)
