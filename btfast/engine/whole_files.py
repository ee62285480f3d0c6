"""Hashes of a whole file, as a Metalink gives them: looked at when all of it is there, before it gets its final name.

They come besides those of its pieces, or alone: then nothing is verified before all is there, and where it is wrong nobody
knows which part of it. A worker reads the file.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence

from btfast.engine.context import Context
from btfast.engine.finishing import Finishing
from btfast.engine.recording import TorrentRecord
from btfast.engine.together import tell
from btfast.errors import Error, StorageError, VerificationError
from btfast.metainfo.torrent import Torrent
from btfast.storage.finish import demote_file
from btfast.storage.layout import Layout


class WholeFile:
    """The one file of a torrent. `hashes`: kinds and digests."""

    def __init__(
        self, context: Context, torrent: Torrent, layout: Layout, hashes: Sequence[tuple[str, bytes]], finishing: Finishing,
        record: TorrentRecord, fail: Callable[[Error], None],
    ) -> None:  # fmt: skip
        self._context = context
        self._torrent = torrent
        self._layout = layout
        self._hashes = hashes
        self._finishing = finishing
        self._record = record
        self._fail = fail
        self._proved = False
        self._proving: asyncio.Task[None] | None = None
        finishing.prove = self.prove

    def prove(self, file: int) -> bool:
        """All of the file is there. True: it is named later, when its hash is right."""
        if self._proved:
            return False
        if self._proving is None:
            self._proving = self._context.loop.create_task(self._prove())
            self._proving.add_done_callback(self._ended)
        return True

    async def _prove(self) -> None:
        wrong = await self._wrong()
        if not wrong:
            self._proved = True
            self._finishing.handle_proved(0)
            return
        if not self._torrent.proves_pieces:
            self._record.handle_unsure(0)
        self._fail(self._error(wrong))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._proving = None
        tell(task, self._torrent.name, self._fail)

    async def is_right(self) -> bool:
        """Whether the file that is there under its final name is the one; asked where nothing else could tell."""
        self._proved = not await self._wrong()
        return self._proved

    async def verify(self) -> None:
        """The file has its final name: it loses that, and VerificationError is raised, where its hash is wrong. StorageError."""
        if self._proved or not (wrong := await self._wrong()):
            return
        try:
            demote_file(self._layout, 0)
        except OSError as error:
            raise self._refused(error.errno or 0) from None
        raise self._error(wrong)

    async def _wrong(self) -> str:
        """The kind of a hash that is not right, "" when all are. StorageError."""
        found = await self._context.workers.hash_file(self._layout.torrent, 0, [kind for kind, _ in self._hashes])
        if found.errno:
            raise self._refused(found.errno)
        if found.length != self._layout.lengths[0]:
            return "size"
        return next((kind for (kind, right), digest in zip(self._hashes, found.digests, strict=True) if digest != right), "")

    def _error(self, kind: str) -> VerificationError:
        what = f"{self._torrent.name}: its pieces are right, and its {kind.upper()}"
        remedy = "get the Metalink anew; the file is kept under its unfinished name"
        if not self._torrent.proves_pieces:
            what = f"{self._torrent.name}: all of it has come, and its {kind.upper()}"
            remedy = "one of the mirrors has another file: run it again to fetch it anew, or get the Metalink anew"
        return VerificationError(f"{what} is not that of the Metalink: {remedy}")

    def _refused(self, errno: int) -> StorageError:
        path = self._layout.path(0)
        return StorageError(f"{path}: {os.strerror(errno)}: mend this and run it again", errno=errno, path=path)

    def close(self) -> None:
        if self._proving is not None:
            self._proving.cancel()
