"""Open files that blocks are served from: a bounded least-recently-used set, each kept while a block of it is queued."""

from __future__ import annotations

from collections import OrderedDict
from errno import E2BIG, EAGAIN
from weakref import WeakValueDictionary

from btfast._served import WINDOW_SIZE, ServedFile, close_unused, keep
from btfast.metainfo.geometry import FileSpan
from btfast.storage.files import descriptor_budget
from btfast.storage.layout import Layout

Segment = tuple[object, int, int, int]  # owner, descriptor (-1: zeros), offset, length
_ZEROS = object()
_RECENT = 1024  # files that stay open without a block that waits
_UNUSED = 15.0  # seconds; what is mapped of a file stays mapped once or twice as long after its last use
_FEWEST = 32  # windows that there are even when all of the arena is used
_WIDEST = 2048  # files that one block may lie in: opening them takes 20 ms


def zeros(length: int) -> Segment:
    """Bytes that are in no file."""
    return _ZEROS, -1, 0, length


class ServedFiles:
    """Files by (torrent, file). A descriptor is closed when it is not recent any more and no queued block uses it.

    However many blocks wait, a file is open once, and all of them together take at most three quarters of what the
    process may open: the rest is for peers.
    """

    def __init__(self) -> None:
        budget = descriptor_budget()
        self._few = min(_RECENT, budget)
        self._most = 3 * budget
        self._closed_unused = 0.0
        self._spare = -1
        self._recent: OrderedDict[tuple[int, int], ServedFile] = OrderedDict()
        self._live: WeakValueDictionary[tuple[int, int], ServedFile] = WeakValueDictionary()

    def segments(self, layout: Layout, spans: list[FileSpan]) -> list[Segment]:
        """Where the bytes of `spans` are read from. OSError; BlockingIOError when blocks that wait hold all descriptors."""
        if len(spans) > _WIDEST:
            raise OSError(E2BIG, f"{len(spans)} files for one block are too many")
        found: list[Segment] = []
        for file, offset, length in spans:
            if file in layout.pads:
                found.append(zeros(length))
                continue
            key = (layout.torrent, file)
            opened = self._recent.get(key)
            if opened is None:
                opened = self._reopen(layout, key)
            else:
                self._recent.move_to_end(key)
            found.append((opened, opened.fd, offset, length))
        return found

    def read_ahead(self, layout: Layout, spans: list[FileSpan]) -> None:
        """Has the kernel begin to read these bytes. What cannot be opened will be told to who asks for it."""
        try:
            found = self.segments(layout, spans)
        except OSError:
            return
        for file, _, offset, length in found:
            if isinstance(file, ServedFile):
                file.read_ahead(offset, length)

    def _reopen(self, layout: Layout, key: tuple[int, int]) -> ServedFile:
        opened = self._live.get(key)
        if opened is None:
            while len(self._live) >= self._most:
                if not self._recent:
                    raise BlockingIOError(EAGAIN, "all descriptors are held by blocks that wait")
                self._recent.popitem(last=False)
            opened = self._live[key] = ServedFile(layout.open_for_reading(key[1]))
        while len(self._recent) >= self._few:
            self._recent.popitem(last=False)
        self._recent[key] = opened
        return opened

    def reopen(self, torrent: int, file: int) -> None:
        """What is under its name now is to be served, and not what was opened before."""
        key = (torrent, file)
        self._recent.pop(key, None)
        self._live.pop(key, None)

    def tick(self, now: float, spare: int) -> None:
        """Once a second: has the kernel unmap what nobody has asked for in a while, or what is beyond the budget.

        `spare`: bytes of the arena that nothing has needed so far. What is mapped counts as resident, and has its place
        there.
        """
        if spare != self._spare:
            self._spare = spare
            keep(max(_FEWEST, spare // WINDOW_SIZE))
        if now - self._closed_unused >= _UNUSED:
            self._closed_unused = now
            close_unused()

    def forget(self, torrent: int) -> None:
        """The torrent is being closed."""
        for key in [key for key in self._recent if key[0] == torrent]:
            del self._recent[key]
