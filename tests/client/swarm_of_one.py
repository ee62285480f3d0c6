"""Torrents of generated data, a libtorrent seeder for them, and a look at our processes."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import libtorrent
import psutil

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


class Seeder:
    """A libtorrent session on loopback that serves complete data."""

    def __init__(self) -> None:
        self._session = libtorrent.session(
            {
                "listen_interfaces": "127.0.0.1:0",
                "enable_upnp": False,
                "enable_natpmp": False,
                "enable_lsd": False,
                "enable_dht": False,
                "enable_incoming_utp": False,
                "enable_outgoing_utp": False,
                "allow_multiple_connections_per_ip": True,
                "unchoke_slots_limit": -1,
                "ssrf_mitigation": False,
                "out_enc_policy": 2,
                "in_enc_policy": 2,
            }
        )
        until(lambda: self._session.listen_port() != 0, "the seeder listens")

    @property
    def peer(self) -> tuple[str, int]:
        return "127.0.0.1", self._session.listen_port()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._session.listen_port()}"

    def add(self, torrent: bytes, directory: Path, *, rate: int = 0) -> libtorrent.torrent_handle:
        """Serves it, at `rate` bytes a second (0: no limit)."""
        parameters = libtorrent.add_torrent_params()
        parameters.ti = libtorrent.torrent_info(torrent)
        parameters.save_path = str(directory)
        parameters.flags &= ~(libtorrent.torrent_flags.auto_managed | libtorrent.torrent_flags.paused)
        parameters.flags |= libtorrent.torrent_flags.seed_mode
        handle = self._session.add_torrent(parameters)
        if rate:
            handle.set_upload_limit(rate)
        return handle

    def close(self) -> None:
        self._session.pause()
        del self._session


@contextmanager
def seeding(torrent: bytes, directory: Path, *, rate: int = 0) -> Iterator[Seeder]:
    seeder = Seeder()
    seeder.add(torrent, directory, rate=rate)
    try:
        yield seeder
    finally:
        seeder.close()


def children() -> list[psutil.Process]:
    """Every process that this one has started, zombies included, but for those of the test runner itself."""
    return [process for process in psutil.Process().children(recursive=True) if is_ours(process)]


def is_ours(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE or any("btfast" in word for word in process.cmdline())
    except psutil.NoSuchProcess:
        return False


def until(condition: Callable[[], object], what: str, *, patience: float = 20.0) -> None:
    """Waits for a condition; fails with `what` when it does not come true."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"not so after {patience} s: {what}"
        time.sleep(0.01)
