"""A torrent of 30,000 files, from one btfast to another."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.commands import get, run
from support.torrents import make

from btfast.client.session import Session
from btfast.config import Settings

FILES = {f"{n % 100:02}/{n // 1000:02}/{n:05}.dat": n * 37 % 300 for n in range(30_000)}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is room: a disk may take a minute to create and sync 60,000 files."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or shutil.disk_usage(memory).free < 1 << 30:
        yield tmp_path
    else:
        with tempfile.TemporaryDirectory(dir=memory) as name:
            yield Path(name)


@pytest.mark.timeout(600)
async def test_30000_files_arrive(folder: Path) -> None:
    made = make(FILES, name="many", piece_length=256 << 10)
    made.lay_out(folder / "source")
    async with Session(Settings(bind="127.0.0.1", port=0, workers=1, memory="32MiB", trackers=False)) as session:
        await session.add(made.torrent, folder / "source", seed=True)
        peer = f"127.0.0.1:{await session.port()}"
        outcome = await asyncio.to_thread(run, folder, *get(made.save(folder), peers=(peer,)), patience=300)
    assert outcome.code == 0, outcome.err
    assert len(outcome.one("complete")["files"]) == 30_000
    wrong = [path for path, content in made.contents().items() if (folder / "out" / path).read_bytes() != content]
    assert wrong == []
    assert list((folder / "out").rglob("*.part")) == []
