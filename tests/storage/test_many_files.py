"""A torrent of 30,000 files, from one btfast to another."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.commands import get, run
from support.torrents import make

from btfast.client.session import Session
from btfast.config import Settings

FILES = {f"{n % 100:02}/{n // 1000:02}/{n:05}.dat": n * 37 % 300 for n in range(30_000)}


@pytest.mark.timeout(180)
async def test_30000_files_arrive(tmp_path: Path) -> None:
    made = make(FILES, name="many", piece_length=256 << 10)
    made.lay_out(tmp_path / "source")
    async with Session(Settings(bind="127.0.0.1", port=0, workers=1, memory="32MiB", trackers=False)) as session:
        await session.add(made.torrent, tmp_path / "source", seed=True)
        peer = f"127.0.0.1:{await session.port()}"
        outcome = await asyncio.to_thread(
            run, tmp_path, *get(made.save(tmp_path), peers=(peer,)), patience=120
        )
    assert outcome.code == 0, outcome.err
    assert len(outcome.one("complete")["files"]) == 30_000
    wrong = [path for path, content in made.contents().items() if (tmp_path / "out" / path).read_bytes() != content]
    assert wrong == []
    assert list((tmp_path / "out").rglob("*.part")) == []
