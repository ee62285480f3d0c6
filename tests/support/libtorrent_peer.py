"""libtorrent as a peer on loopback, in the test's own process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import libtorrent
from leaks import wait_until
from support.torrents import Made


class Libtorrent:
    """A libtorrent session that speaks plain TCP on loopback and finds nobody by itself, unless `settings` say so."""

    def __init__(self, host: str = "127.0.0.1", **settings: Any) -> None:
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
                **settings,
            }
        )
        assert wait_until(lambda: self._session.listen_port() != 0, patience=60), "libtorrent does not listen"

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
    def peer(self) -> tuple[str, int]:
        return self._host, self._session.listen_port()

    @property
    def address(self) -> str:
        host, port = self.peer
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def add(
        self, torrent: bytes, folder: Path, *, seed: bool = False, rate: int = 0, trackers: tuple[str, ...] = ()
    ) -> libtorrent.torrent_handle:
        """Downloads into `folder`, or goes on from what is there; `seed`: all is there, no need to look.

        `rate` limits what it sends, in bytes a second; 0 for no limit.
        """
        parameters = libtorrent.add_torrent_params()
        parameters.ti = libtorrent.torrent_info(torrent)
        parameters.trackers = list(trackers)
        if seed:
            parameters.flags |= libtorrent.torrent_flags.seed_mode
        return self._add(parameters, folder, rate)

    def add_magnet(self, magnet: str, folder: Path) -> libtorrent.torrent_handle:
        """Downloads what a magnet names into `folder`."""
        return self._add(libtorrent.parse_magnet_uri(magnet), folder, 0)

    def _add(self, parameters: libtorrent.add_torrent_params, folder: Path, rate: int) -> libtorrent.torrent_handle:
        parameters.save_path = str(folder)
        parameters.flags &= ~(libtorrent.torrent_flags.auto_managed | libtorrent.torrent_flags.paused)
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
        assert wait_until(lambda: handle.status().current_tracker != "", patience=60), (
            "no tracker has answered libtorrent"
        )

    def add_what_is_there(self, torrent: bytes, folder: Path, *, rate: int = 0) -> libtorrent.torrent_handle:
        """Offers the pieces that are right in `folder`, once it has looked."""
        handle = self.add(torrent, folder, rate=rate)
        states = libtorrent.torrent_status.states
        busy = (states.checking_files, states.checking_resume_data)
        assert wait_until(lambda: handle.status().state not in busy, patience=60), "libtorrent is still checking"
        return handle


def finish(handle: libtorrent.torrent_handle, patience: float = 60) -> None:
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
