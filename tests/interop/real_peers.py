"""Other people's clients on loopback: libtorrent in this process, aria2 in one of its own, and btfast's own tracker."""

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
from types import TracebackType

import libtorrent
import pytest
from leaks import wait_until
from support.commands import environment, running
from support.torrents import Made


class Libtorrent:
    """A libtorrent session that speaks plain TCP on loopback and finds nobody by itself."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._host = host
        listen = f"[{host}]:0" if ":" in host else f"{host}:0"
        self._session = libtorrent.session(
            {
                "listen_interfaces": listen,
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
                "max_retry_port_bind": 0,
                "min_reconnect_time": 1,
                "alert_mask": 0,
            }
        )
        assert wait_until(lambda: self._session.listen_port() != 0, patience=10), "libtorrent does not listen"

    def __enter__(self) -> Libtorrent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """Closes every connection and ends the session."""
        if self._session is not None:
            self._session.pause()
            self._session = None

    @property
    def address(self) -> str:
        port = self._session.listen_port()
        return f"[{self._host}]:{port}" if ":" in self._host else f"{self._host}:{port}"

    def add(
        self, torrent: bytes, folder: Path, *, seed: bool = False, rate: int = 0, trackers: tuple[str, ...] = ()
    ) -> libtorrent.torrent_handle:
        """Downloads into `folder`, or goes on from what is there; `seed`: all is there, no need to look.

        `rate` limits what it sends, in bytes a second; 0 for no limit.
        """
        parameters = libtorrent.add_torrent_params()
        parameters.ti = libtorrent.torrent_info(torrent)
        parameters.save_path = str(folder)
        parameters.trackers = list(trackers)
        flags = libtorrent.torrent_flags
        parameters.flags &= ~(flags.auto_managed | flags.paused)
        if seed:
            parameters.flags |= flags.seed_mode
        handle = self._session.add_torrent(parameters)
        if rate:
            handle.set_upload_limit(rate)
        return handle

    def handles(self) -> list[libtorrent.torrent_handle]:
        found: list[libtorrent.torrent_handle] = self._session.get_torrents()
        return found

    def statuses(self) -> list[libtorrent.torrent_status]:
        """How its torrents are doing."""
        return [handle.status() for handle in self.handles()]

    def announced(self, handle: libtorrent.torrent_handle) -> None:
        """Waits until a tracker has answered it."""
        assert wait_until(lambda: handle.status().current_tracker != "", patience=20), (
            "no tracker has answered libtorrent"
        )

    def add_what_is_there(self, torrent: bytes, folder: Path, *, rate: int = 0) -> libtorrent.torrent_handle:
        """Offers the pieces that are right in `folder`, once it has looked."""
        handle = self.add(torrent, folder, rate=rate)
        states = libtorrent.torrent_status.states
        busy = (states.checking_files, states.checking_resume_data)
        assert wait_until(lambda: handle.status().state not in busy, patience=20), "libtorrent is still checking"
        return handle


def finish(handle: libtorrent.torrent_handle, patience: float = 40) -> None:
    """Waits until libtorrent has everything, on disk."""
    assert wait_until(lambda: handle.status().is_seeding, patience=patience), _describe(handle)
    handle.flush_cache()


def _describe(handle: libtorrent.torrent_handle) -> str:
    status = handle.status()
    peers = [f"{peer.ip} {peer.client!r} down {peer.total_download}" for peer in handle.get_peer_info()]
    return f"libtorrent: {status.state} {status.progress:.3f} {status.errc.message()} peers: {peers}"


@contextlib.contextmanager
def libtorrent_seeds(made: Made, folder: Path, *, rate: int = 0, host: str = "127.0.0.1") -> Iterator[Libtorrent]:
    """One libtorrent session that has everything."""
    with Libtorrent(host) as peer:
        made.lay_out(folder)
        peer.add(made.torrent, folder, seed=True, rate=rate)
        yield peer


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
