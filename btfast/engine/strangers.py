"""What stands where files of a torrent belong and may be somebody else's: nothing of it is lost.

Each file of which no piece is right, and that was not made for the torrent, is renamed before anything is written. Of two
that stand for one, unfinished and finished, the one with more right pieces stays. What another torrent
has begun is that one's to go on with: the item is refused.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Protocol

from btfast._bitfield import Bitfield
from btfast.engine.context import Context
from btfast.errors import StorageError
from btfast.events import Warning
from btfast.storage.identity import CHANGED, FINAL, UNFINISHED
from btfast.storage.layout import PART, Layout
from btfast.storage.messages import Known, Surveyed
from btfast.storage.ownership import Whose, owner_of, set_aside

TOLD = 20  # files that are named one by one


class Check(Protocol):
    """Hashes pieces on disk and sets those that are right; `final` as of CheckPieces."""

    def __call__(self, touched: Bitfield, right: Bitfield, *, final: bool) -> Awaitable[object]: ...


class Strangers:
    """Of one torrent that is about to be fetched. `known`: what earlier runs have recorded; `item`: its number in events."""

    def __init__(self, context: Context, item: int, layout: Layout, known: Known | None, check: Check) -> None:
        self._context = context
        self._item = item
        self._layout = layout
        self._names = known.names if known is not None else bytes(len(layout.lengths))
        self._check = check

    async def choose(self, beside: dict[int, bool]) -> None:
        """Leaves one of the two files that each of these has; `beside` as of Surveyed. StorageError."""
        layout, geometry = self._layout, self._layout.geometry
        touched, finals, parts = (Bitfield(geometry.piece_count) for _ in range(3))
        believed = set() if self._context.settings.check else {file for file in beside if self._names[file] == FINAL}
        for file, fits in beside.items():
            if fits and file not in believed:
                for index in geometry.file_pieces(file):
                    touched.set(index)
        if not touched.none():
            await self._check(touched, finals, final=True)
            await self._check(touched, parts, final=False)
        aside: list[tuple[int, str]] = []
        over: list[int] = []
        for file, fits in beside.items():
            pieces = geometry.file_pieces(file)
            right, others = (sum(have[index] for index in pieces) for have in (finals, parts))
            whole = file in believed or (fits and right == len(pieces))
            if not whole and right <= others:
                aside.append((file, ""))
                continue
            if self._owner(file, layout.suffix) == "ours" and whole:
                over.append(file)
            else:
                aside.append((file, layout.suffix))
        await self._settle(aside, over)

    async def keep(
        self, found: Surveyed, have: Bitfield, trusted: Collection[int], restored: Iterable[int],
        has_hash: Callable[[int], object],
    ) -> set[int]:  # fmt: skip
        """Renames those in which nothing is right, and says so; returns their numbers. StorageError.

        `trusted`: files that are as they were recorded; `restored`: pieces that the parts file has; `has_hash`: of a piece.
        Files with pieces that have none yet are looked at when it comes.
        """
        layout = self._layout
        ours = {file for index in restored for file in layout.geometry.piece_files(index)}
        aside: list[tuple[int, str]] = []
        for suffix, files in ((layout.suffix, found.unfinished), ("", (*found.final, *found.wrong_size))):
            for file in files:
                if file in trusted or file in ours or not layout.wants(file):
                    continue
                if any(have[index] or not has_hash(index) for index in layout.geometry.file_pieces(file)):
                    continue
                if not layout.lengths[file] and file in found.final:
                    continue
                if self._owner(file, suffix) in ("unknown", "another torrent's"):
                    aside.append((file, suffix))
        await self._settle(aside, [])
        return {file for file, _ in aside}

    def _owner(self, file: int, suffix: str) -> Whose:
        """Raises StorageError for what belongs to another torrent that is not finished."""
        layout, name = self._layout, self._names[file]
        path = layout.path(file) + suffix
        try:
            whose = owner_of(layout, file, suffix, recorded=name in (UNFINISHED, FINAL, CHANGED))
        except OSError as error:
            raise _refused(path, error) from None
        if whose == "another torrent's" and suffix:
            raise StorageError(
                f"{path}: it belongs to another torrent: let that one end, or move it away, or choose another directory with -o",
                errno=errno.EEXIST, path=path,
            )  # fmt: skip
        if name == CHANGED and layout.suffix and not suffix and whose == "ours":
            return "unknown"  # it was finished, and somebody has written into it since
        return whose

    async def _settle(self, aside: list[tuple[int, str]], over: list[int]) -> None:
        """Removes unfinished files of which the finished ones are there, and sets others aside."""
        if not aside and not over:
            return
        layout = self._layout

        def work() -> list[tuple[str, str]]:
            for file in over:
                parent = layout.parent(file, create=False)
                try:
                    os.unlink(layout.paths[file][-1] + layout.suffix, dir_fd=parent)
                finally:
                    os.close(parent)
            return set_aside(layout, aside) if aside else []

        try:
            renamed = await asyncio.to_thread(work)
        except OSError as error:
            raise _refused(layout.directory, error) from None
        for before, now in renamed[:TOLD]:
            what = "something unfinished" if before.endswith(PART) else "a file"
            self._warn(f"{before}: {what} that is not the torrent's was there before: it is {now!r} now")
        if len(renamed) > TOLD:
            self._warn(f"{len(renamed) - TOLD} more files that are not the torrent's were renamed")

    def _warn(self, message: str) -> None:
        self._context.emit(Warning(id=self._item, message=message))


def _refused(path: str, error: OSError) -> StorageError:
    return StorageError(
        f"{path}: {error.strerror or error}: it is not the torrent's: move it away, or choose another directory with -o",
        errno=error.errno, path=path,
    )  # fmt: skip
