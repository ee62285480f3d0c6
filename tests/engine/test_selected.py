"""How much of what is wanted is here, and when a torrent is a partial seed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from support.torrents import PIECE, make

from btfast.config import Settings
from btfast.engine.control import Add
from btfast.engine.placing import order_of
from btfast.engine.selected import Selected
from btfast.metainfo.selection import Selection, Wanted
from btfast.metainfo.torrent import Torrent
from btfast.storage.finish import survey
from btfast.storage.layout import Layout
from btfast.swarm.pieces import Pieces

MADE = make({"a": PIECE + 1000, "b": PIECE, "c": PIECE + 5000}, name="part")  # pieces: 0 a, 1 a|b, 2 b|c, 3 c


def selected(tmp_path: Path, wanted: Wanted) -> tuple[Selected, Pieces, Layout]:
    torrent = Torrent.parse(MADE.torrent)
    selection = Selection(torrent, wanted)
    pieces = Pieces(torrent.geometry, wanted=selection.piece_levels or True)
    layout = Layout(order_of(1, Add(id=1, source="", directory=str(tmp_path)), torrent, selection, Settings()))
    context: Any = None
    return Selected(context, torrent, selection, layout, pieces), pieces, layout


def test_bytes_of_wanted_files_are_counted_and_those_of_the_torrent(tmp_path: Path) -> None:
    chosen, pieces, layout = selected(tmp_path, Wanted(files=((1, 1),)))
    assert (chosen.total, chosen.done, chosen.left, chosen.lacks()) == (PIECE, 0, PIECE, 2)
    assert chosen.missing == len(MADE.data)
    assert not chosen.partial_seed
    assert chosen.announce_event(None) is None
    pieces.found([1, 2])
    chosen.handle_found([1])
    assert (chosen.done, chosen.missing) == (PIECE - 1000, len(MADE.data) - PIECE)
    chosen.handle_verified(2)
    assert (chosen.done, chosen.left, chosen.lacks()) == (PIECE, 0, 0)
    assert layout.in_parts == {2}
    assert chosen.partial_seed
    assert [chosen.announce_event(event) for event in (None, "started", "stopped")] == ["paused", "started", "stopped"]
    assert chosen.eta(1000) is None


def test_a_whole_torrent_is_no_partial_seed(tmp_path: Path) -> None:
    chosen, pieces, layout = selected(tmp_path, Wanted())
    assert chosen.lacks() == 4
    pieces.found(range(4))
    for index in range(4):
        chosen.handle_verified(index)
    assert (chosen.left, chosen.missing, chosen.partial_seed, layout.in_parts) == (0, 0, False, set())
    assert chosen.announce_event(None) is None


def test_a_parts_file_is_removed_where_one_was_seen_and_not_looked_for_elsewhere(tmp_path: Path) -> None:
    chosen, _, layout = selected(tmp_path, Wanted())
    parts = Path(layout.path(layout.parts_file))
    parts.write_bytes(b"of an earlier choice of files")
    chosen.parts_there = survey(layout).parts
    asyncio.run(chosen.tidy())
    assert not parts.exists()
    chosen.parts_there = survey(layout).parts
    parts.write_bytes(b"of somebody who came later")
    asyncio.run(chosen.tidy())
    assert parts.exists()
