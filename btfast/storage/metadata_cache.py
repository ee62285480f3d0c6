"""Info dicts that were fetched from peers, kept so that a second run need not ask again: a file each, named by its hash.

What is read is checked against its name, so nothing here has to survive a crash: a damaged file is one that is missing.
Piece layers of v2 torrents (BEP 52) lie beside them; those are checked against the info dict by who reads them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os

MOST_FILES = 10_000
MOST_BYTES = 256 << 20
LARGEST = 16 << 20
_LAYERS = ".layers"  # at the end of their names
_KEPT = 0.75  # of the limits, when what was not used for longest is thrown away


class MetadataCache:
    """`directory` is made when the first is saved."""

    def __init__(
        self, directory: str, *, most_files: int = MOST_FILES, most_bytes: int = MOST_BYTES, largest: int = LARGEST
    ) -> None:
        self._directory = directory
        self._most_files = most_files
        self._most_bytes = most_bytes
        self._largest = largest
        self._files = -1  # not counted yet
        self._bytes = 0

    def load(self, info_hash: bytes) -> bytes | None:
        """The info dict with this SHA-1, or with a SHA-256 that begins so; or None."""
        path = self._path(info_hash)
        data = self._read(path)
        if data is None:
            return None
        if len(data) > self._largest or info_hash not in _hashes(data, len(info_hash)):
            with contextlib.suppress(OSError):
                os.unlink(path)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # what is used is kept
        return data

    def load_layers(self, info_hash: bytes) -> bytes | None:
        """What save_layers has kept, perhaps damaged since."""
        data = self._read(self._path(info_hash) + _LAYERS)
        return data if data is not None and len(data) <= self._largest else None

    def _read(self, path: str) -> bytes | None:
        try:
            with open(path, "rb") as file:
                return file.read(self._largest + 1)
        except OSError:
            return None

    def save(self, info_hash: bytes, data: bytes) -> None:
        """Raises OSError."""
        self._save(self._path(info_hash), data)

    def save_layers(self, info_hash: bytes, data: bytes) -> None:
        """Piece layers of the torrent with that info-hash, in whatever form. Raises OSError."""
        self._save(self._path(info_hash) + _LAYERS, data)

    def _save(self, path: str, data: bytes) -> None:
        if len(data) > self._largest:
            return
        if self._files < 0:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            self._tidy()
        draft = f"{path}.{os.getpid()}.part"
        try:
            with open(draft, "wb") as file:
                file.write(data)
            os.replace(draft, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(draft)
            raise
        self._files += 1
        self._bytes += len(data)
        if self._files > self._most_files or self._bytes > self._most_bytes:
            self._tidy()

    def _path(self, info_hash: bytes) -> str:
        return os.path.join(self._directory, info_hash.hex())

    def _tidy(self) -> None:
        """Counts what is there, and when it is too much removes the oldest."""
        found: list[tuple[float, int, str]] = []
        with os.scandir(self._directory) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # another run tidies at the same time
                    status = entry.stat(follow_symlinks=False)
                    found.append((status.st_mtime, status.st_size, entry.path))
        found.sort(reverse=True)
        self._files, self._bytes = len(found), sum(size for _, size, _ in found)
        if self._files <= self._most_files and self._bytes <= self._most_bytes:
            return
        while found and (self._files > _KEPT * self._most_files or self._bytes > _KEPT * self._most_bytes):
            _, size, path = found.pop()
            with contextlib.suppress(OSError):
                os.unlink(path)
            self._files -= 1
            self._bytes -= size


def _hashes(data: bytes, length: int) -> tuple[bytes, bytes]:
    return hashlib.sha1(data).digest(), hashlib.sha256(data).digest()[:length]
