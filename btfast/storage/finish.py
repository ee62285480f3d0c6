"""From unfinished to final and back: the moment at which a file's name begins to promise that it is complete."""

from __future__ import annotations

import errno
import os
import stat

from btfast.storage.files import Files
from btfast.storage.layout import Layout
from btfast.storage.messages import Surveyed


def finish_file(files: Files, layout: Layout, file: int) -> None:
    """All of the file is written: makes it durable, then gives it its final name. OSError."""
    fd = files.writable(layout, file, direct=False)
    if os.fstat(fd).st_size != layout.lengths[file]:
        os.ftruncate(fd, layout.lengths[file])
        os.fsync(fd)
    else:
        os.fdatasync(fd) if hasattr(os, "fdatasync") else os.fsync(fd)
    files.forget(layout.torrent, file)
    if not layout.suffix:
        return
    name = layout.paths[file][-1]
    parent = layout.parent(file, create=False)
    try:
        os.rename(name + layout.suffix, name, src_dir_fd=parent, dst_dir_fd=parent)
        os.fsync(parent)
    finally:
        os.close(parent)


def demote_file(layout: Layout, file: int) -> None:
    """A file that is not complete loses its final name. OSError."""
    if not layout.suffix:
        return
    name = layout.paths[file][-1]
    parent = layout.parent(file, create=False)
    try:
        os.rename(name, name + layout.suffix, src_dir_fd=parent, dst_dir_fd=parent)
    finally:
        os.close(parent)


def survey(layout: Layout) -> Surveyed:
    """Which files are there, and whether the destination can be used at all."""
    unfinished: list[int] = []
    final: list[int] = []
    allocated = 0
    try:
        os.makedirs(layout.directory, exist_ok=True)
        info = os.statvfs(layout.directory)
        if not os.access(layout.directory, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        for file in range(len(layout.paths)):
            if file in layout.pads:
                continue
            try:
                parent = layout.parent(file, create=False)
            except FileNotFoundError:
                continue
            try:
                for suffix, found in ((layout.suffix, unfinished), ("", final)):
                    try:
                        status = os.stat(layout.paths[file][-1] + suffix, dir_fd=parent, follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    if not stat.S_ISREG(status.st_mode):
                        raise OSError(errno.EEXIST, f"{layout.path(file)}{suffix} is there and is not a regular file")
                    found.append(file)
                    allocated += status.st_blocks * 512
                    break
            finally:
                os.close(parent)
    except OSError as error:
        return Surveyed(
            torrent=layout.torrent, unfinished=[], final=[], free=0, allocated=0,
            error=error.strerror or str(error), errno=error.errno or errno.EIO,
        )  # fmt: skip
    return Surveyed(
        torrent=layout.torrent,
        unfinished=unfinished,
        final=final,
        free=info.f_bavail * info.f_frsize,
        allocated=allocated,
    )
