"""Torrents of generated data, a libtorrent seeder of one of them, and a look at our processes."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from support.commands import PATIENCE
from support.libtorrent_peer import Libtorrent

from btfast._bencode import encode
from btfast.config import Settings

LOCAL = Settings(bind="127.0.0.1", port=0, workers=1, memory="16MiB", trackers=False, peer_timeout=20.0)


def make_data(root: Path, files: dict[str, int], *, seed: int = 1) -> None:
    """Files of pseudo-random bytes below `root`, by relative path and length."""
    rng = random.Random(seed)
    for name, length in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(length))


def make_torrent(root: Path, name: str, *, piece_length: int = 65536, announce: str = "") -> bytes:
    """A v1 .torrent of the file or directory `root / name`."""
    path = root / name
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    data = b"".join(p.read_bytes() for p in files)
    pieces = [hashlib.sha1(data[at : at + piece_length]).digest() for at in range(0, len(data), piece_length)]
    info: dict[str, object] = {"name": name, "piece length": piece_length, "pieces": b"".join(pieces)}
    if path.is_file():
        info["length"] = len(data)
    else:
        info["files"] = [{"length": p.stat().st_size, "path": list(p.relative_to(path).parts)} for p in files]
    return encode({"info": info} | ({"announce": announce} if announce else {}))


@contextmanager
def seeding(torrent: bytes, directory: Path, *, rate: int = 0) -> Iterator[Libtorrent]:
    """A libtorrent session that serves what is complete in `directory`."""
    with Libtorrent() as seeder:
        seeder.add(torrent, directory, seed=True, rate=rate)
        yield seeder


def children() -> list[psutil.Process]:
    """Every process that this one has started, zombies included, but for those of the test runner itself."""
    return [process for process in psutil.Process().children(recursive=True) if is_ours(process)]


def is_ours(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE or any("btfast" in word for word in process.cmdline())
    except psutil.NoSuchProcess:
        return False


def until(condition: Callable[[], object], what: str, *, patience: float = PATIENCE) -> None:
    """Waits for a condition; fails with `what` when it does not come true."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"not so after {patience} s: {what}"
        time.sleep(0.01)
