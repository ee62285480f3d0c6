"""What of a torrent is on disk: which of its files, of which size, and what else lies among them. Follows no link."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from btfast.storage.layout import PART

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Kind = Literal["file", "part", "link", "missing", "other", "unreadable"]

# A link on the way is no way, as everywhere in this package.
_NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EMLINK)


class Found(NamedTuple):
    """What stands at a file's place. `path`: below the directory, with the suffix of an unfinished one."""

    kind: Kind  # "part": unfinished; "other": what is no file, such as a directory
    path: bytes
    size: int  # -1 where it is no file
    target: str = ""  # of a link; of an unreadable place, why


class Places:
    """Looks at places below a directory, those in one folder one after the other at the price of a system call each."""

    def __init__(self, directory: str) -> None:
        """Raises OSError when the directory cannot be opened; it may be reached by a link."""
        self.root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._folder: tuple[str, ...] = ()
        self._fd: int | None = self.root

    def __enter__(self) -> Places:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()
        os.close(self.root)

    def look(self, path: tuple[str, ...]) -> Found:
        """What is at `path`, or with `.part` behind it where there is nothing."""
        place = os.fsencode("/".join(path))
        try:
            folder = self._enter(path[:-1])
        except OSError as error:
            return Found("unreadable", place, -1, error.strerror or str(error))
        if folder is None:
            return Found("missing", place, -1)
        for suffix in ("", PART):
            try:
                status = os.stat(path[-1] + suffix, dir_fd=folder, follow_symlinks=False)
            except OSError as error:
                if error.errno in (*_NOTHING_THERE, errno.ENAMETOOLONG):  # a name that has no room for the suffix
                    continue
                return Found("unreadable", place, -1, error.strerror or str(error))
            if stat.S_ISREG(status.st_mode):
                return Found("part" if suffix else "file", place + suffix.encode(), status.st_size)
            if not suffix:
                if stat.S_ISLNK(status.st_mode):
                    with contextlib.suppress(OSError):  # replaced in between: it is no file in any case
                        return Found("link", place, -1, os.readlink(path[-1], dir_fd=folder))
                return Found("other", place, -1)
        return Found("missing", place, -1)

    def _enter(self, folder: tuple[str, ...]) -> int | None:
        if folder != self._folder:
            self._leave()
            self._fd = self._open(folder)
            self._folder = folder
        return self._fd

    def _leave(self) -> None:
        if self._fd is not None and self._fd != self.root:
            os.close(self._fd)
        self._folder, self._fd = (), self.root

    def _open(self, folder: Sequence[str]) -> int | None:
        """None where there is no such folder. OSError for one that cannot be looked into."""
        at = self.root
        for element in folder:
            try:
                below = os.open(element, _DIRECTORY, dir_fd=at)
            except OSError as error:
                if error.errno in _NOTHING_THERE:
                    return None
                raise
            finally:
                if at != self.root:
                    os.close(at)
            at = below
        return at

    def strangers(self, folder: str, known: Iterable[tuple[str, ...]]) -> list[str]:
        """Paths of what lies in `folder` and below but is none of the `known` paths, sorted; of folders only their files.

        A folder that cannot be read is left out.
        """
        expected = {"/".join(path) for path in known}
        found: list[str] = []
        waiting = [folder]
        while waiting:
            where = waiting.pop()
            try:
                fd = self._open(where.split("/"))
            except OSError:
                continue
            if fd is None:
                continue
            try:
                with os.scandir(fd) as entries:
                    for entry in entries:
                        path = f"{where}/{entry.name}"
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(path)
                        elif path not in expected and path.removesuffix(PART) not in expected:
                            found.append(path)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EIO, errno.ENOENT):
                    raise
            finally:
                os.close(fd)
        return sorted(found)
