"""Where a torrent lives on disk, and the opening of its files without ever following a link out of there."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Sequence
from typing import NamedTuple, overload

from btfast import _disk
from btfast.metainfo.geometry import BLOCK, FileSpan, Geometry
from btfast.storage.messages import OpenTorrent
from btfast.storage.slots import Slots

PART = ".part"
MARK = "user.btfast.torrent"  # the extended attribute of files that were made here
PAGE = 4096  # what direct I/O is aligned to here; no disk in use needs more
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_O_DIRECT = getattr(os, "O_DIRECT", 0)
_OPENED = struct.Struct("<6Q")


class Opened(NamedTuple):
    """Which file it was that was opened for writing. `made`: when it was created by that, 0 where it was there."""

    inode: int
    made: int


_NOT = Opened(0, 0)


class Paths(Sequence[tuple[str, ...]]):
    """The paths of files, each as its elements: cut when they are asked for, since a process may know of many."""

    def __init__(self, paths: list[str]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, file: int) -> tuple[str, ...]: ...

    @overload
    def __getitem__(self, file: slice) -> Sequence[tuple[str, ...]]: ...

    def __getitem__(self, file: int | slice) -> tuple[str, ...] | Sequence[tuple[str, ...]]:
        if isinstance(file, slice):
            return Paths(self._paths[file])
        return tuple(self._paths[file].split("/"))


class Layout:
    """One open torrent in a worker. `direct`: whether O_DIRECT is still believed to work here.

    Wherever a file is named by its number, `parts_file` names the parts file. `in_parts`: pieces that are read from it.
    """

    def __init__(self, order: OpenTorrent) -> None:
        self.torrent = order.torrent
        self.directory = order.directory
        self.paths = Paths(order.paths)
        self.lengths = order.lengths
        self.pads = frozenset(order.pads)
        self.geometry = Geometry(order.piece_length, order.lengths, aligned=order.aligned)
        self.suffix = "" if order.in_place else PART
        self.parts_file = len(order.paths)
        self.in_parts: set[int] = set()
        self.mark = order.mark
        self._parts = order.parts
        self.links = {link.file: link for link in order.links}
        self._levels = order.levels
        self._slots: Slots | None = None
        self.direct = order.io != "buffered" and _O_DIRECT != 0
        self._must_be_direct = order.io == "direct"
        self._probed = False
        self._written: set[int] = set()  # files that were opened for writing here
        self._opened: dict[int, Opened] = {}  # and which files these were

    def tree_shape(self, piece: int) -> tuple[int, int]:
        """How many bytes of a v2 or hybrid torrent's piece are its file's, and how many leaves its tree has (BEP 52)."""
        file, _, length = self.geometry.piece_spans(piece)[0]  # behind a hybrid's file there is at most a pad
        blocks = -(-min(self.lengths[file], self.geometry.piece_length) // BLOCK)
        return length, 1 << (blocks - 1).bit_length()

    @property
    def slots(self) -> Slots:
        """Where pieces lie in the parts file; made when first needed."""
        if self._slots is None:
            self._slots = Slots(self.geometry, self.pads)
        return self._slots

    @property
    def partial(self) -> bool:
        """Whether some file is not wanted."""
        return bool(self._levels)

    @property
    def has_parts(self) -> bool:
        """Whether there may be a parts file, of this run or an earlier one."""
        return bool(self._parts)

    def wants(self, file: int) -> bool:
        """Whether a file is to be fetched; of the others nothing is written under their own names."""
        return not self._levels or self._levels[file] > 0

    def keeps(self, piece: int) -> bool:
        """Whether a piece holds bytes of files that are not wanted, so that it goes to the parts file as well."""
        if not self._levels:
            return False
        return any(not self._levels[file] and file not in self.pads for file, _, _ in self.geometry.piece_spans(piece))

    def spans(self, piece: int, begin: int, length: int) -> list[FileSpan]:
        """Where bytes of a piece that is here are read from. IndexError."""
        if piece in self.in_parts:
            return [FileSpan(self.parts_file, self.slots.offset(piece) + begin, length)]
        return self.geometry.spans(piece * self.geometry.piece_length + begin, length)

    def written(self, piece: int, begin: int, length: int) -> list[FileSpan]:
        """Where bytes of a piece lie that was written, in part or whole, with this choice of files. IndexError."""
        if self.keeps(piece):
            return [FileSpan(self.parts_file, self.slots.offset(piece) + begin, length)]
        return self.geometry.spans(piece * self.geometry.piece_length + begin, length)

    def path(self, file: int) -> str:
        """For messages."""
        if file == self.parts_file:
            return os.path.join(self.directory, self._parts)
        return os.path.join(self.directory, *self.paths[file])

    def parent(self, file: int, *, create: bool) -> int:
        """A descriptor of the directory that holds the file; the caller closes it. OSError.

        The torrent's directory itself is never created here: when it has gone, so has what was written into it.
        """
        parent = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for element in self.paths[file][:-1] if file != self.parts_file else ():
            try:
                try:
                    below = os.open(element, _DIRECTORY, dir_fd=parent)
                except FileNotFoundError:
                    if not create:
                        raise
                    with contextlib.suppress(FileExistsError):  # another worker may be faster
                        os.mkdir(element, dir_fd=parent)
                    below = os.open(element, _DIRECTORY, dir_fd=parent)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK):
                    raise NotADirectoryError(
                        errno.ENOTDIR, f"{element!r} on the way to it is a link or a file where a directory belongs"
                    ) from None
                raise
            finally:
                os.close(parent)
            parent = below
        return parent

    def open_for_writing(self, file: int, *, direct: bool, allocate: bool = True) -> int:
        """A descriptor of the unfinished file, created where it is not there yet, and with `allocate` preallocated. OSError.

        It is created once: one that has gone since took verified data with it, and a new one would have a hole there.
        """
        name = self._parts if file == self.parts_file else self.paths[file][-1] + self.suffix
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (_O_DIRECT if direct else 0)
        create = file not in self._written
        parent = self.parent(file, create=create)
        try:
            try:
                fd = os.open(name, flags | (os.O_CREAT | os.O_EXCL if create else 0), 0o666, dir_fd=parent)
            except FileExistsError:
                create = False
                fd = os.open(name, flags, dir_fd=parent)
        finally:
            os.close(parent)
        self._written.add(file)
        if create and file != self.parts_file:
            self.sign(fd)
        try:
            status = os.fstat(fd)
            # An inode's number may be given again at once; made twice within a tick of the kernel's clock no file is.
            self._opened[file] = Opened(status.st_ino, status.st_ctime_ns if create else self._opened.get(file, _NOT).made)
            if allocate and file != self.parts_file:
                self.allocate(fd, file)
        except OSError:
            os.close(fd)
            raise
        return fd

    def written_into(self, piece: int) -> bytes:
        """Which files a piece was written into: `opened_of` takes it apart.

        Told are those that other pieces, and so other workers, write into as well: the first, the last and the parts file.
        """
        return _OPENED.pack(*(number for file in self._shared(piece) for number in self._opened.get(file, _NOT)))

    def opened_of(self, piece: int, told: bytes) -> dict[int, Opened]:
        """What a worker has told of a piece, by file."""
        numbers = _OPENED.unpack(told)
        found = zip(self._shared(piece), map(Opened, numbers[::2], numbers[1::2]), strict=True)
        return {file: opened for file, opened in found if opened != _NOT}

    def _shared(self, piece: int) -> tuple[int, int, int]:
        files = self.geometry.piece_files(piece)
        return files[0], files[-1], self.parts_file

    def allocate(self, fd: int, file: int) -> None:
        """Gives it its whole length, and room for it where that can be had. OSError."""
        if os.fstat(fd).st_size < self.lengths[file] and not _disk.preallocate(fd, self.lengths[file]):
            os.ftruncate(fd, self.lengths[file])

    def sign(self, fd: int) -> None:
        """Marks a file as made for this torrent, where the disk keeps such marks."""
        if self.mark and hasattr(os, "setxattr"):
            with contextlib.suppress(OSError):
                os.setxattr(fd, MARK, self.mark)

    def must_exist(self, file: int) -> None:
        """All of the file was written, here or by others: from now on it is not created any more."""
        self._written.add(file)

    def may_be_made(self, file: int) -> None:
        """What was written to it counts for nothing any more: where it is not there it is created again."""
        self._written.discard(file)
        self._opened.pop(file, None)

    def open_for_reading(self, file: int, *, final: bool = False) -> int:
        """A descriptor of the file under whichever name it has. OSError, FileNotFoundError where it has neither.

        Where it has both, the `final` one or the other.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        parent = self.parent(file, create=False)
        try:
            if file == self.parts_file:
                return os.open(self._parts, flags, dir_fd=parent)
            first, second = ("", self.suffix) if final else (self.suffix, "")
            try:
                return os.open(self.paths[file][-1] + first, flags, dir_fd=parent)
            except FileNotFoundError:
                return os.open(self.paths[file][-1] + second, flags, dir_fd=parent)
        finally:
            os.close(parent)

    def probe_direct(self, fd: int) -> None:
        """Asks the kernel once, on the first file, what direct I/O needs; gives it up where that is more than a page."""
        if self._probed:
            return
        self._probed = True
        alignment = _disk.direct_alignment(fd)
        if alignment is not None and not 0 < max(alignment) <= PAGE:
            self.give_up_direct()

    def give_up_direct(self) -> None:
        """Direct I/O was refused: buffered from now on, or OSError where the user insisted on direct."""
        if self._must_be_direct:
            raise OSError(errno.EINVAL, "direct I/O is not supported here; use --io auto")
        self.direct = False
