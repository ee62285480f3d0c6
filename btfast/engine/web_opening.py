"""Whether a torrent has web seeds; only then what speaks with them is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btfast.engine.context import Context
from btfast.engine.control import Add
from btfast.engine.fetching import Fetching
from btfast.engine.throttle import Line
from btfast.events import Peer, Warning
from btfast.metainfo.torrent import Torrent

if TYPE_CHECKING:
    from btfast.engine.web_seeds import WebSeeds
    from btfast.swarm.web_seed import WebSeed


def open_web_seeds(
    context: Context, add: Add, torrent: Torrent, fetching: Fetching, line: Line | None
) -> WebSeeds | None:
    """Those of the torrent and of the item; None where there are none or nothing is missing."""
    of_torrent = torrent.url_list or torrent.httpseeds
    if add.seed or fetching.pieces.complete or not (add.web_seeds or add.found_seeds or of_torrent):
        return None
    from btfast.engine.web_seeds import WebSeeds, name_of

    def report(seed: WebSeed, change: str, reason: str) -> None:
        context.emit(Peer(id=add.id, address=name_of(seed), change=change, reason=reason, client="web seed"))

    def warn(message: str) -> None:
        context.emit(Warning(id=add.id, message=f"{torrent.name}: {message}"))

    return WebSeeds(
        context, torrent, fetching, line, named=add.web_seeds, found=add.found_seeds, report=report, warn=warn
    )
