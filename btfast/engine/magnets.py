"""Items that name no more than an info-hash: from the cache, or else from peers, and back into the cache."""

from __future__ import annotations

import os

import msgspec

from btfast._bencode import decode, encode
from btfast.engine.context import Context
from btfast.engine.control import Add
from btfast.engine.dialing import Dialer
from btfast.engine.resolving import Resolving, torrent_of
from btfast.engine.state import state_directory
from btfast.errors import Error
from btfast.events import Warning
from btfast.metainfo.magnet import Magnet
from btfast.metainfo.selection import Wanted
from btfast.metainfo.torrent import Torrent
from btfast.storage.metadata_cache import MetadataCache

MOST_NAMED = 100  # peers of one link


class Magnets:
    """One a network process."""

    def __init__(self, context: Context, dialer: Dialer) -> None:
        self._context = context
        self._dialer = dialer
        state = state_directory(context.settings)
        self._cache = MetadataCache(os.path.join(state, "metadata")) if state else None

    def read(self, add: Add) -> tuple[Add, Magnet]:
        """The item's link, and the item with the peers and files that the link names. Raises InputError."""
        magnet = Magnet.parse(add.magnet)
        peers = dict.fromkeys((*add.peers, *magnet.peers[:MOST_NAMED]))
        wanted = add.wanted or Wanted()
        if magnet.select_only and not wanted.files and not wanted.select:  # what the user says goes before the link
            wanted = msgspec.structs.replace(wanted, files=magnet.select_only)
        return msgspec.structs.replace(add, peers=list(peers), wanted=wanted), magnet

    def known(self, magnet: Magnet) -> Torrent | None:
        """From an earlier run."""
        for info_hash in magnet.swarm_hashes:
            metadata = self._cache.load(info_hash) if self._cache is not None else None
            if metadata is not None:
                try:
                    torrent = torrent_of(magnet, metadata)
                except Error:
                    continue  # asking again leads to the message
                self.recall_layers(torrent)
                return torrent
        return None

    def recall_layers(self, torrent: Torrent) -> None:
        """Piece layers that a torrent lacks, as far as an earlier run has learned them."""
        layers = self._cache.load_layers(torrent.info_hash) if torrent.hashes.missing and self._cache is not None else None
        if layers is None:
            return
        try:
            for root, layer in decode(layers).items():
                torrent.hashes.add_layer(root, layer)
        except (ValueError, AttributeError, TypeError):
            return  # damaged: peers are asked for what is missing

    def resolving(self, add: Add, magnet: Magnet) -> Resolving:
        return Resolving(self._context, self._dialer, add, magnet)

    def keep(self, torrent: Torrent) -> None:
        """For later runs. May be called in a thread."""
        cache = self._cache
        if cache is None:
            return
        try:
            for info_hash in torrent.swarm_hashes:
                cache.save(info_hash, torrent.info_raw)
            if torrent.piece_layers:
                self._keep_layers(cache, torrent)
        except OSError as error:
            self._refused(error)

    def keep_layers(self, torrent: Torrent) -> None:
        """Some have come from peers; its metadata is here, or came in a file."""
        if self._cache is not None:
            try:
                self._keep_layers(self._cache, torrent)
            except OSError as error:
                self._refused(error)

    def _keep_layers(self, cache: MetadataCache, torrent: Torrent) -> None:
        cache.save_layers(torrent.info_hash, encode(dict(torrent.piece_layers)))

    def _refused(self, error: OSError) -> None:
        self._cache = None
        why = f"{error.filename or 'its directory'}: {error.strerror}: choose another with --state"
        self._context.loop.call_soon_threadsafe(self._warn, f"metadata is not kept for later runs: {why}")

    def _warn(self, message: str) -> None:
        self._context.emit(Warning(id=None, message=message))
