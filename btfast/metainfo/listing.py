"""The files below a path that a torrent is to be made of, in the order in which a torrent has them."""

from __future__ import annotations

import errno
import fnmatch
import os
import stat
from collections.abc import Sequence
from typing import NamedTuple

from btfast.errors import InputError, SourceNotFoundError, StorageError

MAX_DEPTH = 48  # directories on the way to a file: a file tree of this depth is within every decoder's limit
_HIDDEN_FLAG = getattr(stat, "UF_HIDDEN", 0)  # macOS and the BSDs


class Listed(NamedTuple):
    """A file or a link. `path`: below the torrent's directory, UTF-8; that of a single file is its name alone."""

    path: tuple[bytes, ...]
    where: str  # to read it from
    length: int
    mtime_ns: int
    executable: bool
    hidden: bool
    link: tuple[bytes, ...] | None = None  # what it points to, below the torrent's directory


class Listing(NamedTuple):
    """What is below a path."""

    name: bytes
    single: bool
    files: tuple[Listed, ...]


def list_files(
    path: str, *, exclude: Sequence[str] = (), follow_links: bool = False, dot_hidden: bool = False
) -> Listing:
    """The file at `path`, or all files below the folder, sorted by their path elements as bytes: the order of BEP 52.

    `exclude`: patterns as of a shell; one with a slash is held against the path below the folder, one without against
    names. A link within the folder stays a link (BEP 47) unless they are to be followed. `dot_hidden`: names that begin
    with a dot are hidden. Raises SourceNotFoundError, InputError for what no torrent can hold, StorageError.
    """
    absolute = os.path.abspath(path)
    name = utf8(os.path.basename(absolute), path)
    if not name:
        raise InputError(f"{path}: has no name: give a file, or a folder below the root")
    try:
        status = os.stat(absolute)
        if stat.S_ISREG(status.st_mode):
            return Listing(name, True, (_listed((name,), absolute, status, dot_hidden),))
        if not stat.S_ISDIR(status.st_mode):
            raise InputError(f"{path}: neither a file nor a folder: give one of them")
        walk = _Walk(absolute, exclude, follow_links, dot_hidden)
        return Listing(name, False, tuple(walk.files()))
    except OSError as error:
        raise error_of(error, path) from error


def error_of(error: OSError, path: str) -> SourceNotFoundError | StorageError:
    """The error for a path that cannot be read."""
    where = error.filename if isinstance(error.filename, str) else path
    if error.errno in (errno.ENOENT, errno.ENOTDIR) and where == os.path.abspath(path):
        return SourceNotFoundError(f"{path}: no such file or folder: check the path")
    return StorageError(f"{where}: cannot be read: {error.strerror or error}: check its permissions", errno=error.errno)


def utf8(name: str, path: str) -> bytes:
    """The bytes of a name from the file system. Raises InputError when they are not UTF-8, as a torrent needs."""
    try:
        return name.encode("utf-8")
    except UnicodeEncodeError:
        shown = path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        raise InputError(f"{shown}: its name is not UTF-8: rename it, or leave it out with --exclude") from None


class _Walk:
    """One walk over a folder."""

    def __init__(self, root: str, exclude: Sequence[str], follow_links: bool, dot_hidden: bool) -> None:
        self._root = root
        self._real_root = os.path.realpath(root)
        self._names = [pattern for pattern in exclude if "/" not in pattern]
        self._paths = [pattern.strip("/") for pattern in exclude if "/" in pattern]
        self._follow_links = follow_links
        self._dot_hidden = dot_hidden

    def files(self) -> list[Listed]:
        found: list[Listed] = []
        # The folders on the way to each are kept: a link to one of them would be an endless path.
        waiting: list[tuple[str, tuple[bytes, ...], tuple[tuple[int, int], ...]]] = [(self._root, (), ())]
        while waiting:
            folder, path, above = waiting.pop()
            if len(path) > MAX_DEPTH:
                raise InputError(f"{folder}: more than {MAX_DEPTH} folders deep: make it flatter")
            if self._follow_links:
                status = os.stat(folder)
                if (status.st_dev, status.st_ino) in above:
                    raise InputError(f"{folder}: a link to a folder that it is in: remove it, or use --exclude")
                above = (*above, (status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                for entry in entries:
                    place = (*path, utf8(entry.name, entry.path))
                    if self._is_excluded(entry.name, place):
                        continue
                    if entry.is_symlink() and not self._follow_links:
                        found.append(self._link(entry, place))
                    elif entry.is_dir():
                        waiting.append((entry.path, place, above))
                    else:
                        status = entry.stat()
                        if not stat.S_ISREG(status.st_mode):
                            raise InputError(f"{entry.path}: neither a file nor a folder: remove it, or use --exclude")
                        found.append(_listed(place, entry.path, status, self._dot_hidden))
        found.sort()
        return found

    def _is_excluded(self, name: str, place: tuple[bytes, ...]) -> bool:
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in self._names):
            return True
        return bool(self._paths) and any(
            fnmatch.fnmatchcase(b"/".join(place).decode(), pattern) for pattern in self._paths
        )

    def _link(self, entry: os.DirEntry[str], place: tuple[bytes, ...]) -> Listed:
        """A link as BEP 47 has them: its target is a file or a folder of the torrent, named from the torrent's root."""
        target = os.path.normpath(os.path.join(os.path.dirname(entry.path), os.readlink(entry.path)))
        inside = os.path.relpath(os.path.realpath(entry.path), self._real_root)
        below = os.path.relpath(target, self._root)
        remedy = "have what it leads to instead with --follow-links, or use --exclude"
        if ".." in inside.split(os.sep) or ".." in below.split(os.sep):
            raise InputError(f"{entry.path}: a link that leads out of the folder: {remedy}")
        if not os.path.isfile(target) and not (os.path.isdir(target) and below != "."):
            raise InputError(f"{entry.path}: a link that leads to no file or folder of the torrent: {remedy}")
        status = entry.stat(follow_symlinks=False)
        link = tuple(utf8(element, entry.path) for element in below.split(os.sep))
        return _listed(place, entry.path, status, self._dot_hidden)._replace(length=0, executable=False, link=link)


def _listed(path: tuple[bytes, ...], where: str, status: os.stat_result, dot_hidden: bool) -> Listed:
    hidden = bool(_HIDDEN_FLAG and getattr(status, "st_flags", 0) & _HIDDEN_FLAG) or (dot_hidden and path[-1][:1] == b".")
    return Listed(path, where, status.st_size, status.st_mtime_ns, bool(status.st_mode & stat.S_IXUSR), hidden)
