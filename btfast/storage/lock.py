"""One btfast at a time to a torrent's place on disk.

A place is a name in a directory: the torrent's file, also as it is called until it is finished, or its folder. All
processes of a user on a machine share one small file, and a place is a byte of it, locked at the offset that its name
hashes to. So no destination needs to be able to lock (NFS locks nothing that is open for reading, SMB keeps everybody's
writes out), no torrent makes a file for its lock, and the kernel drops the lock when its holder dies, however that
happens. Not seen: other users, other machines, and containers with a /tmp of their own that share the disk. Where /tmp
cannot be used, a process knows of itself only.
"""

from __future__ import annotations

import fcntl
import hashlib
import os

from btfast.storage.layout import PART, Layout

_DIRECTORY = "/tmp"  # and not TMPDIR, which two processes of one user need not have in common


class _Places:
    """The places that this process holds. One a process, because the kernel gives these locks to processes."""

    def __init__(self) -> None:
        self._held: dict[int, list[Layout]] = {}
        self._fd = -1

    def take(self, place: int, layout: Layout) -> bool:
        """False when its files are taken. Torrents of this process may share a folder as long as they share no file."""
        beside = self._held.get(place)
        if beside is None:
            if not self._lock(place):
                return False
            self._held[place] = [layout]
            return True
        wanted = _files(layout)
        if any(not wanted.isdisjoint(_files(other)) for other in beside):
            return False
        beside.append(layout)
        return True

    def give_back(self, place: int, layout: Layout) -> None:
        beside = self._held[place]
        beside.remove(layout)
        if beside:
            return
        del self._held[place]
        if self._fd < 0:
            return
        if self._held:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, place)
        else:
            os.close(self._fd)
            self._fd = -1

    def _lock(self, place: int) -> bool:
        try:
            if self._fd < 0:
                self._fd = _open_shared()
        except OSError:
            return True
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except (BlockingIOError, PermissionError):  # POSIX allows either
            if not self._held:
                os.close(self._fd)
                self._fd = -1
            return False
        except OSError:
            return True  # this /tmp cannot lock
        return True


_places = _Places()


def _open_shared() -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    fd = os.open(f"{_DIRECTORY}/btfast-{os.getuid()}.lock", flags, 0o600)
    if os.fstat(fd).st_uid != os.getuid():  # somebody else's, who could hold every place
        os.close(fd)
        raise PermissionError
    return fd


def _files(layout: Layout) -> set[tuple[str, ...]]:
    """Under both of their names: another torrent may have a file that is called as one of ours until it is finished."""
    files = [path for file, path in enumerate(layout.paths) if file not in layout.pads]
    return {*files, *((*path[:-1], path[-1] + PART) for path in files)}


class PlaceLock:
    """The right to write the files of `layout`."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._held: list[int] = []

    def acquire(self) -> bool:
        """False when another holds it. OSError when the directory is not there."""
        status = os.stat(self._layout.directory)
        first = self._layout.paths[0]
        for name in (first[0], first[0] + PART) if len(first) == 1 else first[:1]:
            text = f"{status.st_dev}:{status.st_ino}:{name}"
            digest = hashlib.sha1(text.encode(errors="surrogateescape"), usedforsecurity=False).digest()
            place = int.from_bytes(digest[:8], "big") >> 2  # offsets have 63 bits, and the byte behind must exist too
            if not _places.take(place, self._layout):
                self.release()
                return False
            self._held.append(place)
        return True

    def release(self) -> None:
        """Gives it up; nothing happens when it is not held."""
        while self._held:
            _places.give_back(self._held.pop(), self._layout)
