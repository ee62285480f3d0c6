"""Whether a torrent has a v2 half (BEP 52); only then what speaks of hashes is loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from btfast.engine.context import Context
from btfast.errors import Error
from btfast.metainfo.torrent import Torrent
from btfast.storage.layout import Layout
from btfast.swarm.pieces import Pieces

if TYPE_CHECKING:
    from btfast.engine.hash_exchange import HashExchange, Peers


def open_exchange(
    context: Context, torrent: Torrent, layout: Layout, pieces: Pieces, peers: Peers, learned: Callable[[bytes], None],
    guilty: Callable[[list[int]], None], failed: Callable[[Error], None], proved: Callable[[], None],
) -> HashExchange | None:  # fmt: skip
    """A torrent of v1 alone has none. `proved`: what had to be looked at again was."""
    if torrent.info_hash_v2 is None:
        return None
    from btfast.engine.hash_exchange import HashExchange
    from btfast.engine.hash_serving import HashServing

    look = None
    if torrent.info_hash_v1 is not None and not torrent.hashes.complete and not pieces.complete:
        from btfast.engine.second_look import SecondLook

        look = SecondLook(context, torrent, layout, pieces, failed, proved)
    return HashExchange(context, torrent, peers, learned, failed, guilty, HashServing(context, torrent, layout, pieces), look)
