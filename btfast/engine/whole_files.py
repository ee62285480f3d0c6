"""Hashes of a whole file that a Metalink gives besides those of its pieces: looked at when all of it is there."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import Callable, Sequence

from btfast.errors import StorageError, VerificationError
from btfast.storage.finish import demote_file
from btfast.storage.layout import Layout

_CHUNK = 1 << 20


async def verify_whole(layout: Layout, whole: Sequence[tuple[str, bytes]], name: str) -> None:
    """Reads the torrent's one file, which has its final name. VerificationError, and then it has lost that name; StorageError."""
    stop = threading.Event()
    try:
        found = await asyncio.to_thread(_digests, layout, [kind for kind, _ in whole], stop.is_set)
        for (kind, expected), digest in zip(whole, found, strict=True):
            if digest != expected:
                demote_file(layout, 0)
                raise VerificationError(
                    f"{name}: its pieces are right, and its {kind.upper()} is not that of the Metalink: get the Metalink anew; "
                    "the file is kept under its unfinished name"
                )
    except OSError as error:
        path = layout.path(0)
        why = f"{path}: {error.strerror or error}: mend this and run it again"
        raise StorageError(why, errno=error.errno, path=path) from None
    finally:
        stop.set()


def _digests(layout: Layout, kinds: Sequence[str], stopped: Callable[[], bool]) -> list[bytes]:
    hashes = [hashlib.new(kind.replace("-", ""), usedforsecurity=False) for kind in kinds]
    fd = layout.open_for_reading(0)
    try:
        while not stopped() and (data := os.read(fd, _CHUNK)):
            for each in hashes:
                each.update(data)
    finally:
        os.close(fd)
    return [each.digest() for each in hashes]
