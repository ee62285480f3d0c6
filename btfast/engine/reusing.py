"""Taking files that are on this machine before the network is asked: of directories that were named (`--reuse`), and of
torrents that this run has completed, where the trees of BEP 52 say that they are the same."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from btfast.events import Event, Warning
from btfast.metainfo.torrent import Torrent
from btfast.storage.layout import Layout

if TYPE_CHECKING:  # it is loaded when there may be something to take
    from btfast.storage.reuse import LocalFiles

MAX_PROBLEMS = 10  # that are told of a scan
MAX_ROOTS = 200_000  # complete files that are remembered
WORTHWHILE = 65536  # bytes: a smaller file is fetched as soon as it is found


class Reusing:
    """One a network process. The directories are looked through once, when the first torrent asks."""

    def __init__(self, emit: Callable[[Event], None], directories: Sequence[str]) -> None:
        self._emit = emit
        self._directories = directories
        self._scanning: asyncio.Task[LocalFiles] | None = None
        self._complete: dict[bytes, str] = {}  # where a file is, by the root of its tree

    def remember(self, torrent: Torrent, layout: Layout, files: Sequence[int]) -> None:
        """These files of a torrent are complete, under their final names: another torrent may have the same ones."""
        for number in files:
            file = torrent.files[number]
            if file.pieces_root is not None and file.length >= WORTHWHILE and len(self._complete) < MAX_ROOTS:
                self._complete.setdefault(file.pieces_root, layout.path(number))

    async def take(self, torrent: Torrent, layout: Layout, wanted: Sequence[int]) -> int:
        """Copies what is found of these files to where they belong; problems have been told as warnings. Returns bytes."""
        if not self._complete and not self._directories:
            return 0
        from btfast.storage.reuse import LocalFiles

        same = LocalFiles()
        for number in wanted:
            file = torrent.files[number]
            path = self._complete.get(file.pieces_root) if file.pieces_root is not None else None
            if path is not None and path != layout.path(number):
                same.add(path, file.length)
        reused = await self._take(torrent, layout, same, wanted) if len(same) else 0
        if not self._directories:
            return reused
        if self._scanning is None:
            self._scanning = asyncio.get_running_loop().create_task(self._scan())
        found = await asyncio.shield(self._scanning)
        return reused + await self._take(torrent, layout, found, wanted)

    async def _take(self, torrent: Torrent, layout: Layout, local: LocalFiles, wanted: Sequence[int]) -> int:
        from btfast.storage.reuse import take_files

        stop = threading.Event()
        copying = asyncio.ensure_future(asyncio.to_thread(take_files, torrent, layout, local, wanted, stop.is_set))
        try:
            reused = await asyncio.shield(copying)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([copying])  # nobody may write there once the place is free for others
            raise
        self._tell(reused.problems)
        return reused.bytes

    async def _scan(self) -> LocalFiles:
        from btfast.storage.reuse import LocalFiles

        found = LocalFiles()
        for directory in self._directories:
            self._tell(await asyncio.to_thread(found.scan, directory))
        return found

    def _tell(self, problems: Sequence[str]) -> None:
        for problem in problems[:MAX_PROBLEMS]:
            readable = problem.encode(errors="surrogateescape").decode(errors="replace")
            self._emit(Warning(id=None, message=f"reuse: {readable}"))
