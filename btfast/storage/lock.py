"""One btfast at a time to a torrent's place on disk, also from another container or machine that shares the disk.

What is locked is the torrent's first file itself, under whichever name it has: the lock belongs to the inode, so it
outlives the renaming to the final name, and leaves no file of its own behind (making and removing one cost a seventh of
the network process's time with many small torrents). The kernel drops it when its holder dies, however that happens.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os

from btfast.storage.layout import Layout

_NOT_HERE = frozenset((errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL))
_NOT_A_FILE = frozenset((errno.ELOOP, errno.ENXIO, errno.EMLINK))  # the survey says what is wrong with it


class PlaceLock:
    """The right to write the files of `layout`."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._file = next((file for file in range(len(layout.paths)) if file not in layout.pads), None)
        self._fd = -1
        self._created = False

    def acquire(self) -> bool:
        """False when another holds it. OSError when the file cannot be opened or made; `release` it in the end."""
        while self._file is not None:
            try:
                fd = self._open(self._file)
            except FileExistsError:
                continue  # another has made it just now
            except OSError as error:
                if error.errno in _NOT_A_FILE:
                    return True
                raise
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return False
            except OSError as error:
                if error.errno not in _NOT_HERE:  # a file system without locks: then there is nothing to hold
                    os.close(fd)
                    raise
            self._fd = fd
            if self._is_current(self._file):
                return True
            self._close()  # it was replaced between our opening and our locking
        return True

    def _open(self, file: int) -> int:
        try:
            return self._layout.open_for_reading(file)
        except FileNotFoundError:
            parent = self._layout.parent(file, create=True)
            try:
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                fd = os.open(self._layout.paths[file][-1] + self._layout.suffix, flags, 0o666, dir_fd=parent)
            finally:
                os.close(parent)
            self._created = True
            return fd

    def _is_current(self, file: int) -> bool:
        try:
            there = self._layout.open_for_reading(file)
        except OSError:
            return False
        try:
            return os.path.sameopenfile(there, self._fd)
        finally:
            os.close(there)

    def release(self) -> None:
        """Gives it up; nothing happens when it is not held. A file that was made for the lock alone goes again."""
        if self._fd < 0:
            return
        assert self._file is not None
        if self._created and self._layout.lengths[self._file] and not os.fstat(self._fd).st_size:
            with contextlib.suppress(OSError):  # an empty unfinished file that stays is harmless
                os.unlink(self._layout.path(self._file) + self._layout.suffix)
        self._close()

    def _close(self) -> None:
        os.close(self._fd)
        self._fd = -1
