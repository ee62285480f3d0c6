"""Files that torrents of one run have in common are fetched by one of them, and copied to the others when they are whole.

The one that began first fetches; the others hold the pieces of such a file back and do without for so long. What says that
two files may be the same: the root of their trees (BEP 52); or hashes of v1 pieces that begin at the same byte of both; or
name and size, where one torrent calls the other similar (BEP 38). None of it is believed: what was copied is hashed, and
what is not right is fetched. A file is waited for once and only while its torrent gets on, so that no two can wait for each
other for long, whatever comes.

Nothing is looked up before a second torrent is under way, and nothing of small files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import Protocol

from btfast._bitfield import Bitfield
from btfast.engine.likeness import are_related, mark_of_name, marks_of, worthwhile
from btfast.engine.reusing import MAX_ROOTS, Reusing
from btfast.errors import Error, bug
from btfast.metainfo.torrent import Torrent
from btfast.storage.layout import Layout
from btfast.swarm.pieces import Pieces

WINDOW = 30.0  # seconds over which the progress of a torrent is judged that others wait for
LEAST = 1 << 20  # bytes that it has to receive in them; half a megabyte less a minute is no help to anybody


class Sharing:
    """Which torrents are under way, and where their files are found. One a network process."""

    def __init__(self) -> None:
        self._shares: dict[Share, None] = {}  # in the order in which they began
        self._hinting: dict[Share, None] = {}  # those of them that name others
        self._alone: Share | None = None  # it has no company yet, and is not in the index
        self._index: dict[int, list[tuple[Share, int]]] = {}
        self._indexed = 0

    def join(self, share: Share) -> None:
        """One more torrent is under way."""
        torrent = share.torrent
        others = self._shares if torrent.similar or torrent.collections else self._hinting
        related = [other for other in others if are_related(torrent, other.torrent)]
        self._shares[share] = None
        if torrent.similar or torrent.collections:
            self._hinting[share] = None
        if len(self._shares) == 1:
            self._alone = share
            return
        if self._alone is not None:
            for file in self._alone.worthwhile():
                self._name(self._alone, file)
            self._alone = None
        for file in share.worthwhile():
            owner = None
            if share.lacks(file):
                owner = self._owner(share, file) or _by_name(share, file, related)
            if owner is None:
                self._name(share, file)
            else:
                share.wait(file, *owner)

    def leave(self, share: Share) -> None:
        """The torrent ends."""
        del self._shares[share]
        self._hinting.pop(share, None)
        if self._alone is share:
            self._alone = None
            return
        for file in share.worthwhile():
            for mark in marks_of(share.torrent, file):
                owners = self._index.get(mark)
                if owners is not None and (share, file) in owners:
                    owners.remove((share, file))
                    self._indexed -= 1
                    if not owners:
                        del self._index[mark]

    def take_over(self, share: Share, file: int, *, first: bool) -> None:
        """The torrent fetches a file that it has waited for, or has it now. `first`: others wait for this one before all."""
        self._name(share, file, first=first)

    def _name(self, share: Share, file: int, *, first: bool = False) -> None:
        if self._indexed < MAX_ROOTS:
            for mark in marks_of(share.torrent, file):
                owners = self._index.setdefault(mark, [])
                owners.insert(0 if first else len(owners), (share, file))
                self._indexed += 1

    def _owner(self, share: Share, file: int) -> tuple[Share, int] | None:
        best = None
        for mark in marks_of(share.torrent, file):
            for owner, number in self._index.get(mark, ()):
                if owner is not share:  # a torrent may have a file twice
                    if owner.has(number):
                        return owner, number
                    best = best or (owner, number)
        return best


def _by_name(share: Share, file: int, related: list[Share]) -> tuple[Share, int] | None:
    mark = mark_of_name(share.layout, file)
    for other in related:
        number = other.by_name(mark)
        if number is not None and number not in other.waits:
            return other, number
    return None


class Process(Protocol):
    """What is needed of the Context."""

    loop: asyncio.AbstractEventLoop
    reusing: Reusing
    sharing: Sharing


class Share:
    """One torrent's part in it. `check(touched, right)` hashes pieces on disk and sets those that are right.

    `received()`: bytes from the network so far; `has(file)`: it is there under its final name. `handle_found(index)` tells of
    pieces that came that way; `fail` of a torrent that contradicts itself. `copied`: bytes.
    """

    def __init__(
        self, context: Process, torrent: Torrent, layout: Layout, pieces: Pieces,
        check: Callable[[Bitfield, Bitfield], Awaitable[object]], *, received: Callable[[], int],
        has: Callable[[int], bool], handle_found: Callable[[int], None], fail: Callable[[Error], None],
    ) -> None:  # fmt: skip
        self.torrent = torrent
        self.layout = layout
        self.waits: dict[int, tuple[Share, int]] = {}  # by the file that is waited for: who fetches it, and its number there
        self._context = context
        self._sharing = context.sharing
        self._pieces = pieces
        self._received = received
        self._has = has
        self._check = check
        self.copied = 0
        self._handle_found = handle_found
        self._fail = fail
        self._there: Collection[int] = ()
        self._waiters: dict[int, list[tuple[Share, int]]] = {}  # by the file that they wait for
        self._names: dict[int, int] | None = None
        self._ready: list[tuple[int, str]] = []
        self._working: asyncio.Task[None] | None = None
        self._judged = 0.0  # when the progress was looked at
        self._before = 0
        self._joined = False

    def begin(self, there: Collection[int]) -> None:
        """The torrent begins to fetch, or to serve. `there`: files of which something is on disk already."""
        self._there = there
        self._joined = True
        self._sharing.join(self)

    def worthwhile(self) -> Iterator[int]:
        """Files that are worth to be looked for elsewhere."""
        for file in range(len(self.layout.lengths)):
            if worthwhile(self.layout, file):
                yield file

    def lacks(self, file: int) -> bool:
        """Nothing of the file is there yet."""
        return file not in self._there and not self._has(file)

    def by_name(self, mark: int) -> int | None:
        """The file with this name and size."""
        if self._names is None:
            self._names = {mark_of_name(self.layout, file): file for file in self.worthwhile()}
        return self._names.get(mark)

    # who waits

    def wait(self, file: int, owner: Share, number: int) -> None:
        """The file is not asked for until the other torrent has its file, or does not get on."""
        if owner.layout.path(number) == self.layout.path(file):
            self._release(file)
            return
        self.waits[file] = owner, number
        for index in self._pieces.geometry.file_pieces(file):
            self._pieces.hold(index)
        if owner.has(number):
            self._bring(file, owner.layout.path(number))
        else:
            owner.add_waiter(number, self, file)

    def has(self, file: int) -> bool:
        """It is there, whole."""
        return self._has(file)

    def add_waiter(self, file: int, share: Share, number: int) -> None:
        if not self._waiters:
            self._judged, self._before = self._context.loop.time(), self._received()
        self._waiters.setdefault(file, []).append((share, number))

    def handle_file(self, file: int) -> None:
        """It has got its final name: those who wait for it take a copy."""
        for share, number in self._waiters.pop(file, ()):
            share._bring(number, self.layout.path(file))

    def tick(self, now: float) -> None:
        """Once a second: nobody waits for a torrent that does not get on."""
        if self._waiters and now - self._judged >= WINDOW:
            received = self._received()
            if received - self._before < LEAST:
                self._let_go()
            self._judged, self._before = now, received

    def _let_go(self) -> None:
        """The first of those who wait for a file fetches it, and the others wait for that one."""
        waiters, self._waiters = self._waiters, {}
        for waiting in waiters.values():
            first, number = waiting[0]
            first._go_on(number)
            for share, other in waiting[1:]:
                share.wait(other, first, number)

    def _go_on(self, file: int) -> None:
        """By itself."""
        self._release(file)
        self._sharing.take_over(self, file, first=True)

    def _release(self, file: int) -> None:
        """Its pieces are asked for, but for those that another file that is waited for has bytes in."""
        self.waits.pop(file, None)
        pieces, waits = self._pieces, self.waits
        for index in pieces.geometry.file_pieces(file):
            if index in pieces.held and not any(other in waits for other in pieces.geometry.piece_files(index)):
                pieces.release(index)

    # what is copied

    def _bring(self, file: int, path: str) -> None:
        self._ready.append((file, path))
        if self._working is None:
            self._working = self._context.loop.create_task(self._work())

    async def _work(self) -> None:
        try:
            while self._ready:
                file, path = self._ready.pop(0)
                if await self._context.reusing.copy(self.torrent, self.layout, file, path):
                    self.copied += self.layout.lengths[file]
                    await self._look(file)
                self._release(file)
                self._sharing.take_over(self, file, first=False)
        except Error as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - a bug ends the torrent that it concerns
            self._fail(bug(self.torrent.name, error))
        finally:
            self._working = None

    async def _look(self, file: int) -> None:
        """Which of the pieces that the file has bytes in are whole now, and right."""
        pieces = self._pieces
        touched, right = Bitfield(len(pieces)), Bitfield(len(pieces))
        for index in pieces.geometry.file_pieces(file):
            if index in pieces.held:
                touched.set(index)
        await self._check(touched, right)
        for index in right.indices():
            pieces.found([index])
            self._handle_found(index)

    async def close(self) -> None:
        """The torrent ends: nothing is written for it any more when this returns. May be called again."""
        if self._joined:
            self._joined = False
            self._sharing.leave(self)
            for file, (owner, number) in self.waits.items():
                owner._forget(number, self, file)
            self._let_go()
        working = self._working
        if working is not None:
            working.cancel()
            await asyncio.wait([working])
            self._working = None

    def _forget(self, file: int, share: Share, number: int) -> None:
        waiting = self._waiters.get(file)
        if waiting is not None and (share, number) in waiting:
            waiting.remove((share, number))
            if not waiting:
                del self._waiters[file]
