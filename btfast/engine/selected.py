"""What is wanted of one torrent, while it is at work: how much of it is here, and the pieces that the parts file keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from btfast.engine.context import Context
from btfast.engine.flag import Flag
from btfast.events import Warning
from btfast.metainfo.selection import Selection
from btfast.metainfo.torrent import Torrent
from btfast.storage.layout import Layout
from btfast.storage.messages import RESTORE_PIECE
from btfast.storage.parts import remove_parts
from btfast.swarm.pieces import Pieces


class Selected:
    """`missing`: bytes of the torrent that are not here; `left`: of them, those that are wanted."""

    def __init__(
        self, context: Context, torrent: Torrent, selection: Selection, layout: Layout, pieces: Pieces
    ) -> None:
        self._context = context
        self._torrent = torrent
        self._selection = selection
        self._layout = layout
        self._pieces = pieces
        self._restoring: set[int] = set()
        self._restored = Flag()
        self.missing = torrent.total_length
        self.left = selection.total
        self.parts_there = True  # an earlier run may have left a parts file

    @property
    def total(self) -> int:
        """Bytes that are wanted."""
        return self._selection.total

    @property
    def done(self) -> int:
        """Bytes that are wanted and here."""
        return self._selection.total - self.left

    def eta(self, rate: float) -> float | None:
        """Seconds until all is here at `rate` bytes a second; None when it cannot be told."""
        return self.left / rate if rate > 0 and self.left else None

    @property
    def partial_seed(self) -> bool:
        """Nothing more is wanted, and something is missing (BEP 21)."""
        return self._pieces.complete and not self._pieces.seeding

    def announce_event(self, event: str | None) -> str | None:
        """What trackers are told: of a partial seed that it is one, wherever there is nothing else to tell (BEP 21)."""
        return "paused" if event is None and self.partial_seed else event

    def lacks(self) -> int:
        """How many pieces that are wanted are not here."""
        levels, have = self._selection.piece_levels, self._pieces.have
        if levels is None:
            return len(have) - have.count
        return sum(1 for index, level in enumerate(levels) if level and not have[index])

    def handle_found(self, pieces: Iterable[int]) -> None:
        """A check has found these here."""
        for index in pieces:
            self.missing -= self._torrent.geometry.piece_size(index)
            self.left -= self._selection.piece_bytes(index)

    def handle_verified(self, index: int) -> None:
        """A piece has been written."""
        self.missing -= self._torrent.geometry.piece_size(index)
        self.left -= self._selection.piece_bytes(index)
        if self._layout.keeps(index):
            self._layout.in_parts.add(index)

    def handle_lost(self, index: int) -> None:
        """A piece that was here is not any more."""
        self.missing += self._torrent.geometry.piece_size(index)
        self.left += self._selection.piece_bytes(index)
        self._layout.in_parts.discard(index)

    # the parts file

    async def restore(self, pieces: list[int]) -> None:
        """Has workers give wanted files their shares of pieces that the parts file keeps; returns when they have."""
        self._restoring.update(pieces)
        for index in pieces:
            digest = self._torrent.piece_hash(index)
            self._context.workers.file_job(RESTORE_PIECE, self._layout.torrent, index, digest)
        if pieces:
            await self._restored.wait()

    def handle_restored(self, index: int, *, whole: bool) -> bool:
        """A worker has answered. True: the piece is here now; else it is fetched."""
        self._restoring.discard(index)
        if not self._restoring:
            self._restored.set()
        if whole:
            self._pieces.found([index])
            self.handle_verified(index)
        return whole

    async def tidy(self) -> None:
        """All that is wanted is complete: removes the parts file where that is every file of the torrent.

        While some are not wanted it stays, also when this selection keeps nothing in it: files of an earlier one are
        proved by what it holds.
        """
        layout = self._layout
        if not self.parts_there or layout.partial:
            return
        try:
            await asyncio.to_thread(remove_parts, layout)
        except OSError as error:
            path = layout.path(layout.parts_file)
            why = f"{path}: {error.strerror or error}: remove it by hand: nothing needs it any more"
            self._context.emit(Warning(id=layout.torrent, message=why))
