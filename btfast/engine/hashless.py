"""Pieces whose hashes are not known yet: those of v2 files without a piece layer (BEP 52). All others are fetched meanwhile.

What of such a file lies on disk already could not be verified before: when its layer comes, that is looked at before
anything is asked for. A hybrid does not wait for long, since v1 peers have no layers to give: its v1 half is enough then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Protocol

from btfast._bitfield import Bitfield
from btfast.engine.together import tell
from btfast.errors import Error
from btfast.metainfo.torrent import Torrent
from btfast.swarm.pieces import HASHING, HASHLESS, RECEIVING, WANTED, WRITING, Pieces

HYBRID_PATIENCE = 2.0  # seconds that a hybrid waits for the hashes of its v2 half; then its v1 half has to be enough
NAMED = 3  # files that a reason lists
KEEP = 5.0  # seconds after which layers that have come are kept, all at once


class Process(Protocol):
    """What is needed of the Context."""

    loop: asyncio.AbstractEventLoop


class Owner(Protocol):
    """The torrent."""

    handle_layers: Callable[[], None]  # some have come, and are to be kept for later runs

    def handle_verified(self, index: int) -> None: ...

    def handle_answered(self) -> None: ...

    def fail(self, error: Error) -> None: ...


class Hashless:
    """Of one torrent. `there`: files of which something was on disk when it began. `check(touched, right)` hashes pieces on
    disk and sets those that are right. `release(pieces)`: these have hashes now, or do without; `go_on`: they may be asked for.
    """

    def __init__(
        self, context: Process, torrent: Torrent, pieces: Pieces, there: Collection[int],
        check: Callable[[Bitfield, Bitfield], Awaitable[object]], owner: Owner, release: Callable[[range], None],
        go_on: Callable[[], None],
    ) -> None:  # fmt: skip
        self._context = context
        self._torrent = torrent
        self._pieces = pieces
        self._there = there if torrent.info_hash_v1 is None else ()
        self._check = check
        self._owner = owner
        self._release_pieces = release
        self._go_on = go_on
        self._began = context.loop.time()
        self._files: dict[bytes, list[int]] = {root: [] for root in torrent.hashes.missing}
        self._layers = len(self._files) + len(torrent.hashes.layers)
        self._due: list[int] = []
        self._keep_at: float | None = None
        self._looking: asyncio.Task[None] | None = None
        for number, file in enumerate(torrent.files):
            if file.pieces_root in self._files:
                self._files[file.pieces_root].append(number)
                pieces.wait_for_hashes(torrent.geometry.file_pieces(number))

    @property
    def busy(self) -> bool:
        """Whether something on disk is being looked at."""
        return self._looking is not None

    @property
    def stuck(self) -> bool:
        """Whether nothing can be done but to wait for hashes."""
        count = self._pieces.count
        return count(HASHLESS) > 0 and not self._pieces.held and not any(map(count, (WANTED, RECEIVING, HASHING, WRITING)))

    def lacking(self) -> list[str]:
        """The wanted files that wait for their hashes."""
        torrent, state = self._torrent, self._pieces.state
        return [
            "/".join(torrent.files[number].path)
            for numbers in self._files.values()
            for number in numbers
            if any(state(index) == HASHLESS for index in torrent.geometry.file_pieces(number))
        ]

    def handle_learned(self, root: bytes) -> None:
        """The piece layer of the files with that root has come."""
        if self._keep_at is None:
            self._keep_at = self._context.loop.time() + KEEP
        if self._torrent.hashes.complete:
            self._keep()
        for number in self._files.pop(root, ()):
            if number in self._there:
                self._due.append(number)
            else:
                self._release(number)
        if self._due and self._looking is None:
            self._looking = self._context.loop.create_task(self._look())
            self._looking.add_done_callback(self._looked)
        self._go_on()

    def tick(self, now: float) -> None:
        """Once a second."""
        if len(self._files) + len(self._torrent.hashes.layers) > self._layers:  # another torrent has had a file
            for root in [root for root in self._files if root in self._torrent.hashes.layers]:
                self.handle_learned(root)
        if self._keep_at is not None and now >= self._keep_at:
            self._keep()
        if self._files and self._torrent.info_hash_v1 is not None and now - self._began >= HYBRID_PATIENCE:
            files, self._files = self._files, {}
            for numbers in files.values():
                for number in numbers:
                    self._release(number)
            self._go_on()

    def _keep(self) -> None:
        self._keep_at = None
        self._owner.handle_layers()

    def _release(self, number: int) -> None:
        self._release_pieces(self._torrent.geometry.file_pieces(number))

    async def _look(self) -> None:
        """Which of the pieces that are wanted are there, and right."""
        pieces = self._pieces
        while self._due:
            number = self._due.pop(0)
            touched, right = Bitfield(len(pieces)), Bitfield(len(pieces))
            for index in self._torrent.geometry.file_pieces(number):
                if pieces.state(index) == HASHLESS:
                    touched.set(index)
            await self._check(touched, right)
            for index in right.indices():
                pieces.found([index])
                self._owner.handle_verified(index)
            self._release(number)
            self._go_on()

    def _looked(self, task: asyncio.Task[None]) -> None:
        self._looking = None
        tell(task, self._torrent.name, self._owner.fail)
        if not task.cancelled():
            self._owner.handle_answered()

    def close(self) -> None:
        """The torrent ends."""
        if self._keep_at is not None:
            self._keep()
        self._due.clear()
        if self._looking is not None:
            self._looking.cancel()


def missing_hashes(paths: Sequence[str], facts: str) -> str:
    """Why files without hashes get no further; `facts`: who was asked."""
    listed = ", ".join(paths[:NAMED]) + (f" and {len(paths) - NAMED} more" if len(paths) > NAMED else "")
    files = "1 file" if len(paths) == 1 else f"{len(paths)} files"
    return f"the hashes of {files} are missing ({listed}), and no peer sends them: {facts}"
