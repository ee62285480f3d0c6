"""Prove this installation: a tracker, a seeder and a download of generated data, all on this machine."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from btfast.cli.options import OUTPUT, Options

if TYPE_CHECKING:
    from pathlib import Path

    from btfast.client.session import Session
    from btfast.tracker.server import TrackerServer

OPTIONS = ("size", "workers", "memory", "io", *OUTPUT)
NAME = "btfast-demo.bin"
HOST = "127.0.0.1"
PIECE_LENGTH = 1 << 20
HASHED_AT_ONCE = 16  # pieces
SEEDER_PATIENCE = 15.0  # seconds until the seeder is known to the tracker
MARGIN = 64 << 20  # bytes of disk that stay free


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options only."""


def run(parsed: argparse.Namespace, options: Options) -> int:
    """Everything happens in a temporary directory, which is removed at the end."""
    import asyncio
    import shutil
    import tempfile
    from pathlib import Path

    from btfast.config import parse_size
    from btfast.errors import InputError, StorageError

    size = parse_size(options.text("size"))
    if size < 1:
        raise InputError("--size: 0: nothing to download: give at least 1 byte")
    with tempfile.TemporaryDirectory(prefix="btfast-demo-") as name:
        free = shutil.disk_usage(name).free
        if free < 2 * size + MARGIN:
            raise StorageError(f"{name}: {free} bytes free: not enough for twice {size}: give --size, or set TMPDIR")
        return asyncio.run(_demo(Path(name), size, options))


async def _demo(root: Path, size: int, options: Options) -> int:
    import asyncio
    import filecmp

    import msgspec

    from btfast.cli.reporters import reporters_of
    from btfast.cli.run import Item, Run
    from btfast.cli.settings import settings_of
    from btfast.cli.totals import Totals
    from btfast.client.session import Session
    from btfast.errors import VerificationError
    from btfast.tracker.server import serve

    def say(line: str) -> None:
        if not options["quiet"]:
            print(f"demo: {line}", file=sys.stderr, flush=True)

    settings = msgspec.structs.replace(settings_of(options), bind=HOST, port=0, dht=False)
    tracker = await serve(HOST)
    try:
        async with Session(settings) as seeder:
            say(f"generating {options.text('size')} of data and its torrent")
            source = root / "seeder" / NAME
            announce = f"http://{HOST}:{tracker.port}/announce"
            torrent = root / "btfast-demo.torrent"
            torrent.write_bytes(await asyncio.to_thread(generate, source, size, announce))
            await _seed(seeder, torrent, source, tracker)
            say(f"a seeder serves it; downloading it, found through the tracker at {announce}")
            totals = Totals(1)
            item = Item(torrent, str(root / "download"))
            code = await Run(settings, [item], reporters_of(options, totals), totals).run()
    finally:
        await tracker.close()
    if code == 0:
        if not await asyncio.to_thread(filecmp.cmp, source, root / "download" / NAME, shallow=False):
            raise VerificationError(f"{NAME}: differs from its source: this installation is broken: please report this")
        say("the download equals its source: this installation works")
    return code


async def _seed(seeder: Session, torrent: Path, source: Path, tracker: TrackerServer) -> None:
    """Returns when the tracker knows the seeder. Raises the error that ended it, or IncompleteError."""
    import asyncio
    import time

    from btfast.errors import IncompleteError
    from btfast.metainfo.torrent import Torrent

    served = await seeder.add(torrent, source.parent, seed=True)
    deadline = time.monotonic() + SEEDER_PATIENCE
    info_hash = Torrent.load(torrent).info_hash
    while not ((seen := tracker.store.scrape(time.monotonic(), info_hash)) and seen.complete):
        if served.done():
            await served
        if time.monotonic() > deadline:
            raise IncompleteError(f"seeder: not announced after {SEEDER_PATIENCE:g} s: try again on an idle machine")
        await asyncio.sleep(0.01)


def generate(path: Path, size: int, announce: str) -> bytes:
    """Writes `size` bytes, always the same, and returns the .torrent for them."""
    import random

    from btfast._bencode import encode
    from btfast._hashing import hash_many

    pattern = random.Random(6881).randbytes(PIECE_LENGTH - 8)
    path.parent.mkdir()
    hashes: list[bytes] = []
    with path.open("wb") as file:
        for first in range(0, size, HASHED_AT_ONCE * PIECE_LENGTH):
            starts = range(first, min(size, first + HASHED_AT_ONCE * PIECE_LENGTH), PIECE_LENGTH)
            pieces = [(start.to_bytes(8, "big") + pattern)[: size - start] for start in starts]
            hashes += hash_many("sha1", pieces)
            file.writelines(pieces)
    info = {"length": size, "name": NAME, "piece length": PIECE_LENGTH, "pieces": b"".join(hashes)}
    return encode({"announce": announce, "created by": "btfast demo", "info": info})
