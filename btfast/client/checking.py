"""`btfast.check`: what of a torrent's data is on disk and right. All cores read and hash; nothing is written."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from btfast.client.sources import HasRaw, read_torrent, shown, stat_torrent
from btfast.errors import SourceNotFoundError, StorageError
from btfast.progress import ProgressLike, shower

if TYPE_CHECKING:
    from btfast.metainfo.torrent import Torrent
    from btfast.storage.verify import Verdict

TorrentLike = str | os.PathLike[str] | bytes | HasRaw


class CheckedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the torrent as it was found.

    `state`: "good", "bad" (data that does not match), "missing", "unfinished" (it ends in .part), "wrong_size",
    "unreadable", "unverified" (it shares a piece with a file that is not there; nothing else is wrong with it),
    "not_a_file" (something else stands in its place).
    """

    path: Path
    size: int  # as the torrent says
    found: int | None  # as it is on disk, None for no file
    state: str
    bad: tuple[tuple[int, int], ...]  # pieces with bytes of it that do not match: first and last of each run
    missing: tuple[tuple[int, int], ...]  # pieces with bytes of it that are not all there
    reason: str  # more about it, where there is more to say
    sha256: str | None  # of a good file, where sums were asked for


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a check."""

    name: str
    info_hash: str  # 40 hexadecimal digits
    directory: Path
    files: tuple[CheckedFile, ...]
    extra: tuple[Path, ...]  # files in the torrent's folder that are none of its own
    pieces: int
    good: int  # pieces
    bad: tuple[tuple[int, int], ...]  # pieces whose data does not match: first and last of each run
    missing: tuple[tuple[int, int], ...]  # pieces whose data is not all there
    size: int  # bytes of all files
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether every file is there, of its size, and right."""
        return all(file.state == "good" for file in self.files)


def check(
    torrent: TorrentLike,
    directory: str | os.PathLike[str] = ".",
    *,
    progress: ProgressLike | None = None,
    workers: int = 0,
    sums: bool = False,
) -> Check:
    """Reads and hashes the data of `torrent` in `directory`: the folder that it was downloaded into.

    `progress` is a callable `(done, total)` in bytes, or a tqdm-style object. `workers`: how many threads hash, 0: one a
    core. `sums`: also the SHA-256 of each file, from the same read. Wrong data is no exception: look at the result.
    Raises InputError, SourceNotFoundError for a torrent or a directory that is not there, StorageError.
    """
    started = time.monotonic()
    parsed = load(torrent)
    where = os.path.abspath(os.fspath(directory))
    verdict = examine(parsed, where, shower(progress), workers, sums)
    return _result(parsed, where, verdict, time.monotonic() - started)


def load(torrent: TorrentLike) -> Torrent:
    """The torrent that is meant. Raises InputError, SourceNotFoundError, StorageError."""
    from btfast.metainfo.torrent import Torrent

    if isinstance(torrent, Torrent):
        return torrent
    if isinstance(torrent, bytes):
        return Torrent.parse(torrent)
    if isinstance(torrent, HasRaw):
        return Torrent.parse(torrent.raw, what=shown(torrent.name))
    path = os.fspath(torrent)
    stat_torrent(path)
    return Torrent.parse(read_torrent(path), what=shown(path))


def examine(
    torrent: Torrent, directory: str, progress: Callable[[int, int], object], workers: int, sums: bool
) -> Verdict:
    """The check itself; `progress` in bytes. Raises SourceNotFoundError, StorageError."""
    from btfast.storage.verify import verify

    total = torrent.total_length

    def show(done: int, pieces: int) -> None:
        progress(total if done == pieces else done * torrent.piece_length, total)

    try:
        return verify(torrent, directory, threads=workers, sums=sums, progress=show)
    except NotADirectoryError:
        raise SourceNotFoundError(f"{shown(directory)}: a file: name the directory that it is in") from None
    except FileNotFoundError:
        raise SourceNotFoundError(f"{shown(directory)}: no such directory: check the path") from None
    except OSError as error:
        raise StorageError(f"{shown(directory)}: cannot be read: {error.strerror}: check it") from error


def _result(torrent: Torrent, directory: str, verdict: Verdict, seconds: float) -> Check:
    base = Path(directory)
    files = tuple(
        CheckedFile(
            path=base / file.path,
            size=file.size,
            found=file.found,
            state=file.state,
            bad=file.bad,
            missing=file.missing,
            reason=file.reason,
            sha256=file.sha256.hex() if file.sha256 is not None else None,
        )
        for file in verdict.files
    )
    return Check(
        name=torrent.name,
        info_hash=torrent.info_hash.hex(),
        directory=base,
        files=files,
        extra=tuple(base / path for path in verdict.extra),
        pieces=torrent.piece_count,
        good=verdict.good,
        bad=verdict.bad,
        missing=verdict.missing,
        size=sum(file.size for file in verdict.files),
        seconds=seconds,
    )
