"""Files that are on this machine already: found by their size, proven by their pieces, and copied, never linked.

What is copied gets the name of an unfinished file and counts for nothing until all of it is hashed, as whatever else lies
there. Where the file system can, the copy shares its blocks with the original and costs nothing (a reflink).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha1
from typing import NamedTuple

from btfast.metainfo import merkle
from btfast.metainfo.torrent import Torrent
from btfast.storage.layout import Layout

MAX_FILES = 2_000_000  # that are remembered
CANDIDATES = 16  # of one size that are looked into closely
GLANCES = 256  # that are looked into at all: those beyond the first ones at one place only
_CHUNK = 1 << 20
_STRETCH = 16 << 20  # bytes copied between two looks at whether they are still wanted
_PLACES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the pieces that lie in a file alone, those that are looked at
_FICLONE = 0x40049409  # ioctl_ficlone(2)
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Reused(NamedTuple):
    """Files of a torrent that were copied, by number, their bytes, and what went wrong, a line each."""

    files: list[int]
    bytes: int
    problems: list[str]


class LocalFiles:
    """Regular files by their size."""

    def __init__(self) -> None:
        self._by_size: dict[int, list[str]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, path: str, size: int) -> None:
        """One file more; empty ones are worth nothing, and beyond MAX_FILES none is taken."""
        if size and self._count < MAX_FILES:
            self._by_size.setdefault(size, []).append(path)
            self._count += 1

    def scan(self, directory: str) -> list[str]:
        """All files below a directory, links left out. Returns what could not be looked into, a line each."""
        problems: list[str] = []
        waiting = [directory]
        while waiting and self._count < MAX_FILES:
            here = waiting.pop()
            try:
                with os.scandir(here) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(entry.path)
                        elif entry.is_file(follow_symlinks=False):
                            with contextlib.suppress(FileNotFoundError):  # it has gone meanwhile
                                self.add(entry.path, entry.stat(follow_symlinks=False).st_size)
            except OSError as error:
                problems.append(f"{here}: {error.strerror or error}")
        return problems

    def candidates(self, size: int, name: str) -> list[str]:
        """Files of that size, at most GLANCES, those called `name` first, those that were taken already last."""
        found = sorted(self._by_size.get(size, ()), key=lambda path: os.path.basename(path) != name)
        return found[:GLANCES]

    def taken(self, path: str, size: int) -> None:
        """It is what was looked for, and hardly the next file too: of a series each part has the same size."""
        same = self._by_size[size]
        same.remove(path)
        same.append(path)


def take_files(
    torrent: Torrent, layout: Layout, local: LocalFiles, wanted: Sequence[int], stopped: Callable[[], bool] = bool
) -> Reused:
    """Copies what is there of the wanted files of which nothing is at their place yet, until `stopped` says True."""
    reused = Reused([], 0, [])
    for file in wanted:
        if stopped():
            break
        length = layout.lengths[file]
        if not length or file in layout.pads or not _absent(layout, file):
            continue
        path = _best(torrent, file, local.candidates(length, layout.paths[file][-1]), reused.problems)
        if path is None:
            continue
        try:
            with _opened(path, length) as source:
                if source is None:
                    continue
                _copy(source, layout, file, stopped)
        except OSError as error:
            reused.problems.append(f"{path}: cannot be copied: {error.strerror or error}")
            continue
        local.taken(path, length)
        reused.files.append(file)
        reused = reused._replace(bytes=reused.bytes + length)
    return reused


def _best(torrent: Torrent, file: int, candidates: Sequence[str], problems: list[str]) -> str | None:
    """The candidate of which most samples are right; one of which none is right is another file."""
    best, most = None, 0
    for number, path in enumerate(candidates):
        places = _PLACES if number < CANDIDATES else _PLACES[:1]
        try:
            with _opened(path, torrent.files[file].length) as source:
                right = 0 if source is None else _right_samples(torrent, file, source, path, places)
                if right and len(places) < len(_PLACES) and source is not None:
                    right = _right_samples(torrent, file, source, path, _PLACES)
        except OSError as error:
            problems.append(f"{path}: cannot be read: {error.strerror or error}")
            continue
        if right > most:
            best, most = path, right
        if right == len(_PLACES):
            break
    return best


def _absent(layout: Layout, file: int) -> bool:
    try:
        os.close(layout.open_for_reading(file))
    except FileNotFoundError:
        return True
    except OSError:
        return False  # whoever looks for it next says what is wrong there
    return False


@contextlib.contextmanager
def _opened(path: str, length: int) -> Iterator[int | None]:
    """A descriptor of a regular file of that length; None where it is no such file any more."""
    try:
        fd = os.open(path, _READ)
    except FileNotFoundError:
        yield None
        return
    try:
        status = os.fstat(fd)
        yield fd if stat.S_ISREG(status.st_mode) and status.st_size == length else None
    finally:
        os.close(fd)


def _right_samples(torrent: Torrent, file: int, source: int, path: str, places: Sequence[float]) -> int:
    """How many samples are right, each place counted; of a file without pieces of its own the name decides."""
    pieces = torrent.geometry.file_pieces(file)
    first, last = pieces[0], pieces[-1]
    while first <= last and not _is_alone(torrent, file, first):
        first += 1
    while first <= last and not _is_alone(torrent, file, last):
        last -= 1
    if first > last:
        return int(os.path.basename(path) == torrent.files[file].path[-1])
    chosen = [first + round(place * (last - first)) for place in places]
    right = {index: _piece_is_right(torrent, file, index, source) for index in set(chosen)}
    return sum(right[index] for index in chosen)


def _is_alone(torrent: Torrent, file: int, index: int) -> bool:
    """Whether the piece has no bytes of other files, and what it hashes to is known."""
    spans = torrent.geometry.piece_spans(index)
    return all(span.file == file or torrent.files[span.file].pad for span in spans) and bool(torrent.hashes.digest(index))


def _piece_is_right(torrent: Torrent, file: int, index: int, source: int) -> bool:
    geometry = torrent.geometry
    digest = sha1(usedforsecurity=False)
    leaves = b""
    for span in geometry.piece_spans(index):
        if span.file != file:
            digest.update(bytes(span.length))
            continue
        for chunk in _chunks(source, span.offset, span.length):
            if torrent.pieces:
                digest.update(chunk)
            else:
                leaves += merkle.leaf_hashes(chunk)
    if torrent.pieces:
        return digest.digest() == torrent.pieces[20 * index : 20 * index + 20]
    length = torrent.files[file].length
    return merkle.piece_root(leaves, geometry.piece_length, length) == torrent.hashes.v2_digest(index)


def _chunks(source: int, offset: int, length: int) -> Iterator[bytes]:
    """Bytes of a file, in whole leaves of its merkle tree; they end early where the file does."""
    end = offset + length
    while offset < end:
        chunk = b""
        wanted = min(_CHUNK, end - offset)
        while len(chunk) < wanted:
            more = os.pread(source, wanted - len(chunk), offset + len(chunk))
            if not more:
                break
            chunk += more
        yield chunk
        if len(chunk) < wanted:
            return
        offset += wanted


def _copy(source: int, layout: Layout, file: int, stopped: Callable[[], bool]) -> None:
    """OSError, and then nothing is left at the file's place."""
    target = layout.open_for_writing(file, direct=False, allocate=False)  # what is shared needs no room
    try:
        if not _cloned(source, target):
            layout.allocate(target, file)
            _copy_bytes(source, target, layout.lengths[file], stopped)
    except OSError:
        parent = layout.parent(file, create=False)
        try:
            os.unlink(layout.paths[file][-1] + layout.suffix, dir_fd=parent)
        finally:
            os.close(parent)
        raise
    finally:
        os.close(target)


def _cloned(source: int, target: int) -> bool:
    """Whether the file system let both share their blocks."""
    import fcntl  # here: not everywhere, and needed by few

    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False  # it cannot, for one reason or another: the bytes are copied
    return True


def _copy_bytes(source: int, target: int, length: int, stopped: Callable[[], bool]) -> None:
    done = 0
    in_kernel = hasattr(os, "copy_file_range")
    while done < length:
        if stopped():
            raise InterruptedError(errno.EINTR, "it is not wanted any more")
        if in_kernel:
            try:
                moved = os.copy_file_range(source, target, min(length - done, _STRETCH), done, done)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
                    raise
                in_kernel = False
                continue
        else:
            moved = os.pwrite(target, os.pread(source, _CHUNK, done), done)
        if moved == 0:
            raise OSError(errno.EIO, "it became shorter meanwhile")
        done += moved
