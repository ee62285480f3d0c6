"""What trackers are told of a torrent, and callers of single peers and files."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.torrents import make

from btfast import events
from btfast._arena import Arena
from btfast.config import Settings
from btfast.engine.account import Account
from btfast.engine.control import Add
from btfast.engine.engine import Engine
from btfast.engine.selected import Selected
from btfast.metainfo.selection import Selection
from btfast.metainfo.torrent import Torrent
from btfast.swarm.pieces import Pieces

MADE = make({"a": 1000})


@pytest.mark.parametrize(
    ("seed", "settings", "wanted"),
    [(False, Settings(), 0), (False, Settings(seed_time=5.0), 200), (True, Settings(), 200)],
)
def test_who_leaves_when_all_is_there_asks_for_no_peers(tmp_path: Path, seed: bool, settings: Settings, wanted: int) -> None:
    context: Any = SimpleNamespace(settings=settings, peer_id=bytes(20), port=1, key="")
    torrent = Torrent.parse(MADE.torrent)
    selected = Selected(context, torrent, Selection(torrent), SimpleNamespace(), Pieces(torrent.geometry))  # type: ignore[arg-type]
    account = Account(context, Add(id=0, source="", directory=str(tmp_path), seed=seed), torrent, selected, {})
    assert [account.announce_request(event).numwant for event in ("started", None, "stopped")] == [200, 200, 0]
    assert account.announce_request("completed").numwant == wanted


@pytest.mark.parametrize("details", [True, False])
async def test_a_caller_hears_of_single_peers_and_files_where_it_wants_to(details: bool) -> None:
    engine = Engine(Settings(), Arena.create(16 << 20), [], details=details)
    written: list[bytes] = []
    engine._transport = SimpleNamespace(  # type: ignore[assignment]
        get_write_buffer_size=lambda: 0, is_closing=lambda: False, write=written.append
    )
    engine._emit(events.Peer(id=0, address="1.2.3.4:5", change="connected", reason=""))
    engine._emit(events.FileDone(id=0, path="a", size=1))
    engine._emit(events.Added(id=0, source="a", directory="b"))
    await asyncio.sleep(0)
    assert bool(written) is details
    engine._emit(events.Warning(id=0, message="careful"))
    await asyncio.sleep(0)
    assert len(written) == 1 + details
