"""Where the files of one torrent go: what its workers are told."""

from __future__ import annotations

import hashlib

from btfast.config import Settings
from btfast.engine.control import Add
from btfast.metainfo.links import lead
from btfast.metainfo.paths import parts_name
from btfast.metainfo.selection import Selection
from btfast.metainfo.torrent import Torrent
from btfast.storage.messages import Link, OpenTorrent


def order_of(number: int, add: Add, torrent: Torrent, selection: Selection, settings: Settings) -> OpenTorrent:
    """The order to open item `number`."""
    root = () if torrent.single_file else (torrent.name,)
    leading = lead(torrent.files)
    links = [
        Link(file, leads.text, "/".join((*root, *leads.leads_to))) if leads is not None else Link(file, "", "")
        for file, leads in leading.items()
    ]
    return OpenTorrent(
        torrent=number,
        directory=add.directory,
        paths=[torrent.path_text(file) for file in range(len(torrent.files))],
        lengths=[file.length for file in torrent.files],
        pads=[number for number, file in enumerate(torrent.files) if file.pad],
        piece_length=torrent.piece_length,
        aligned=torrent.info_hash_v1 is None,
        in_place=settings.in_place or add.seed,
        io=settings.io,
        parts=parts_name(torrent.name, torrent.info_hash),
        mark=hashlib.sha256(torrent.info_hash).hexdigest()[:16].encode(),  # which says nobody else what to look for
        levels=selection.levels if selection.partial else b"",
        links=links,
    )
