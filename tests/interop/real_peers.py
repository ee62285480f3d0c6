"""Other people's clients on loopback: aria2 in a process of its own, btfast's own tracker, torrents that libtorrent makes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import libtorrent
import pytest
from support.commands import environment, running


@contextlib.contextmanager
def tracker(home: Path, host: str = "127.0.0.1") -> Iterator[str]:
    """`btfast tracker` on a free port; yields its announce URL."""
    with running(home, "tracker", "--bind", host, "--port", "0", "--json") as command:
        assert command.process.stdout is not None
        yield json.loads(command.process.stdout.readline())["url"]


def aria2_program() -> str:
    """Where aria2 is; the test is skipped without it (and fails under CI)."""
    program = shutil.which("aria2c")
    if program is None:
        pytest.skip("missing peer: aria2c is not installed (Debian: apt-get install aria2)")
    return program


def needs_ipv6() -> None:
    """Skips the test where the loopback has no IPv6."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error.strerror}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


@contextlib.contextmanager
def aria2(home: Path, torrent: Path, folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """aria2 with one torrent; yields the process and the port that it listens on."""
    port = free_port()
    words = [
        "--no-conf", "--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false", "--disable-ipv6=true",
        "--file-allocation=none", "--allow-overwrite=true", "--summary-interval=0", f"--listen-port={port}",
        "--bt-tracker-interval=1", f"--dir={folder}", f"--stop-with-process={os.getpid()}",
    ]  # fmt: skip
    process = subprocess.Popen(
        [aria2_program(), *words, *options, str(torrent)],
        cwd=home, env=environment(home), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield process, port
    finally:
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


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
