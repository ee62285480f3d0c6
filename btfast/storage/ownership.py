"""Whose a file is that stands where one of a torrent belongs, when nothing in it verifies.

Files that are written here carry a mark, an extended attribute, that tells their torrent. What has no mark is somebody
else's: it is renamed and never overwritten. Where the disk keeps no such attributes, the resume store has to know the file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable
from typing import Literal

from btfast.storage.layout import MARK, Layout

Whose = Literal["ours", "another torrent's", "unknown", "nobody's"]

OLD = ".old"
_TRIES = 1000
_NAME_BYTES = 255  # NAME_MAX of every common file system
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def owner_of(layout: Layout, file: int, suffix: str, *, recorded: bool = False) -> Whose:
    """`recorded`: it is one that the resume store knows as the torrent's. "nobody's": no byte of data is in it. OSError."""
    parent = layout.parent(file, create=False)
    try:
        fd = os.open(layout.paths[file][-1] + suffix, _READ, dir_fd=parent)
    finally:
        os.close(parent)
    try:
        if not _has_data(fd):
            return "nobody's"
        try:
            mark = os.getxattr(fd, MARK) if hasattr(os, "getxattr") else b""
        except OSError as error:
            if error.errno == errno.ENODATA:
                return "unknown"
            mark = b""
        if not mark:
            return "ours" if recorded else "unknown"
        return "ours" if mark == layout.mark else "another torrent's"
    finally:
        os.close(fd)


def _has_data(fd: int) -> bool:
    """False for an empty file, and for one that was only preallocated."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or not status.st_size:
        return not stat.S_ISREG(status.st_mode)
    try:
        os.lseek(fd, 0, os.SEEK_DATA)
    except OSError as error:
        return error.errno != errno.ENXIO
    return True


def set_aside(layout: Layout, wanted: Iterable[tuple[int, str]]) -> list[tuple[str, str]]:
    """Renames files, each a number and the suffix of its name, to names that nobody has. Returns the paths before and after.

    OSError, and then those before it are renamed.
    """
    taken = {"/".join(path) for path in layout.paths}
    renamed = []
    for file, suffix in wanted:
        *folders, last = layout.paths[file]
        name = last + suffix
        parent = layout.parent(file, create=False)
        try:
            new = next(
                new for new in _names(name)
                if "/".join((*folders, new)) not in taken and _status(new, parent) is None
            )  # fmt: skip
            os.rename(name, new, src_dir_fd=parent, dst_dir_fd=parent)
        except StopIteration:
            raise FileExistsError(errno.EEXIST, f"{_TRIES} older ones are there already: remove those") from None
        finally:
            os.close(parent)
        renamed.append((layout.path(file) + suffix, new))
    return renamed


def _names(name: str) -> Iterable[str]:
    for number in range(1, _TRIES + 1):
        tail = OLD if number == 1 else f"{OLD}.{number}"
        yield name.encode()[: _NAME_BYTES - len(tail)].decode("utf-8", "ignore") + tail


def holds_data(name: str, parent: int) -> bool:
    """Whether a regular file that is not empty has that name in the directory. OSError."""
    status = _status(name, parent)
    return status is not None and stat.S_ISREG(status.st_mode) and status.st_size > 0


def _status(name: str, parent: int) -> os.stat_result | None:
    with contextlib.suppress(FileNotFoundError):
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    return None
