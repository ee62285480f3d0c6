"""`get --metadata-only`: a torrent's own file, NAME.torrent, in the output directory."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
from collections.abc import Callable, Sequence

from btfast._bencode import BencodeError, info_span
from btfast.errors import StorageError
from btfast.metainfo.paths import ELEMENT_BYTES, safe_name
from btfast.metainfo.torrent import MAX_TORRENT_BYTES, Torrent
from btfast.storage.finish import make_directory, sync_file

_SUFFIX = ".torrent"
_BATCH = 64  # files

Also = Callable[[], None]
Outcome = str | Exception


class TorrentFiles:
    """Writes them in one thread, each time all that wait: a thread for each would take longer to wake than to write."""

    def __init__(self) -> None:
        self._waiting: list[tuple[str, Torrent, Also | None, asyncio.Future[Outcome]]] = []
        self._working: asyncio.Task[None] | None = None

    async def save(self, directory: str, torrent: Torrent, also: Also | None = None) -> str:
        """Writes the .torrent under a name that nothing else has, or finds it there; returns the name.

        When this returns, it is on disk. `also` is called in the same thread. Raises StorageError.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Outcome] = loop.create_future()
        self._waiting.append((directory, torrent, also, done))
        if self._working is None:
            self._working = loop.create_task(self._work())
        outcome = await done
        if isinstance(outcome, OSError):
            raise StorageError(
                f"{directory}: {outcome.strerror or outcome}: choose another directory with -o",
                errno=outcome.errno, path=directory,
            )  # fmt: skip
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _work(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
                outcomes: Sequence[Outcome]
                try:
                    outcomes = await asyncio.to_thread(_save_all, [item[:3] for item in batch])
                except Exception as error:  # noqa: BLE001 - a bug: every item that waits for the batch hears of it
                    outcomes = [error] * len(batch)
                for (*_, done), outcome in zip(batch, outcomes, strict=True):
                    if not done.done():  # it may have been cancelled
                        done.set_result(outcome)
        finally:
            self._working = None


def _save_all(items: list[tuple[str, Torrent, Also | None]]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for directory, torrent, also in items:
        try:
            outcomes.append(_save(directory, torrent))
        except OSError as error:
            outcomes.append(error)
        if also is not None:
            also()
    for directory in {item[0] for item, outcome in zip(items, outcomes, strict=True) if isinstance(outcome, str)}:
        try:
            _sync_directory(directory)
        except OSError as error:
            outcomes = [error if item[0] == directory else outcome for item, outcome in zip(items, outcomes, strict=True)]
    return outcomes


def _sync_directory(path: str) -> None:
    """The names in it survive a power cut from here on. OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _save(directory: str, torrent: Torrent) -> str:
    digits = torrent.info_hash.hex()
    draft = os.path.join(directory, f"{digits}{_SUFFIX}.part")
    written = False
    try:
        for tail in (_SUFFIX, f".{digits[:12]}{_SUFFIX}", f".{digits}{_SUFFIX}"):
            stem = safe_name(torrent.name.encode(), digits, limit=ELEMENT_BYTES - len(tail))
            path = os.path.join(directory, stem + tail)
            there = _is_there(path, torrent)
            if there:
                return stem + tail
            if there is not None:
                continue  # another torrent, or another file, has this name
            if not written:
                written = True  # or in part, when this fails
                try:
                    _write(draft, torrent.complete_raw())
                except FileNotFoundError:
                    make_directory(directory)
                    _write(draft, torrent.complete_raw())
            try:
                os.link(draft, path)  # never in the place of another that came meanwhile
            except FileExistsError:
                continue
            except OSError:
                os.rename(draft, path)  # a file system without links
            return stem + tail
        raise FileExistsError(errno.EEXIST, "every name for it is taken")
    finally:
        if written:
            with contextlib.suppress(OSError):
                os.unlink(draft)


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        sync_file(file.fileno())


def _is_there(path: str, torrent: Torrent) -> bool | None:
    """Whether the file is a .torrent with the same info dict; None when there is no file."""
    try:
        # What is no file (a pipe) would never be read to its end.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return False
            data = file.read(MAX_TORRENT_BYTES + 1)
        start, end = info_span(data)
    except FileNotFoundError:
        return None  # a link that leads nowhere is found when the name is taken
    except (OSError, BencodeError):
        return False
    return data[start:end] == torrent.info_raw
