"""Symbolic links of a torrent: made last, and only to what is there below the torrent's own folder."""

from __future__ import annotations

import errno
import os

from btfast.storage.layout import Layout

_WALK = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def make_link(layout: Layout, file: int) -> None:
    """Makes link number `file`, or finds it there. OSError: FileNotFoundError where it would lead to nothing,
    FileExistsError where something else stands in its place, NotADirectoryError where somebody's link is on the way.
    """
    link = layout.links[file]
    if not link.text:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    _must_be_there(layout.directory, link.leads_to.split("/"))
    name = layout.paths[file][-1]
    parent = layout.parent(file, create=True)
    try:
        try:
            os.symlink(link.text, name, dir_fd=parent)
        except FileExistsError:
            if _read(name, parent) != link.text:
                raise
            return
        os.fsync(parent)
    finally:
        os.close(parent)


def _must_be_there(directory: str, path: list[str]) -> None:
    """Walks to what the link leads to without following any link."""
    parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for element in path[:-1]:
            try:
                below = os.open(element, _WALK, dir_fd=parent)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENOTDIR):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
                raise
            os.close(parent)
            parent = below
        os.stat(path[-1], dir_fd=parent, follow_symlinks=False)
    finally:
        os.close(parent)


def _read(name: str, parent: int) -> str:
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError:
        return ""  # it is no link
