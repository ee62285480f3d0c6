"""What a finished file gets besides its bytes and its name: the executable bit and its time."""

from __future__ import annotations

import contextlib
import os
import struct
from typing import NamedTuple

_FORMAT = struct.Struct(">?q")
_NO_TIME = -(2**63)


class Marks(NamedTuple):
    """`mtime`: seconds since 1970; None leaves the time at which it was written, but for a nanosecond."""

    executable: bool = False
    mtime: int | None = None

    def pack(self) -> bytes:
        """As the job of finishing a file carries it; b"" where there is nothing to do."""
        if self == Marks():
            return b""
        return _FORMAT.pack(self.executable, _NO_TIME if self.mtime is None else self.mtime)

    @classmethod
    def unpack(cls, data: bytes) -> Marks:
        if not data:
            return cls()
        executable, mtime = _FORMAT.unpack(data)
        return cls(executable, None if mtime == _NO_TIME else mtime)

    def put_on(self, fd: int) -> None:
        """Does it; who may read the file may execute it. File systems that keep no modes or times are borne.

        Older kernels count times in ticks of some milliseconds: a change in the tick of our last write would not be seen in
        the time. So a file that was only written becomes one nanosecond older: no later write has that time.
        """
        if self.executable:
            mode = os.fstat(fd).st_mode & 0o777
            with contextlib.suppress(OSError):
                os.fchmod(fd, mode | (mode & 0o444) >> 2)
        with contextlib.suppress(OSError, OverflowError):
            if self.mtime is not None:
                os.utime(fd, (self.mtime, self.mtime))
            elif (status := os.fstat(fd)).st_mtime_ns == status.st_ctime_ns:  # else the tick is over
                os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns - 1))
