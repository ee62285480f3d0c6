"""Files of one torrent on their way to their final names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from btfast._bitfield import Bitfield
from btfast.engine.context import Context
from btfast.metainfo.geometry import Geometry
from btfast.storage.layout import Layout
from btfast.storage.messages import DEMOTE_FILE, FINISH_FILE


class Finishing:
    """Counts the missing pieces of each wanted file. `handle_file(file)` is called when one has its final name."""

    def __init__(
        self, context: Context, layout: Layout, geometry: Geometry, handle_file: Callable[[int], None]
    ) -> None:
        self._context = context
        self._layout = layout
        self._geometry = geometry
        self._handle_file = handle_file
        self._missing: list[int] = []
        self._final: set[int] = set()
        self._demoting: set[int] = set()
        self._demoted: asyncio.Event = asyncio.Event()
        self.left = 0  # files without their final name

    async def start(self, have: Bitfield, final: set[int], wrong_size: set[int]) -> None:
        """Given the pieces on disk and the files under final names: finishes and demotes what does not fit that.

        `wrong_size`: files under final names that are too long or too short for them.

        Returns when no incomplete file has its final name any more: before that, nothing may be written.
        """
        geometry, layout = self._geometry, self._layout
        complete = have.all()
        for file, length in enumerate(layout.lengths):
            if file in layout.pads or not layout.wants(file):
                self._missing.append(0)
                continue
            missing = 0 if complete or not length else sum(not have[index] for index in geometry.file_pieces(file))
            self._missing.append(missing)
            if file in final and missing == 0:
                self._final.add(file)
                continue
            self.left += 1
            if file in final or file in wrong_size:
                self._demoting.add(file)
                self._context.workers.file_job(DEMOTE_FILE, layout.torrent, file)
            elif missing == 0:
                self._context.workers.file_job(FINISH_FILE, layout.torrent, file)

        if self._demoting:
            await self._demoted.wait()

    def handle_demoted(self, file: int) -> None:
        """A worker has taken the final name from a file that is not complete, or whose length is not right."""
        self._demoting.discard(file)
        if self._missing[file] == 0:
            self._context.workers.file_job(FINISH_FILE, self._layout.torrent, file)
        if not self._demoting:
            self._demoted.set()

    def handle_verified(self, index: int) -> None:
        """A piece has been written."""
        for file in self._geometry.piece_files(index):
            self._missing[file] -= 1
            if self._missing[file] == 0:
                self._context.workers.file_job(FINISH_FILE, self._layout.torrent, file)

    def handle_finished(self, file: int) -> None:
        """A worker has given the file its final name."""
        if file not in self._final:
            self._final.add(file)
            self.left -= 1
            self._handle_file(file)

    @property
    def names(self) -> list[str]:
        """The finished files, relative to the directory."""
        return ["/".join(self._layout.paths[file]) for file in sorted(self._final)]
