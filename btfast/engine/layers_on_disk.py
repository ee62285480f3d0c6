"""Piece layers that a torrent lacks (BEP 52), made from its own files where those are complete already.

A file's root proves all of it at once: what lies there and leads to the root is right, and its piece layer is known then.
"""

from __future__ import annotations

import asyncio

from btfast._bitfield import Bitfield
from btfast.engine.context import Context
from btfast.metainfo import merkle
from btfast.metainfo.torrent import Torrent
from btfast.storage.layout import Layout

_BYTES_A_QUESTION = 64 << 20


async def layers_on_disk(
    context: Context, torrent: Torrent, layout: Layout, touched: Bitfield, have: Bitfield
) -> Bitfield:
    """Learns layers of the files with `touched` pieces, and sets in `have` what that proves; returns what is left to look at."""
    missing = set(torrent.hashes.missing)
    left = touched.copy()
    for number, file in enumerate(torrent.files):
        if file.pieces_root not in missing:
            continue
        pieces = torrent.geometry.file_pieces(number)
        if not any(touched[index] for index in pieces):
            continue
        layer = await _layer(context, torrent, layout, pieces)
        assert file.pieces_root is not None
        try:
            torrent.hashes.add_layer(file.pieces_root, layer)
        except ValueError:
            continue  # it is not complete
        for index in pieces:
            have.set(index)
            left.clear(index)
    return left


async def _layer(context: Context, torrent: Torrent, layout: Layout, pieces: range) -> bytes:
    """What the pieces of a file hash to; b"" where something is not there."""
    level = merkle.piece_level(torrent.piece_length)
    step = max(1, _BYTES_A_QUESTION // torrent.piece_length)
    width = step * len(context.workers.workers)
    found = []
    for at in range(pieces.start, pieces.stop, width):
        runs = [range(first, min(first + step, pieces.stop)) for first in range(at, min(at + width, pieces.stop), step)]
        for leaves in await asyncio.gather(
            *(context.workers.read_leaves(layout.torrent, run.start, len(run)) for run in runs)
        ):
            if not leaves:
                return b""
            found.append(merkle.raised(leaves, 0, level))
    return b"".join(found)
