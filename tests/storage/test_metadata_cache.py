"""The cache of info dicts: what is read is right, what is kept is bounded."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from support.disks import permissions_bind

from btfast.storage.metadata_cache import MetadataCache


def digest(data: bytes) -> bytes:
    return hashlib.sha1(data).digest()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_was_saved_is_found_by_another_run(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "metadata"
    MetadataCache(str(folder)).save(digest(b"info"), b"info")
    assert MetadataCache(str(folder)).load(digest(b"info")) == b"info"
    assert names(folder) == {digest(b"info").hex()}
    assert MetadataCache(str(folder)).load(digest(b"other")) is None


def test_nothing_is_made_before_something_is_saved(tmp_path: Path) -> None:
    assert MetadataCache(str(tmp_path / "none")).load(digest(b"info")) is None
    assert names(tmp_path) == set()


@pytest.mark.parametrize("damage", [b"", b"inf", b"infoo", bytes(2000)])
def test_what_is_damaged_counts_as_missing_and_goes(tmp_path: Path, damage: bytes) -> None:
    cache = MetadataCache(str(tmp_path), largest=1000)
    (tmp_path / digest(b"info").hex()).write_bytes(damage)
    assert cache.load(digest(b"info")) is None
    assert names(tmp_path) == set()
    cache.save(digest(b"info"), b"info")
    assert cache.load(digest(b"info")) == b"info"


def test_what_is_too_large_is_not_kept(tmp_path: Path) -> None:
    cache = MetadataCache(str(tmp_path), largest=10)
    cache.save(digest(bytes(11)), bytes(11))
    assert names(tmp_path) == set()


def saved(cache: MetadataCache, folder: Path, count: int, size: int = 4) -> list[bytes]:
    """So many entries, each a second younger than the one before."""
    every = [number.to_bytes(size, "big") for number in range(count)]
    for age, data in enumerate(every):
        cache.save(digest(data), data)
        path = folder / digest(data).hex()
        if path.exists():
            os.utime(path, (1000 + age, 1000 + age))
    return every


def test_the_oldest_go_when_there_are_too_many(tmp_path: Path) -> None:
    cache = MetadataCache(str(tmp_path), most_files=8)
    every = saved(cache, tmp_path, 30)
    assert len(names(tmp_path)) <= 8
    assert cache.load(every[-1]) is None
    assert cache.load(digest(every[-1])) == every[-1]
    assert cache.load(digest(every[0])) is None


def test_their_bytes_are_bounded_too(tmp_path: Path) -> None:
    saved(MetadataCache(str(tmp_path), most_bytes=1000), tmp_path, 50, size=100)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1000


def test_what_an_earlier_run_left_counts(tmp_path: Path) -> None:
    saved(MetadataCache(str(tmp_path)), tmp_path, 20)
    (tmp_path / "draft.123.part").write_bytes(b"cut off")
    os.utime(tmp_path / "draft.123.part", (1, 1))
    MetadataCache(str(tmp_path), most_files=10).save(digest(b"new"), b"new")
    assert len(names(tmp_path)) <= 10
    assert "draft.123.part" not in names(tmp_path)


def test_what_is_used_is_kept(tmp_path: Path) -> None:
    cache = MetadataCache(str(tmp_path), most_files=8)
    every = saved(cache, tmp_path, 8)
    assert cache.load(digest(every[0])) == every[0]
    cache.save(digest(b"one more"), b"one more")
    assert cache.load(digest(every[0])) == every[0]
    assert cache.load(digest(every[1])) is None


def test_where_nothing_can_be_written_it_says_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with permissions_bind(), pytest.raises(OSError, match="denied"):
        MetadataCache(str(tmp_path / "metadata")).save(digest(b"info"), b"info")
