"""For tests with real clients: btfast's own tracker, and torrents that libtorrent makes."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path

import libtorrent
import pytest
from support.commands import running


@contextlib.contextmanager
def tracker(home: Path, host: str = "127.0.0.1") -> Iterator[str]:
    """`btfast tracker` on a free port; yields its announce URL."""
    with running(home, "tracker", "--bind", host, "--port", "0", "--json") as command:
        assert command.process.stdout is not None
        yield json.loads(command.process.stdout.readline())["url"]


def needs_ipv6() -> None:
    """Skips the test where the loopback has no IPv6."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error.strerror}")


def padded_by_libtorrent(folder: Path, name: str, lengths: dict[str, int], piece_length: int) -> bytes:
    """A v1 torrent with BEP 47 pad files as libtorrent itself creates it; the data comes to lie in `folder`."""
    rng = random.Random(name)
    for path, length in lengths.items():
        file = folder / name / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(rng.randbytes(length))
    storage = libtorrent.file_storage()
    kinds = libtorrent.create_torrent
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # what libtorrent 2.1 has instead, 2.0 lacks
        libtorrent.add_files(storage, str(folder / name))
        creator = libtorrent.create_torrent(storage, piece_length, kinds.v1_only | kinds.canonical_files)
        libtorrent.set_piece_hashes(creator, str(folder))
        torrent: bytes = libtorrent.bencode(creator.generate())
    return torrent
