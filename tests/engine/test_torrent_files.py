"""The .torrent files of `get --metadata-only`: written in batches, and nobody waits for one that failed."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest
from support.disks import fill, small_disk
from support.torrents import make

from btfast.engine.torrent_file import TorrentFiles
from btfast.errors import StorageError
from btfast.metainfo.torrent import Torrent

MANY = [Torrent.parse(make(1000 + n, name=f"file {n}").torrent, what="made") for n in range(5)]


async def test_each_gets_its_file(tmp_path: Path) -> None:
    files = TorrentFiles()
    called: list[int] = []
    names = await asyncio.gather(
        *[files.save(str(tmp_path), torrent, lambda n=n: called.append(n)) for n, torrent in enumerate(MANY)]  # type: ignore[misc]
    )
    assert called == list(range(5))
    assert sorted(os.listdir(tmp_path)) == sorted(names) == [f"file {n}.torrent" for n in range(5)]
    assert [(tmp_path / name).read_bytes() for name in names] == [torrent.raw for torrent in MANY]


async def test_a_pipe_of_that_name_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "file 0.torrent")
    try:
        async with asyncio.timeout(60):
            name = await TorrentFiles().save(str(tmp_path), MANY[0])
    finally:
        os.close(os.open(tmp_path / "file 0.torrent", os.O_RDWR | os.O_NONBLOCK))  # whoever waits at it goes on
    assert name != "file 0.torrent"
    assert (tmp_path / name).read_bytes() == MANY[0].raw


async def test_a_system_without_fdatasync_keeps_them_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fdatasync", raising=False)
    assert await TorrentFiles().save(str(tmp_path), MANY[0]) == "file 0.torrent"


async def test_a_bug_reaches_everybody_who_waits_for_the_batch(tmp_path: Path) -> None:
    def bug() -> None:
        raise ZeroDivisionError("oops")

    files = TorrentFiles()
    async with asyncio.timeout(60):
        saved = [files.save(str(tmp_path), torrent, bug if torrent is MANY[1] else None) for torrent in MANY]
        outcomes = await asyncio.gather(*saved, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ZeroDivisionError] * 5
        assert await files.save(str(tmp_path), MANY[0]) == "file 0.torrent"


async def test_a_full_disk_is_told_and_keeps_nothing_half_written(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=64k") as disk:
        fill(disk / "full")
        with pytest.raises(StorageError, match="No space left"):
            await TorrentFiles().save(str(disk), MANY[0])
        assert os.listdir(disk) == ["full"]


async def test_files_of_one_name_in_one_batch_each_get_one(tmp_path: Path) -> None:
    same = [Torrent.parse(make(1000, name="one name", seed=n).torrent, what="made") for n in range(3)]
    files = TorrentFiles()
    names = await asyncio.gather(*[files.save(str(tmp_path / "new"), torrent) for torrent in same])
    assert names[0] == "one name.torrent"
    assert sorted(os.listdir(tmp_path / "new")) == sorted(set(names))
    assert [(tmp_path / "new" / name).read_bytes() for name in names] == [torrent.raw for torrent in same]


async def test_files_without_links_do_not_replace_one_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no links here")

    monkeypatch.setattr(os, "link", link)
    same = [Torrent.parse(make(1000, name="one name", seed=n).torrent, what="made") for n in range(3)]
    files = TorrentFiles()
    names = await asyncio.gather(*[files.save(str(tmp_path), torrent) for torrent in same])
    assert sorted(os.listdir(tmp_path)) == sorted(set(names))
    assert [(tmp_path / name).read_bytes() for name in names] == [torrent.raw for torrent in same]


async def test_a_batch_that_a_bug_ends_leaves_no_drafts(tmp_path: Path) -> None:
    def bug() -> None:
        raise ZeroDivisionError("oops")

    files = TorrentFiles()
    saved = [files.save(str(tmp_path), torrent, bug) for torrent in MANY]
    await asyncio.gather(*saved, return_exceptions=True)
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]
