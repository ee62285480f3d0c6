"""The hash of a whole file, as a worker reads it: a little at a time, so that pieces are written in between."""

from __future__ import annotations

import errno
import hashlib
import os

from btfast.storage.layout import Layout
from btfast.storage.messages import FileHashed, HashFile

_CHUNK = 1 << 20
_STEP = 16  # chunks


class WholeHash:
    """One order; `step` is called until it has the answer."""

    def __init__(self, order: HashFile) -> None:
        self.torrent = order.torrent
        self._order = order
        self._hashes = [hashlib.new(kind.replace("-", ""), usedforsecurity=False) for kind in order.kinds]
        self._fd: int | None = None
        self._length = 0

    def step(self, layout: Layout | None) -> FileHashed | None:
        """None while there is more to read. `layout`: None when the torrent has been closed."""
        try:
            if layout is None:
                raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
            if self._fd is None:
                self._fd = layout.open_for_reading(self._order.file)
            for _ in range(_STEP):
                data = os.read(self._fd, _CHUNK)
                if not data:
                    digests = [each.digest() for each in self._hashes]
                    return self._end(FileHashed(self._order.question, digests, self._length))
                self._length += len(data)
                for each in self._hashes:
                    each.update(data)
        except OSError as error:
            return self._end(FileHashed(self._order.question, errno=error.errno or errno.EIO))
        return None

    def _end(self, answer: FileHashed) -> FileHashed:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        return answer
