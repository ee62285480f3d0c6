"""One btfast at a time to a torrent's place on disk, also from another container or machine that shares the disk.

The lock is a file beside the data, `.NAME.btfast-lock`: locking the data itself would not outlive the renaming of files,
and locking the directory would keep out every other torrent. The kernel drops the lock when its holder dies, however
that happens; the file that such a holder leaves is taken over by the next run, which removes it at its end.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os

_LONGEST = 255  # bytes of a file name
_NOT_HERE = frozenset((errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL))


class PlaceLock:
    """The right to write the file or directory `name` in `directory`."""

    def __init__(self, directory: str, name: str) -> None:
        lock = f".{name}.btfast-lock"
        if len(os.fsencode(lock)) > _LONGEST:
            lock = f".{hashlib.sha1(os.fsencode(name)).hexdigest()}.btfast-lock"
        self._path = os.path.join(directory, lock)
        self._fd = -1

    def acquire(self) -> bool:
        """False when another holds it. OSError when the lock cannot be made; `release` it in the end."""
        while True:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open(self._path, flags, 0o666)
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
            if self._is_current():
                return True
            # Its holder removed it between our opening and our locking: what we have is no lock any more.
            self._close()

    def _is_current(self) -> bool:
        try:
            there = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(self._fd))

    def release(self) -> None:
        """Removes the lock; nothing happens when it is not held."""
        if self._fd < 0:
            return
        try:
            if self._is_current():
                os.unlink(self._path)
        except OSError:
            pass  # whoever comes next takes the file over
        self._close()

    def _close(self) -> None:
        os.close(self._fd)
        self._fd = -1
