"""On which volume a directory lies, told so that it holds after the next boot: numbers of devices are given anew by then.

What lasts is where a volume is mounted. That is recorded with what lies on it: when none of it is found, and nothing is
mounted at that place, it is on a volume that is missing, whatever its kind (a disk, a subvolume, a server's export). Where
something is mounted, it may be another disk: of the kinds that have a device, the number tells that, or the id of its file
system, which survives a new number. A file system without a device (tmpfs) is made anew at each mount, and what was in it
has gone: then nothing is missing.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

_MOUNTS = "/proc/self/mountinfo"
_MOST = 16 << 20  # bytes of it that are read
_ESCAPED = re.compile(rb"\\([0-7]{3})")


class Volume(NamedTuple):
    """`point`: where it is mounted, "" for not known; `id`: of its file system (f_fsid), 0 where it tells none."""

    point: str = ""
    id: int = 0

    def pack(self) -> str:
        """As the resume store keeps it."""
        return f"{self.id:x} {self.point}" if self.point else ""

    @classmethod
    def unpack(cls, text: str) -> Volume:
        """What `pack` gave; of anything else nothing is known."""
        number, _, point = text.partition(" ")
        try:
            return cls(point, int(number, 16)) if point.startswith("/") else cls()
        except ValueError:
            return cls()


class Volumes:
    """Those that are mounted, looked up once, when first needed. `mounts`: the text of mountinfo, in place of the kernel's."""

    def __init__(self, mounts: bytes | None = None) -> None:
        self._points = mount_points(mounts) if mounts is not None else None
        self._found: dict[str, Volume] = {}

    def of(self, directory: str) -> Volume:
        """The one that holds it. OSError when there is no such directory."""
        found = self._found.get(directory)
        if found is None:
            at = os.path.realpath(directory)
            number = getattr(os.statvfs(at), "f_fsid", 0)
            while at != os.path.dirname(at) and not self.is_mounted(at):
                at = os.path.dirname(at)
            found = self._found[directory] = Volume(at, number)
        return found

    def is_mounted(self, point: str) -> bool:
        """Whether a volume begins at this path."""
        if self._points is None:
            self._points = _read()
        if point == "/":
            return True
        return point in self._points if self._points else os.path.ismount(point)

    def renumbered(self, recorded: Volume, directory: str, device: int, device_now: int) -> bool:
        """Whether what is in the directory may be what was there on the `device`, although that has another number now."""
        if not os.major(device) and not os.major(device_now):
            return True  # these have no device, and get a number at each mount
        return recorded.id != 0 and self._id(directory) == recorded.id

    def missing(self, recorded: Volume, device: int, directory: str) -> bool:
        """Nothing is left of what was in the directory, on the `device`: whether its volume is not there, or another one is."""
        if recorded.point and not self.is_mounted(recorded.point):
            return True
        if recorded.point == "/" or not os.major(device) or not _is_empty(directory):
            return False
        here = recorded.point or _nearest(directory)
        if _device(here) in (device, None):
            return False
        return recorded.id == 0 or self._id(here) != recorded.id

    def _id(self, directory: str) -> int:
        try:
            return self.of(directory).id
        except OSError:  # it cannot be looked at, or has gone
            return 0


def mount_points(text: bytes) -> frozenset[str]:
    """The paths at which something is mounted, out of the text of mountinfo (proc(5)); what makes no sense is left out."""
    fields = [line.split(b" ") for line in text.split(b"\n")]
    return frozenset(
        os.fsdecode(_ESCAPED.sub(lambda found: bytes([int(found[1], 8) & 255]), words[4])) for words in fields if len(words) > 4
    )


def _read() -> frozenset[str]:
    """Nothing where the kernel has no such list."""
    try:
        with open(_MOUNTS, "rb") as file:
            return mount_points(file.read(_MOST))
    except OSError:
        return frozenset()


def _device(directory: str) -> int | None:
    try:
        return os.stat(directory).st_dev
    except OSError:
        return None


def _nearest(directory: str) -> str:
    """It, or what of the way to it is there."""
    while not os.path.isdir(directory) and directory != os.path.dirname(directory):
        directory = os.path.dirname(directory)
    return directory


def _is_empty(directory: str) -> bool:
    """Whether it could be the place where a disk is to be mounted: nothing is in it, or it is not there at all."""
    try:
        with os.scandir(directory) as entries:
            return next(entries, None) is None
    except OSError:
        return True
