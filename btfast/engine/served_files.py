"""Open files that blocks are served from: a bounded least-recently-used set, each kept while a block of it is queued."""

from __future__ import annotations

import os
from collections import OrderedDict

from btfast.metainfo.geometry import FileSpan
from btfast.storage.files import descriptor_budget
from btfast.storage.layout import Layout

Segment = tuple[object, int, int, int]  # owner, descriptor (-1: zeros), offset, length
_ZEROS = object()


class _OpenFile:
    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)


class ServedFiles:
    """Files by (torrent, file). A descriptor is closed when it has left the table and no queued block uses it."""

    def __init__(self) -> None:
        self._budget = min(1024, descriptor_budget())
        self._open: OrderedDict[tuple[int, int], _OpenFile] = OrderedDict()

    def segments(self, layout: Layout, spans: list[FileSpan]) -> list[Segment]:
        """Where the bytes of `spans` are read from. OSError."""
        found: list[Segment] = []
        for file, offset, length in spans:
            if file in layout.pads:
                found.append((_ZEROS, -1, 0, length))
                continue
            key = (layout.torrent, file)
            opened = self._open.get(key)
            if opened is None:
                while len(self._open) >= self._budget:
                    self._open.popitem(last=False)
                opened = self._open[key] = _OpenFile(layout.open_for_reading(file))
            else:
                self._open.move_to_end(key)
            found.append((opened, opened.fd, offset, length))
        return found

    def forget(self, torrent: int) -> None:
        """The torrent is being closed."""
        for key in [key for key in self._open if key[0] == torrent]:
            del self._open[key]
