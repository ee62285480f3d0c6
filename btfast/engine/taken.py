"""Wanted files that are not what the torrent means: `--accept-stale` has taken them as a web server had them.

Later runs know them by the resume store while they are as they were taken: these are left alone, told again, and nothing of
them is asked for. So is a complete file that shares a piece with one: that piece cannot be looked at any more.
"""

from __future__ import annotations

import asyncio
import os
from fnmatch import fnmatchcase

from btfast.engine.context import Context
from btfast.engine.control import Add
from btfast.engine.finishing import Finishing
from btfast.engine.recording import TorrentRecord
from btfast.errors import Error, VerificationError
from btfast.events import Warning
from btfast.metainfo.selection import Selection
from btfast.metainfo.torrent import Torrent
from btfast.storage.identity import FINAL, Identity
from btfast.storage.layout import Layout
from btfast.storage.messages import Known, TakenFile

TYPE_CHECKING = False
if TYPE_CHECKING:  # they are loaded when a torrent has web seeds
    from btfast.engine.web_seeds import WebSeeds

_NAMED = 5  # files that a message lists


class Taken:
    """Of one item. `wanted`: all that was asked for; `selection`: what earlier runs have left of it, None for nothing.

    Raises InputError where nothing is wanted.
    """

    def __init__(self, context: Context, torrent: Torrent, add: Add, known: Known | None) -> None:
        self._context = context
        self._torrent = torrent
        self._add = add
        self.wanted = Selection(torrent, add.wanted)
        self.selection: Selection | None = self.wanted
        self._earlier: list[TakenFile] = []
        self._left_alone: list[int] = []
        self._now: list[int] = []
        self._taking: asyncio.Task[None] | None = None
        if known is not None and known.taken and not add.seed:
            self._leave_alone(known)

    def _leave_alone(self, known: Known) -> None:
        wanted = self.wanted.files
        self._earlier = [taken for taken in known.taken if self.wanted.wants(taken.file)]
        numbers = {taken.file for taken in known.taken}
        alone = numbers | self._neighbours(numbers, known)
        self._left_alone = [file for file in wanted if file in alone]
        if len(self._left_alone) == len(wanted):
            self.selection = None
        elif self._left_alone:
            self.selection = Selection(self._torrent, self._add.wanted, self._left_alone)

    def _neighbours(self, taken: set[int], known: Known) -> set[int]:
        """Files that were complete, and share pieces with those that were taken."""
        if self._context.settings.in_place:  # their names say nothing
            return set()
        geometry = self._torrent.geometry
        held = [geometry.file_pieces(file) for file in taken]
        ends = {index for pieces in held for index in (*pieces[:1], *pieces[-1:])}
        return {file for index in ends for file in geometry.piece_files(index) if known.names[file] == FINAL} - taken

    @property
    def taking(self) -> bool:
        """Whether files are being taken, or were, in this run."""
        return self._taking is not None

    @property
    def any(self) -> bool:
        """Whether something that is wanted is not what the torrent means."""
        return bool(self._earlier or self._now)

    @property
    def names(self) -> list[str]:
        """What `selection` lacks, and what was taken now, relative to the directory."""
        return [self._torrent.path_text(file) for file in (*self._left_alone, *self._now)]

    def tell(self) -> None:
        """All else is complete. Raises VerificationError where earlier runs took what this one was not told to take."""
        refused = []
        for taken in self._earlier:
            path = self._torrent.path_text(taken.file)
            if not self._named(taken.file):
                refused.append(path)
                continue
            version = f", in the version of {taken.version}" if taken.version else ""
            where = os.path.join(self._add.directory, path)
            message = f"{where}: taken as it was at {taken.source} by an earlier run{version}: not verified"
            self._context.emit(Warning(id=self._add.id, message=message))
        if refused:
            count = "1 file is" if len(refused) == 1 else f"{len(refused)} files are"
            listed = ", ".join(refused[:_NAMED]) + (", ..." if len(refused) > _NAMED else "")
            raise VerificationError(
                f"{self._torrent.name}: {count} not what the torrent means: an earlier run took them as they were at a web "
                f"seed: {listed}: accept that again with --accept-stale, or have them fetched anew with --check",
                stale=refused,
            )

    # in this run

    def begin(
        self, layout: Layout, web: WebSeeds, finishing: Finishing, record: TorrentRecord, error: Error,
        done: asyncio.Future[None],
    ) -> bool:  # fmt: skip
        """Has files taken as they are, then resolves `done`; False where none was asked for."""
        chosen: list[int] = []
        left: list[int] = []
        for file in finishing.unfinished:
            (chosen if self._named(file) else left).append(file)
        if not chosen:
            return False
        from btfast.engine.accepting import Accepting

        def took(taken: TakenFile, identity: Identity) -> None:
            self._now.append(taken.file)
            record.handle_taken(taken, identity)

        accepting = Accepting(self._context, self._torrent, layout, web, chosen, left, error, took)

        async def run() -> None:
            try:
                await accepting.run()
            except Error as failure:
                if not done.done():
                    done.set_exception(failure)
            else:
                if not done.done():
                    done.set_result(None)

        self._taking = self._context.loop.create_task(run())
        return True

    def close(self) -> None:
        if self._taking is not None:
            self._taking.cancel()

    def _named(self, file: int) -> bool:
        """Whether a glob of `--accept-stale` means it: by its whole path, by that below the torrent's name, or its own name."""
        path = self._torrent.path_text(file)
        texts = (path, path.partition("/")[2], path.rpartition("/")[2])
        return any(fnmatchcase(text, glob) for glob in self._context.settings.accept_stale for text in texts)
