"""What the makers of vectors build info dicts of: plain bencode, apart from the code under test."""

from __future__ import annotations

HASH = b"0123456789abcdefghij"


def bencode(value: object) -> bytes:
    """Plain bencode, apart from the code under test; bytes in a `raw` wrapper go out as they are."""
    match value:
        case Raw():
            return value.data
        case bytes():
            return b"%d:%b" % (len(value), value)
        case int():
            return b"i%de" % value
        case list():
            return b"l" + b"".join(map(bencode, value)) + b"e"
        case dict():
            return b"d" + b"".join(bencode(key) + bencode(value[key]) for key in sorted(value)) + b"e"
    raise TypeError(value)


class Raw:
    def __init__(self, data: bytes) -> None:
        self.data = data


def single(**changes: object) -> dict[bytes, object]:
    info: dict[bytes, object] = {b"name": b"plain.bin", b"length": 20000, b"piece length": 16384, b"pieces": HASH * 2}
    return changed(info, changes)


def multi(*paths: list[bytes], **changes: object) -> dict[bytes, object]:
    files = [{b"length": 10, b"path": list(path)} for path in paths]
    info: dict[bytes, object] = {b"name": b"root", b"files": files, b"piece length": 16384, b"pieces": HASH}
    return changed(info, changes)


def changed(info: dict[bytes, object], changes: dict[str, object]) -> dict[bytes, object]:
    for name, value in changes.items():
        key = name.replace("_", " ").encode()
        if value is None:
            info.pop(key, None)
        else:
            info[key] = value
    return info


def torrent(info: object, **top: object) -> bytes:
    return bencode({b"info": info} | {name.replace("_", " ").encode(): value for name, value in top.items()})
