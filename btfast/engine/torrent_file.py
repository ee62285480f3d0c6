"""`get --metadata-only`: a torrent's own file, NAME.torrent, in the output directory."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from btfast._bencode import BencodeError, info_span
from btfast.errors import StorageError
from btfast.metainfo.paths import ELEMENT_BYTES, safe_name
from btfast.metainfo.torrent import MAX_TORRENT_BYTES, Torrent
from btfast.storage.finish import make_directory
from btfast.storage.syncing import begin_write_out, sync_file

_SUFFIX = ".torrent"
_BATCH = 64  # files
_SYNCS = 4  # of them are waited for at a time

Also = Callable[[], None]
Outcome = str | Exception
T = TypeVar("T")


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
    """All leave for the disk before they are waited for, some at a time: few commits of the journal make all durable.

    Measured on ext4, files of 700 bytes: 0.3 ms a file instead of the 2-6 ms of one after the other.
    """
    drafts = [_Draft(directory, torrent) for directory, torrent, _ in items]
    outcomes: list[Outcome] = []
    try:
        written = [_tried(draft.write) for draft in drafts]
        with ThreadPoolExecutor(_SYNCS) as pool:
            durable = list(pool.map(_tried, [draft.wait for draft in drafts]))
        for draft, (_, _, also), found, refused in zip(drafts, items, written, durable, strict=True):
            outcomes.append(found or refused or _tried(draft.keep))
            if also is not None:
                also()
    finally:
        for draft in drafts:
            draft.close()
    for directory in {item[0] for item, outcome in zip(items, outcomes, strict=True) if isinstance(outcome, str)}:
        try:
            _sync_directory(directory)
        except OSError as error:
            outcomes = [error if item[0] == directory else outcome for item, outcome in zip(items, outcomes, strict=True)]
    return outcomes


def _tried(step: Callable[[], T]) -> T | OSError:
    try:
        return step()
    except OSError as error:
        return error


def _sync_directory(path: str) -> None:
    """The names in it survive a power cut from here on. OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Draft:
    """A .torrent before it has its name. `write`, `wait`, `keep`: the first and the last say the name when it is there."""

    def __init__(self, directory: str, torrent: Torrent) -> None:
        self._directory = directory
        self._torrent = torrent
        self._digits = torrent.info_hash.hex()
        self._path = os.path.join(directory, f"{self._digits}{_SUFFIX}.part")
        self._fd = -1

    def write(self) -> str | None:
        """Sends the bytes to the disk, unless they are there. OSError."""
        for name in self._names():
            there = _is_there(os.path.join(self._directory, name), self._torrent)
            if there:
                return name
            if there is None:
                break
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        try:
            self._fd = os.open(self._path, flags, 0o666)
        except FileNotFoundError:
            make_directory(self._directory)
            self._fd = os.open(self._path, flags, 0o666)
        with open(self._fd, "wb", closefd=False) as file:
            file.write(self._torrent.complete_raw())
        begin_write_out(self._fd)
        return None

    def wait(self) -> None:
        """Until the bytes are on disk. OSError."""
        if self._fd >= 0:
            sync_file(self._fd)

    def keep(self) -> str:
        """Gives the file, once it is on disk, a name that nothing else has. OSError."""
        for name in self._names():
            path = os.path.join(self._directory, name)
            try:
                os.link(self._path, path)  # never in the place of another
            except FileExistsError:
                if not _is_there(path, self._torrent):
                    continue
            except OSError:
                if os.path.lexists(path):
                    continue
                os.rename(self._path, path)  # a file system without links
            return name
        raise FileExistsError(errno.EEXIST, "every name for it is taken")

    def close(self) -> None:
        """It needs its first name no more."""
        if self._fd >= 0:
            os.close(self._fd)
            with contextlib.suppress(OSError):
                os.unlink(self._path)

    def _names(self) -> Iterator[str]:
        """Those that it may get, the best first."""
        for tail in (_SUFFIX, f".{self._digits[:12]}{_SUFFIX}", f".{self._digits}{_SUFFIX}"):
            yield safe_name(self._torrent.name.encode(), self._digits, limit=ELEMENT_BYTES - len(tail)) + tail


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
