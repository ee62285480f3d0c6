"""A wall clock that a test sets while programs run by it."""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from support.preloaded import compile_library

_SHARED = struct.Struct("=dQ")


class WallClock:
    """Programs that have `environment` see the time that `set` says."""

    def __init__(self, folder: Path) -> None:
        path = folder / "wall_clock"
        path.write_bytes(_SHARED.pack(0.0, 0))
        self.environment = {"LD_PRELOAD": str(compile_library("wall_clock", folder)), "WALL_CLOCK": str(path)}
        fd = os.open(path, os.O_RDWR)
        self._shared = mmap.mmap(fd, _SHARED.size)
        os.close(fd)

    def set(self, ahead: float) -> None:
        """So many seconds ahead of what it really is."""
        self._shared[:8] = struct.pack("=d", ahead)

    @property
    def asked(self) -> int:
        """How often it was read."""
        return int.from_bytes(self._shared[8:16], "little")

    def close(self) -> None:
        self._shared.close()
