"""Whether a torrent has web seeds; only then what speaks with them is loaded."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from btfast.engine.context import Context
from btfast.engine.control import Add
from btfast.engine.fetching import Fetching
from btfast.engine.throttle import Line
from btfast.errors import Error
from btfast.events import Peer, Warning
from btfast.metainfo.torrent import Torrent
from btfast.storage.layout import Layout

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


def begin_accepting(
    context: Context, torrent: Torrent, layout: Layout, web: WebSeeds, unfinished: list[int], error: Error,
    done: asyncio.Future[None],
) -> asyncio.Task[list[str]] | None:  # fmt: skip
    """Takes stale files as they are, then resolves `done`; the task's result names them. None where no file is to be taken."""
    from btfast.engine.accepting import Accepting

    accepting = Accepting(context, torrent, layout, web, unfinished, error)
    if not accepting.wanted:
        return None

    async def run() -> list[str]:
        try:
            await accepting.run()
        except Error as failure:
            if not done.done():
                done.set_exception(failure)
        else:
            if not done.done():
                done.set_result(None)
        return accepting.names

    return context.loop.create_task(run())
