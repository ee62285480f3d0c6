"""Taking files from directories of this machine before the network is asked (`--reuse`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from btfast.events import Event, Warning
from btfast.metainfo.torrent import Torrent
from btfast.storage.layout import Layout
from btfast.storage.reuse import LocalFiles, Reused, take_files

MAX_PROBLEMS = 10  # that are told of a scan


class Reusing:
    """One a network process. The directories are looked through once, when the first torrent asks."""

    def __init__(self, emit: Callable[[Event], None], directories: Sequence[str]) -> None:
        self._emit = emit
        self._directories = directories
        self._local = LocalFiles()
        self._scanning: asyncio.Task[None] | None = None

    async def take(self, torrent: Torrent, layout: Layout, wanted: Sequence[int]) -> Reused:
        """Copies what is found of these files to where they belong; problems have been told as warnings."""
        if self._scanning is None:
            self._scanning = asyncio.get_running_loop().create_task(self._scan())
        await asyncio.shield(self._scanning)
        reused = await asyncio.to_thread(take_files, torrent, layout, self._local, wanted)
        self._tell(reused.problems)
        return reused

    async def _scan(self) -> None:
        for directory in self._directories:
            self._tell(await asyncio.to_thread(self._local.scan, directory))

    def _tell(self, problems: Sequence[str]) -> None:
        for problem in problems[:MAX_PROBLEMS]:
            self._emit(Warning(id=None, message=f"reuse: {problem}"))
