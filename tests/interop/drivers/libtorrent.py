"""libtorrent from PyPI, in the test's own process."""

from __future__ import annotations

from pathlib import Path

import libtorrent
from drivers.base import Driver
from support.libtorrent_peer import Libtorrent

FORCED, ENABLED, DISABLED = 0, 1, 2
RC4 = 2


class LibtorrentDriver(Driver):
    name = "libtorrent"
    _peer: Libtorrent | None = None

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        policy = FORCED if self.habits.encrypted else DISABLED
        self._peer = Libtorrent(
            listen_interfaces=f"127.0.0.1:{self.port}", out_enc_policy=policy, in_enc_policy=policy,
            allowed_enc_level=RC4 if self.habits.encrypted else 3,
            enable_dht=bool(self.habits.dht), dht_bootstrap_nodes=self.habits.dht, dht_restrict_routing_ips=False,
            dht_restrict_search_ips=False, dht_ignore_dark_internet=False, dht_block_ratelimit=100_000,
        )  # fmt: skip
        if isinstance(self.source, Path):
            self._handle = self._peer.add(self.source.read_bytes(), self.folder)
        else:
            self._handle = self._peer.add_magnet(self.source, self.folder)
        if not self.habits.pex:
            self._handle.set_flags(libtorrent.torrent_flags.disable_pex)

    def complete(self) -> bool:
        if not self._handle.status().is_seeding:
            return False
        self._handle.flush_cache()
        return True

    def last_words(self) -> str:
        status = self._handle.status()
        peers = [f"{peer.ip} {peer.client!r} down {peer.total_download}" for peer in self._handle.get_peer_info()]
        return f"{status.state} {status.progress:.3f} {status.errc.message()} peers: {peers}"

    def stop(self) -> None:
        peer, self._peer = self._peer, None
        if peer is not None:
            peer.leave()
