"""Pieces that were verified and written, and whose bytes are gone when somebody asks for them.

While the torrent is fetched they are fetched again: a file that was cut short loses its final name first, one that has
vanished is made anew by the workers, and with the piece that was asked for go all that lie in what has gone. Where data
is only served nothing is written into it: its peers and trackers hear of it, nothing of these files is claimed in the
resume store, and the torrent does not end as complete.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from errno import EIO, ENOENT
from typing import Protocol

from btfast.engine.context import Context
from btfast.engine.fetching import Fetching
from btfast.engine.finishing import Finishing
from btfast.engine.recording import TorrentRecord
from btfast.engine.selected import Selected
from btfast.engine.serving import Serving
from btfast.engine.telling import Telling
from btfast.engine.together import tell
from btfast.errors import Error, StorageError
from btfast.events import Warning
from btfast.metainfo.selection import SKIP, Selection
from btfast.storage.layout import Layout
from btfast.swarm.pieces import HAVE, Pieces

MOST_LOSSES = 3  # of one piece: then the disk is not to be trusted with it a fourth time


class Owner(Protocol):
    """The torrent."""

    @property
    def may_write(self) -> bool:
        """Whether it is being fetched."""

    def fail(self, error: Error) -> None: ...

    def handle_incomplete(self) -> None:
        """Something that was here is fetched again."""


class LostPieces:
    """`number` names the torrent to the workers, `item` in events. `announce(index)` tells its peers (BEP 54)."""

    def __init__(
        self, context: Context, item: int, name: str, layout: Layout, selection: Selection, pieces: Pieces, selected: Selected,
        finishing: Finishing, record: TorrentRecord, telling: Telling, fetching: Fetching, serving: Serving, owner: Owner,
        announce: Callable[[int], None],
    ) -> None:  # fmt: skip
        self._context = context
        self._item = item
        self._name = name
        self._layout = layout
        self._selection = selection
        self._pieces = pieces
        self._selected = selected
        self._finishing = finishing
        self._record = record
        self._telling = telling
        self._fetching = fetching
        self._owner = owner
        self._announce = announce
        self._losses: Counter[int] = Counter()
        self._said: set[bool] = set()  # of those that are fetched again, and of the others
        self._noticed: list[tuple[list[int], OSError]] = []  # with the files that it lay in
        self._mending: asyncio.Task[None] | None = None
        self.unserved: dict[int, str] = {}  # pieces that cannot be served and are not fetched: why
        serving.handle_lost = self.handle_lost

    def handle_lost(self, index: int, error: OSError) -> None:
        """Piece `index`, which is HAVE, could not be read."""
        if not self._owner.may_write:
            self._leave_out(index, error)
            return
        self._losses[index] += 1
        if self._losses[index] > MOST_LOSSES:
            self._owner.fail(
                StorageError(
                    f"{self._layout.path(self._file_of(index))}: piece {index} was lost {MOST_LOSSES} times after it had been "
                    f"written: {reason_of(error)}: mend the disk and run it again",
                    errno=error.errno or EIO, path=self._layout.path(self._file_of(index)),
                )
            )  # fmt: skip
            return
        self._warn(f"piece {index} is gone: {reason_of(error)}: it is fetched again", again=True)
        self._fetching.held = True  # nothing may be written beside a file that still has its final name
        self._owner.handle_incomplete()
        gone: set[int] = set()
        files = self._files_of(index)
        for file in files:
            self._look(file, error, gone)
        self._noticed.append((files, error))
        self._lose(index, gone)
        if self._mending is None:
            self._mending = self._context.loop.create_task(self._mend())
            self._mending.add_done_callback(self._mended)

    def close(self) -> None:
        """The torrent is ending."""
        if self._mending is not None:
            self._mending.cancel()

    @property
    def error(self) -> StorageError | None:
        """Why what was served is not complete any more; None where it is."""
        if not self.unserved:
            return None
        index, why = next(iter(self.unserved.items()))
        path = self._layout.path(self._file_of(index))
        return StorageError(
            f"{self._name}: {len(self.unserved)} of {len(self._pieces)} pieces cannot be read any more: {path}: {why}: "
            "run it again to fetch them",
            errno=EIO, path=path,
        )  # fmt: skip

    def _leave_out(self, index: int, error: OSError) -> None:
        self.unserved[index] = reason_of(error)
        self._selected.handle_lost(index)
        self._record.complete = False
        for file in self._files_of(index):
            self._record.handle_unsure(file)
        self._warn(f"piece {index} cannot be served any more: {reason_of(error)}", again=False)
        self._announce(index)

    async def _mend(self) -> None:
        workers, torrent = self._context.workers, self._layout.torrent
        while self._noticed:
            # What is on its way to the files has been written, or has failed, before they are looked at.
            while workers.busy_with(torrent):
                await workers.settle(torrent)
            noticed, self._noticed = self._noticed, []
            gone: set[int] = set()
            lost: set[int] = set()
            for files, error in noticed:
                for file in files:
                    lost |= self._look(file, error, gone)
            for file in gone:
                self._record.handle_gone(file)
            for file in {file for files, _ in noticed for file in files}:
                await workers.reopen(torrent, file)
                self._record.handle_reopened(file)
            for index in sorted(lost):
                if self._pieces.state(index) == HAVE:
                    self._lose(index, gone)
            await self._finishing.demoted()
        self._mending = None
        self._fetching.held = False
        self._fetching.asked.freed = True

    def _mended(self, task: asyncio.Task[None]) -> None:
        tell(task, self._name, self._owner.fail)

    def _lose(self, index: int, gone: set[int]) -> None:
        """A HAVE piece is fetched again, or where it is not wanted, missing."""
        files = self._files_of(index)
        self._pieces.lost(index)
        levels = self._selection.piece_levels
        if levels is not None and levels[index] == SKIP:
            self._pieces.unwant(index)
        self._selected.handle_lost(index)
        self._telling.handle_lost(index)
        self._finishing.handle_lost(index, gone)
        for file in files:
            if file != self._layout.parts_file:
                (self._record.handle_gone if file in gone else self._record.handle_demoted)(file)
        self._announce(index)

    def _look(self, file: int, error: OSError, gone: set[int]) -> set[int]:
        """The pieces that have gone with what the file lacks; adds it to `gone` where it has gone itself."""
        layout = self._layout
        self._context.served.reopen(layout.torrent, file)
        held = sorted(layout.in_parts) if file == layout.parts_file else layout.geometry.file_pieces(file)
        try:
            fd = layout.open_for_reading(file)
        except FileNotFoundError:
            gone.add(file)
            return set(held)
        except OSError:
            return set()  # of the others each is noticed by itself
        try:
            size = os.fstat(fd).st_size
        finally:
            os.close(fd)
        if error.errno == ENOENT:  # another file stands under its name
            return set(held)
        return {index for index in held if self._end(file, index) > size}

    def _end(self, file: int, index: int) -> int:
        """How far into the file the piece goes."""
        spans = self._layout.spans(index, 0, self._layout.geometry.piece_size(index))
        return max((span.offset + span.length for span in spans if span.file == file), default=0)

    def _files_of(self, index: int) -> list[int]:
        layout = self._layout
        if index in layout.in_parts:
            return [layout.parts_file]
        return [file for file in layout.geometry.piece_files(index) if file not in layout.pads and layout.wants(file)]

    def _file_of(self, index: int) -> int:
        return next(iter(self._files_of(index)), 0)

    def _warn(self, what: str, *, again: bool) -> None:
        """Once of each kind: one cause has many pieces."""
        if again not in self._said:
            self._said.add(again)
            self._context.emit(Warning(id=self._item, message=f"{self._name}: {what}"))


def reason_of(error: OSError) -> str:
    """In the user's words."""
    return error.strerror or str(error)
