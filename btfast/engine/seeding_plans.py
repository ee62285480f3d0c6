"""Whether a seed chooses what its peers hear of; only then what does so is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btfast.engine.connection import PeerConnection
from btfast.engine.context import Context
from btfast.metainfo.torrent import Torrent

if TYPE_CHECKING:
    from btfast.engine.revealing import Revealing
    from btfast.engine.suggesting import Suggesting


def open_plans(
    context: Context, torrent: Torrent, peers: dict[int, PeerConnection], *, seed: bool
) -> tuple[Revealing | None, Suggesting | None]:
    """At most one of them; none for who fetches."""
    if not seed:
        return None, None
    if context.settings.super_seed:
        from btfast.engine.revealing import Revealing

        return Revealing(context, torrent.piece_count, peers), None
    from btfast.engine.suggesting import MOST_PIECES, Suggesting

    return None, Suggesting(context, torrent.geometry, peers) if torrent.piece_count <= MOST_PIECES else None
