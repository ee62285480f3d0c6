"""Pieces of a hybrid that were here before the hashes of their v2 half (BEP 52): read again, and held against both halves.

Peers may have no piece layers to give for a while, and a hybrid does not wait for them: its v1 half is enough to go on.
When a layer comes, what was verified by SHA-1 alone is hashed once more as it lies on disk, by a worker, a few pieces at a
time. The torrent is not complete before that has ended.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from btfast.engine.context import Context
from btfast.engine.disagreement import halves_differ
from btfast.engine.together import tell
from btfast.errors import Error
from btfast.metainfo.torrent import Torrent
from btfast.storage.layout import Layout
from btfast.storage.messages import SPLIT, CheckPieces
from btfast.swarm.pieces import HASHING, HAVE, WRITING, Pieces

_MOST = 16  # pieces of a question: as many as are hashed at once
_BOTH = 52  # bytes of a digest with both halves


class SecondLook:
    """`failed(error)`: the halves differ. `done`: nothing is left to look at, for now."""

    def __init__(
        self, context: Context, torrent: Torrent, layout: Layout, pieces: Pieces, failed: Callable[[Error], None],
        done: Callable[[], None],
    ) -> None:  # fmt: skip
        self._context = context
        self._torrent = torrent
        self._layout = layout
        self._pieces = pieces
        self._failed = failed
        self._done = done
        self._files: dict[bytes, list[int]] = {root: [] for root in torrent.hashes.missing}
        for number, file in enumerate(torrent.files):
            if file.pieces_root in self._files:
                self._files[file.pieces_root].append(number)
        self._late: set[int] = set()  # on their way to the disk, with the hash of the v1 half alone
        self._due: deque[int] = deque()
        self._looking: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether some piece has not been looked at."""
        return self._looking is not None or bool(self._late)

    def handle_learned(self, root: bytes) -> None:
        """The piece layer of the files with that root has come."""
        for number in self._files.pop(root, ()):
            for index in self._torrent.geometry.file_pieces(number):
                state = self._pieces.state(index)
                if state == HAVE:
                    self._due.append(index)
                elif state in (HASHING, WRITING):
                    self._late.add(index)
        self._look()

    def handle_verified(self, index: int) -> None:
        """A piece is on disk."""
        if index in self._late:
            self._late.discard(index)
            self._due.append(index)
            self._look()

    def handle_bad(self, index: int) -> None:
        """A piece comes again, and is held against both halves then."""
        self._late.discard(index)

    def _look(self) -> None:
        if self._due and self._looking is None:
            self._looking = self._context.loop.create_task(self._work())
            self._looking.add_done_callback(self._ended)

    async def _work(self) -> None:
        while self._due:
            first = self._due.popleft()
            digests = [self._torrent.hashes.digest(first)]
            while self._due and self._due[0] == first + len(digests) and len(digests) < _MOST:
                digests.append(self._torrent.hashes.digest(self._due.popleft()))
            order = CheckPieces(self._layout.torrent, first, b"".join(digests), _BOTH)
            states = (await self._context.workers.check(order, first)).states
            if SPLIT in states:  # what is not there, or right by neither half, was changed on disk: a later run will see that
                self._failed(halves_differ(self._torrent.name, first + states.index(SPLIT)))
                return

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._looking = None
        tell(task, self._torrent.name, self._failed)
        if not task.cancelled():
            self._done()

    def close(self) -> None:
        self._due.clear()
        self._late.clear()
        if self._looking is not None:
            self._looking.cancel()
