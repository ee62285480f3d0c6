"""A torrent of 100,000 files: loading it, choosing among its files, and what a process keeps of their places.

Run: pytest --benchmark-only bench/micro/test_many_files_bench.py
"""

from __future__ import annotations

import pytest

from btfast._bencode import encode
from btfast.metainfo.selection import Selection, Wanted
from btfast.metainfo.torrent import Torrent
from btfast.storage.slots import Slots

FILES = 100_000
PIECE = 1 << 20


@pytest.fixture(scope="module")
def data() -> bytes:
    files = [
        {"length": 10_000 + n % 7, "path": [f"dir{n // 1000:03d}", f"sub{n // 100 % 10}", f"some file name {n:06d}.bin"]}
        for n in range(FILES)
    ]
    total = sum(10_000 + n % 7 for n in range(FILES))
    return encode({"info": {"name": "many", "piece length": PIECE, "pieces": bytes(20 * -(-total // PIECE)), "files": files}})


@pytest.fixture(scope="module")
def torrent(data: bytes) -> Torrent:
    return Torrent.parse(data)


def test_load(benchmark, data):
    assert len(benchmark(Torrent.parse, data).files) == FILES


@pytest.mark.parametrize(
    "wanted",
    [Wanted(files=((5, 5), (50_000, 50_000))), Wanted(select=("*7.bin",)), Wanted(first_last=True)],
    ids=["index", "glob", "first and last"],
)
def test_choose(benchmark, torrent, wanted):
    assert benchmark(Selection, torrent, wanted).files


def test_slots_of_the_parts_file(benchmark, torrent):
    assert 0 in benchmark(Slots, torrent.geometry, frozenset())
