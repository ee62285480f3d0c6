"""What a run makes of what it finds: complete data of the wrong size, leftovers, full disks, data that is only served."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.commands import get, run
from support.torrents import assert_arrived, make, tree

from btfast.client.session import Session
from btfast.config import Settings
from btfast.engine import opening
from btfast.engine.opening import Found, survey_and_check
from btfast.errors import StorageError
from btfast.metainfo.selection import Selection
from btfast.metainfo.torrent import Torrent
from btfast.storage.layout import Layout
from btfast.storage.messages import GOOD, MISSING, CheckPieces, OpenTorrent, PiecesChecked, Surveyed

ALBUM = make({"a.bin": 300_000, "b/b.bin": 100_001, "empty": 0}, name="album")


class Workers:
    """Answers that all pieces are `state`, and counts the questions that wait for it."""

    def __init__(self, count: int, state: int) -> None:
        self.workers = [None] * count
        self._state = state
        self.asked: list[tuple[int, int]] = []  # torrent's piece, worker
        self.waiting = self.most = 0

    async def check(self, order: CheckPieces, worker: int) -> PiecesChecked:
        self.asked.append((order.first, worker % len(self.workers)))
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        await asyncio.sleep(0)
        self.waiting -= 1
        return PiecesChecked(order.torrent, order.first, bytes([self._state]) * (len(order.hashes) // 20))


async def opened(workers: Workers, data: bytes, directory: Path, number: int = 0) -> Found:
    torrent = Torrent.parse(data, what="test")
    layout = Layout(
        OpenTorrent(
            torrent=number, directory=str(directory), paths=[str(torrent.file_path(n)) for n in range(len(torrent.files))],
            lengths=[file.length for file in torrent.files], pads=[], piece_length=torrent.piece_length, in_place=False,
            io="auto",
        )
    )  # fmt: skip
    context: Any = SimpleNamespace(workers=workers, settings=Settings(), emit=None)
    return await survey_and_check(context, 0, torrent, layout, Selection(torrent), writing=True)


def test_complete_data_of_the_wrong_size_is_put_right(tmp_path: Path) -> None:
    ALBUM.lay_out(tmp_path / "out")
    for name in ("a.bin", "empty"):
        with (tmp_path / "out/album" / name).open("ab") as file:
            file.write(b"garbage")
    done = run(tmp_path, *get(ALBUM.save(tmp_path)))
    assert done.code == 0, done.err
    assert ["album/empty: a file that is not the torrent's was there" in warning for warning in done.warnings] == [True]
    assert tree(tmp_path / "out") == ALBUM.contents() | {"album/empty.old": b"garbage"}
    assert sorted(done.one("complete")["files"]) == sorted(ALBUM.files)


def test_an_empty_leftover_beside_complete_data_is_no_reason_to_fetch_it_again(tmp_path: Path) -> None:
    ALBUM.lay_out(tmp_path / "out")
    (tmp_path / "out/album/a.bin.part").touch()
    inode = (tmp_path / "out/album/a.bin").stat().st_ino
    done = run(tmp_path, *get(ALBUM.save(tmp_path)))
    assert (done.code, done.one("complete")["downloaded"]) == (0, 0)
    assert_arrived(ALBUM, tmp_path / "out")
    assert (tmp_path / "out/album/a.bin").stat().st_ino == inode


async def test_serving_changes_nothing_on_disk(tmp_path: Path) -> None:
    ALBUM.lay_out(tmp_path / "source")
    (tmp_path / "source/album/empty").unlink()
    with (tmp_path / "source/album/a.bin").open("ab") as file:
        file.write(b"garbage behind it")
    before = tree(tmp_path)
    os.chmod(tmp_path / "source/album", 0o555)
    async with Session(Settings(bind="127.0.0.1", port=0, trackers=False, workers=1, seed_time=0.1)) as session:
        await (await session.add(ALBUM.torrent, tmp_path / "source", seed=True))
    assert tree(tmp_path) == before


async def test_a_check_has_few_questions_out_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_BYTES_A_QUESTION", 1)
    made = make(100 * 65536)
    made.lay_out(tmp_path)
    workers = Workers(3, GOOD)
    found = await opened(workers, made.torrent, tmp_path)
    assert found.have.all()
    assert workers.most == 6
    assert sorted(first for first, _ in workers.asked) == list(range(100))
    assert {worker for _, worker in workers.asked} == {0, 1, 2}


async def test_small_torrents_are_checked_by_all_workers(tmp_path: Path) -> None:
    made = make(1000)
    made.lay_out(tmp_path)
    workers = Workers(3, GOOD)
    for number in range(6):
        await opened(workers, made.torrent, tmp_path, number)
    assert sorted(worker for _, worker in workers.asked) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("state", "allocated", "free", "fits"),
    [
        (GOOD, 4096, 0, True),  # compressed: few blocks, and everything is there
        (MISSING, 65536 * 10, 0, True),  # preallocated, and still empty
        (MISSING, 4096, 65536 * 9, False),
        (MISSING, 0, 65536 * 10, True),
    ],
)
async def test_what_is_verified_or_allocated_needs_no_more_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: int, allocated: int, free: int, fits: bool
) -> None:
    found = Surveyed(torrent=0, unfinished=[0], final=[], free=free, allocated=allocated)
    monkeypatch.setattr(opening, "survey", lambda layout, *, writing: found)
    made = make(65536 * 10)
    (tmp_path / "data.bin.part").touch()
    if fits:
        await opened(Workers(1, state), made.torrent, tmp_path)
    else:
        with pytest.raises(StorageError, match="bytes are needed"):
            await opened(Workers(1, state), made.torrent, tmp_path)


async def test_a_disk_that_is_too_small_is_told_before_anything_is_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Surveyed(torrent=0, unfinished=[], final=[], free=1000, allocated=0)
    monkeypatch.setattr(opening, "survey", lambda layout, *, writing: found)
    workers = Workers(1, GOOD)
    with pytest.raises(StorageError, match="1000 are free"):
        await opened(workers, make(65536).torrent, tmp_path)
    assert workers.asked == []
