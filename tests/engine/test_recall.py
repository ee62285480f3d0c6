"""What the resume store is asked in the network process."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.torrents import make

from btfast.config import Settings
from btfast.engine.resuming import FILE, Resuming
from btfast.errors import InternalError
from btfast.metainfo.torrent import Torrent


async def test_whoever_asks_is_told_that_there_is_no_answer(tmp_path: Path) -> None:
    async def broken(*_: Any) -> None:
        raise InternalError("workers: gone")

    (tmp_path / FILE).touch()
    process: Any = SimpleNamespace(
        loop=asyncio.get_running_loop(), settings=Settings(state=str(tmp_path)), workers=SimpleNamespace(recall=broken)
    )
    resuming = Resuming(process, lambda *_: None)
    torrent = Torrent.parse(make(100_000).torrent)
    async with asyncio.timeout(60):
        asked = [resuming.recall(torrent, str(tmp_path), ".part") for _ in range(2)]
        assert [str(error) for error in await asyncio.gather(*asked, return_exceptions=True)] == ["workers: gone"] * 2
    with pytest.raises(InternalError):
        await resuming.recall(torrent, str(tmp_path), "")
