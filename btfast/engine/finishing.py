"""Files of one torrent on their way to their final names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from btfast._bitfield import Bitfield
from btfast.engine.context import Context
from btfast.engine.flag import Flag
from btfast.metainfo.files import File
from btfast.metainfo.geometry import Geometry
from btfast.storage.layout import Layout
from btfast.storage.marks import Marks
from btfast.storage.messages import DEMOTE_FILE, FINISH_FILE, MAKE_LINK


class Finishing:
    """Counts the missing pieces of each wanted file. `handle_file(file)` is called when one has its final name."""

    def __init__(
        self, context: Context, layout: Layout, geometry: Geometry, files: Sequence[File], handle_file: Callable[[int], None]
    ) -> None:
        self._context = context
        self._layout = layout
        self._geometry = geometry
        self._handle_file = handle_file
        self._missing: list[int] = []
        self._final: set[int] = set()
        self._demoting: set[int] = set()
        self._demoted = Flag()
        self._links: list[int] = []  # files that are links: they come last
        self.mtimes = {file: entry.mtime for file, entry in enumerate(files) if entry.mtime is not None}  # may be added to
        self._executable = {file for file, entry in enumerate(files) if entry.executable}
        self.left = 0  # files without their final name
        self.prove: Callable[[int], bool] = lambda file: False  # whether it must wait for `handle_proved`

    def start(self, have: Bitfield, final: set[int], wrong_size: set[int]) -> None:
        """Given the pieces on disk and the files under final names: finishes and demotes what does not fit that.

        `wrong_size`: files under final names that are too long or too short for them. While `demoting`, nothing may be
        written.
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
            if file in layout.links:
                self._links.append(file)
            elif file in final or file in wrong_size:
                self._demote(file)
            elif missing == 0:
                self._finish(file)
        self._make_links()

    @property
    def demoting(self) -> bool:
        """Whether incomplete files still have their final names."""
        return bool(self._demoting)

    async def demoted(self) -> None:
        """Returns when none has."""
        if self._demoting:
            await self._demoted.wait()

    def handle_demoted(self, file: int) -> None:
        """A worker has taken the final name from a file that is not complete, or whose length is not right."""
        self._demoting.discard(file)
        if self._missing[file] == 0:
            self._finish(file)
        if not self._demoting:
            self._demoted.set()

    def handle_verified(self, index: int) -> None:
        """A piece has been written."""
        for file in self._geometry.piece_files(index):
            self._missing[file] -= 1
            if self._missing[file] == 0:
                self._finish(file)

    def handle_finished(self, file: int) -> None:
        """A worker has given the file its final name."""
        if self._missing[file] > 0:  # some of it was lost while it was being finished
            self._demote(file)
        elif file not in self._final:
            self._final.add(file)
            self.left -= 1
            self._handle_file(file)
            self._make_links()

    def handle_lost(self, index: int, gone: Collection[int]) -> list[int]:
        """A piece that was on disk is not there any more: its files that had their final names, which lose them.

        `gone`: files that have nothing that could be renamed.
        """
        layout = self._layout
        opened = []
        for file in self._geometry.piece_files(index):
            if file in layout.pads or not layout.wants(file):
                continue
            self._missing[file] += 1
            if file in self._final:
                self._final.discard(file)
                self.left += 1
                opened.append(file)
                if file not in gone:
                    self._demote(file)
        return opened

    def _demote(self, file: int) -> None:
        self._demoting.add(file)
        self._demoted.clear()
        self._context.workers.file_job(DEMOTE_FILE, self._layout.torrent, file)

    def handle_left_out(self) -> None:
        """A link cannot be made."""
        self.left -= 1

    def handle_proved(self, file: int) -> None:
        """It is what it should be as a whole."""
        if self._missing[file] == 0:
            self._finish(file)

    def _finish(self, file: int) -> None:
        if self.prove(file):
            return
        marks = Marks(file in self._executable, self.mtimes.get(file)).pack()
        self._context.workers.file_job(FINISH_FILE, self._layout.torrent, file, marks)

    def _make_links(self) -> None:
        """Once everything else has its place."""
        if self._links and self.left == len(self._links):
            links, self._links = self._links, []
            for file in links:
                self._context.workers.file_job(MAKE_LINK, self._layout.torrent, file)

    def has(self, file: int) -> bool:
        """Whether it is complete and has its final name."""
        return file in self._final

    @property
    def unfinished(self) -> list[int]:
        """Wanted files that are not complete; links do not count."""
        layout = self._layout
        return [
            file for file in range(len(layout.lengths))
            if file not in self._final and file not in layout.pads and file not in layout.links and layout.wants(file)
        ]  # fmt: skip

    @property
    def names(self) -> list[str]:
        """The finished files, relative to the directory."""
        return ["/".join(self._layout.paths[file]) for file in sorted(self._final)]
