"""What web servers said of their files' versions, kept for later runs: a small file for each torrent in the state directory.

With it a range of the next run is only sent by a server whose file is still the same (If-Range). A file that is damaged
counts as none: all that is lost is that a change shows later, when pieces are wrong.
"""

from __future__ import annotations

import contextlib
import os

import msgspec

from btfast.config import Settings
from btfast.engine.state import state_directory

LARGEST = 4 << 20  # bytes
MOST_FILES = 10_000  # torrents

Validators = dict[str, dict[int, bytes]]  # by URL and file: a strong ETag or Last-Modified

_decoder: msgspec.msgpack.Decoder[Validators] = msgspec.msgpack.Decoder(Validators)


class WebMemory:
    """Of one torrent. Nothing here is needed, so what the disk refuses is borne."""

    def __init__(self, settings: Settings, info_hash: bytes) -> None:
        state = state_directory(settings)
        self._folder = os.path.join(state, "webseeds") if state else ""
        self._path = os.path.join(self._folder, info_hash.hex())

    def load(self) -> Validators:
        """What is known; empty where there is nothing."""
        if not self._folder:
            return {}
        try:
            with open(self._path, "rb") as file:
                found = _decoder.decode(file.read(LARGEST))
        except (OSError, msgspec.DecodeError):
            return {}
        return {url: {file: value for file, value in files.items() if _sound(value)} for url, files in found.items()}

    def save(self, known: Validators) -> None:
        """Keeps it; an empty one is forgotten."""
        if not self._folder:
            return
        with contextlib.suppress(OSError):
            if not known:
                os.unlink(self._path)
                return
            data = msgspec.msgpack.encode(known)
            if len(data) > LARGEST:
                return
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            self._tidy()
            draft = f"{self._path}.{os.getpid()}.part"
            with open(draft, "wb") as file:
                file.write(data)
            os.replace(draft, self._path)


    def _tidy(self) -> None:
        """Makes room where there are too many: the oldest go, and some more, so that it is not for each."""
        names = os.listdir(self._folder)
        if len(names) < MOST_FILES:
            return
        paths = [os.path.join(self._folder, name) for name in names]
        paths.sort(key=lambda path: os.stat(path).st_mtime)
        for path in paths[: len(paths) - MOST_FILES * 9 // 10]:
            os.unlink(path)


def _sound(value: bytes) -> bool:
    """Whether it may stand in a header line."""
    return len(value) <= 512 and all(32 <= byte < 127 for byte in value)
