"""Where the files of one torrent go: what its workers are told."""

from __future__ import annotations

from btfast.config import Settings
from btfast.engine.control import Add
from btfast.metainfo.paths import parts_name
from btfast.metainfo.selection import Selection
from btfast.metainfo.torrent import Torrent
from btfast.storage.messages import OpenTorrent


def order_of(number: int, add: Add, torrent: Torrent, selection: Selection, settings: Settings) -> OpenTorrent:
    """The order to open item `number`."""
    return OpenTorrent(
        torrent=number,
        directory=add.directory,
        paths=[str(torrent.file_path(file)) for file in range(len(torrent.files))],
        lengths=[file.length for file in torrent.files],
        pads=[number for number, file in enumerate(torrent.files) if file.pad],
        piece_length=torrent.piece_length,
        aligned=torrent.info_hash_v1 is None,
        in_place=settings.in_place or add.seed,
        io=settings.io,
        parts=parts_name(torrent.name, torrent.info_hash),
        levels=selection.levels if selection.partial else b"",
    )
