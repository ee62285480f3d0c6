"""The worker's part in resuming: makes files durable and records what they hold; tells later what of that is still there.

Orders are done in steps, one file made durable in each, so that a worker goes on with its pieces in between. SQLite is
loaded when there is a database to read or something to write.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from errno import EIO, ENOENT
from typing import TYPE_CHECKING

import msgspec

from btfast.storage.files import Files
from btfast.storage.identity import ABSENT, CHANGED, FINAL, NO_FILE, UNFINISHED, Identities, Identity, identity_of, pack
from btfast.storage.messages import (
    Answer,
    FileSeen,
    Known,
    PartialPiece,
    PartsSeen,
    Recall,
    Recalled,
    Record,
    Recorded,
    Row,
    Seek,
    Sought,
    TakenFile,
    Wanted,
)
from btfast.storage.syncing import raise_lost, sync_all, sync_file, worth_it
from btfast.storage.volumes import Volume, Volumes

if TYPE_CHECKING:
    from btfast.storage.resume_store import Entry, ResumeStore


class _Parts(msgspec.Struct, frozen=True, array_like=True):
    """The parts file as it is stored."""

    identity: Identity
    seen: PartsSeen


_parts = msgspec.msgpack.Decoder(_Parts)
_partials = msgspec.msgpack.Decoder(list[PartialPiece])
_takens = msgspec.msgpack.Decoder(list[TakenFile])
_encoder = msgspec.msgpack.Encoder()


class Recorder:
    """`answer` sends to the network process; `files`: the worker's open ones."""

    def __init__(self, answer: Callable[[Answer], None], files: Files) -> None:
        self._answer = answer
        self._files = files
        self._recalls: deque[Recall | Seek] = deque()
        self._steps: deque[Iterator[None]] = deque()
        self._stores: dict[str, ResumeStore] = {}

    @property
    def busy(self) -> bool:
        """Whether `step` has something to do."""
        return bool(self._recalls or self._steps)

    def handle(self, order: Recall | Seek | Record) -> None:
        if not isinstance(order, Record):
            self._recalls.append(order)
        else:
            # Looked at before they are made durable: what changes meanwhile is not what is claimed.
            with _Directories() as directories:
                looked = [
                    [_try(directories, row.directory, file) for file in row.files]
                    if any(file.sync for file in row.files)
                    else []
                    for row in order.rows
                ]
            self._steps.append(self._record(order, looked))

    def step(self) -> None:
        """A little of what was ordered; who wants to begin comes first."""
        if self._recalls:
            order = self._recalls.popleft()
            if isinstance(order, Seek):
                self._answer(Sought(order.question, self._seek(order)))
            else:
                self._recall(order)
        elif next(self._steps[0], self) is self:
            self._steps.popleft()

    def _store(self, path: str) -> ResumeStore:
        store = self._stores.get(path)
        if store is None:
            from btfast.storage.resume_store import ResumeStore

            store = self._stores[path] = ResumeStore(path)
        return store

    def close(self) -> None:
        """Nothing more comes: what SQLite keeps beside its database goes into it."""
        for store in self._stores.values():
            store.close()

    # what is still there

    def _recall(self, order: Recall) -> None:
        found: list[Known | None] = [None] * len(order.wanted)
        if not os.path.exists(order.store):
            self._answer(Recalled(order.question, found))
            return
        store = self._store(order.store)
        error = ""
        try:
            entries = store.load([(wanted.key, wanted.directory) for wanted in order.wanted])
        except OSError as refused:
            entries = []
            error = refused.strerror or str(refused)
        volumes = Volumes()
        with _Directories() as directories:
            for number, entry in enumerate(entries):
                if entry is not None:
                    found[number] = _compare(entry, order.wanted[number], directories, volumes)
        messages, store.messages = store.messages, []
        self._answer(Recalled(order.question, found, messages, error))

    def _seek(self, order: Seek) -> list[list[str]]:
        """What cannot be read now is not found."""
        if not os.path.exists(order.store):
            return [[] for _ in order.marks]
        store = self._store(order.store)
        paths: list[list[str]] = []
        for marks in order.marks:
            paths.append([])
            with contextlib.suppress(OSError):
                paths[-1] += [path for path, identity in store.find(marks) if _is_same(path, identity)]
        return paths

    # what is there now

    def _record(self, order: Record, looked: list[list[Identity]]) -> Iterator[None]:
        store = self._store(order.store)
        failed: list[tuple[int, int, int]] = []
        ready: list[tuple[Row, list[tuple[FileSeen, Identity]]]] = []
        durable = _make_durable_together(order, looked)
        with _Directories() as directories:
            for row, before in zip(order.rows, looked, strict=True):
                seen: list[tuple[FileSeen, Identity]] = []
                fine = True
                for number, file in enumerate(row.files):
                    try:
                        if file.name == ABSENT:
                            identity = NO_FILE
                        elif file.sync:
                            self._make_durable(row, file, together=before[number].device in durable)
                            yield
                            identity = before[number]
                        elif file.identity is not None:
                            identity = file.identity
                        else:
                            identity = identity_of(directories.look(row.directory, file.path), file.name)
                    except OSError as error:
                        failed.append((row.torrent, file.file, error.errno or EIO))
                        if error.errno == ENOENT:  # removed or renamed: nothing is claimed for it, and all for the others
                            seen.append((file, NO_FILE))
                        else:
                            fine = False
                    else:
                        seen.append((file, identity))
                if fine:
                    ready.append((row, seen))
        refusal = ""
        try:
            if ready:
                volumes = Volumes()
                places = [(row.key, row.directory) for row, _ in ready]
                entries = dict(zip(places, store.load(places), strict=True))
                for place, (row, seen) in zip(places, ready, strict=True):  # a later row of the same torrent goes on
                    entries[place] = _entry(row, seen, entries[place], volumes)
                alike = [mark for row, _ in ready if row.alike for mark in _marks(row, entries[row.key, row.directory])]
                store.save((entry for entry in entries.values() if entry is not None), alike)
        except OSError as refused:
            refusal = refused.strerror or str(refused)
        messages, store.messages = store.messages, []
        self._answer(Recorded(order.question, failed, messages, refusal))

    def _make_durable(self, row: Row, file: FileSeen, *, together: bool) -> None:
        """All that was written to the file before now survives a power cut, whoever wrote it. OSError.

        `together`: that was done for its file system, and only whether it went well is to be seen.
        """
        fd = self._files.open_descriptor(row.torrent, file.file)
        opened = fd is None
        if fd is None:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            fd = os.open(os.path.join(row.directory, file.path), flags)
        try:
            (raise_lost if together else sync_file)(fd)
        finally:
            if opened:
                os.close(fd)


def _make_durable_together(order: Record, looked: list[list[Identity]]) -> set[int]:
    """Devices on which so many files are to be made durable that their file systems were, as a whole.

    Each file by itself waits for the disk: 0.3 to 5 ms on a virtual machine, also where nothing was left to write.
    """
    folders: dict[int, list[str]] = {}
    for row, identities in zip(order.rows, looked, strict=True):
        for file, identity in zip(row.files, identities, strict=False):
            if file.sync and identity.name != ABSENT:
                folders.setdefault(identity.device, []).append(os.path.join(row.directory, os.path.dirname(file.path)))
    volumes: dict[int, int] = {}
    try:
        for device, found in folders.items():
            if worth_it(len(found)):
                with contextlib.suppress(OSError):  # then one by one, to know which of them it is
                    volumes[device] = os.open(found[0], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return sync_all({device: fd for device, fd in volumes.items() if os.fstat(fd).st_dev == device})
    finally:
        for fd in volumes.values():
            os.close(fd)


class _Directories:
    """Look-ups of many files, whose directory is opened once."""

    def __init__(self) -> None:
        self._path: str | None = None
        self._fd: int | None = None

    def __enter__(self) -> _Directories:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd is not None:
            os.close(self._fd)

    def look(self, directory: str, path: str) -> os.stat_result:
        """What is at `path` below `directory`. OSError."""
        if directory != self._path:
            if self._fd is not None:
                os.close(self._fd)
            self._path = directory
            self._fd = None
            with contextlib.suppress(OSError):
                self._fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if self._fd is None:
            raise FileNotFoundError(ENOENT, os.strerror(ENOENT), directory)
        return os.stat(path, dir_fd=self._fd, follow_symlinks=False)


def _try(directories: _Directories, directory: str, file: FileSeen) -> Identity:
    """NO_FILE when it is not there: making it durable will say why."""
    identity = file.identity
    if identity is None:
        try:
            identity = identity_of(directories.look(directory, file.path), file.name)
        except OSError:
            return NO_FILE
    return identity._replace(mtime_ns=-1) if file.moving else identity


def _compare(entry: Entry, wanted: Wanted, directories: _Directories, volumes: Volumes) -> Known | None:
    """What of a row still holds."""
    try:
        recorded = Identities(len(wanted.paths), entry.files)
        partial = _partials.decode(entry.partial) if entry.partial else []
        parts = _parts.decode(entry.parts) if entry.parts else None
        taken = _takens.decode(entry.taken) if entry.taken else []
    except (ValueError, msgspec.DecodeError):
        return None
    volume = Volume.unpack(entry.volume)

    def same(found: Identity, identity: Identity) -> bool:
        return found == identity or (
            found._replace(device=identity.device) == identity
            and volumes.renumbered(volume, wanted.directory, identity.device, found.device)
        )

    names = bytearray(len(wanted.paths))
    device: int | None = None
    anything = False
    for file, path in enumerate(wanted.paths):
        identity = recorded[file]
        if identity.name == ABSENT:
            continue
        device = identity.device
        try:
            status = directories.look(wanted.directory, path + wanted.suffix if identity.name == UNFINISHED else path)
        except OSError:
            continue
        anything = True
        there = identity_of(status, identity.name)
        if same(there, identity):
            names[file] = identity.name
        elif same(there._replace(size=identity.size, mtime_ns=identity.mtime_ns), identity):
            names[file] = CHANGED
    if parts is not None:
        try:
            if not wanted.parts or not same(identity_of(directories.look(wanted.directory, wanted.parts), FINAL), parts.identity):
                parts = None
        except OSError:
            parts = None
    pads = set(wanted.pads)
    whole = entry.complete and all(name == FINAL or file in pads for file, name in enumerate(names))
    return Known(
        have=entry.have,
        names=bytes(names),
        complete=whole,
        elsewhere=not anything and device is not None and volumes.missing(volume, device, wanted.directory),
        partial=partial,
        parts=parts.seen if parts is not None else None,
        taken=[file for file in taken if 0 <= file.file < len(names) and names[file.file] == FINAL],
        uploaded=entry.uploaded,
        downloaded=entry.downloaded,
        peers=entry.peers,
        trackers=entry.trackers.splitlines(),
    )


def _entry(row: Row, seen: list[tuple[FileSeen, Identity]], old: Entry | None, volumes: Volumes) -> Entry:
    """The row as it is stored: files of which it says nothing stay as they were recorded."""
    from btfast.storage.resume_store import Entry

    identities = Identities(row.count)
    volume, parts = "", NO_FILE
    if old is not None:
        volume = old.volume
        with contextlib.suppress(ValueError, msgspec.DecodeError):
            identities = Identities(row.count, old.files)
            parts = _parts.decode(old.parts).identity if old.parts else NO_FILE
    for file, identity in seen:
        if file.file == row.count:
            parts = identity
        else:
            identities[file.file] = identity
    if any(identity.name != ABSENT for _, identity in seen):
        with contextlib.suppress(OSError):  # it has gone since
            volume = volumes.of(row.directory).pack()
    return Entry(
        key=row.key, place=row.directory, complete=row.complete, have=row.have, files=identities.to_bytes(),
        partial=_encoder.encode(row.partial) if row.partial else b"", uploaded=row.uploaded, downloaded=row.downloaded,
        peers=row.peers, trackers="\n".join(row.trackers), used=row.used, volume=volume,
        parts=_encoder.encode(_Parts(parts, row.parts)) if row.parts is not None and parts.name != ABSENT else b"",
        taken=_encoder.encode(row.taken) if row.taken else b"",
    )  # fmt: skip


def _marks(row: Row, entry: Entry | None) -> Iterator[tuple[int, str, bytes]]:
    """By what other torrents' files are compared with those of the row that are complete."""
    if entry is None:
        return
    identities = Identities(row.count, entry.files)
    for file in row.alike:
        identity = identities[file.file]
        if identity.name == FINAL:
            packed, path = pack(identity), os.path.join(row.directory, file.path)
            for mark in file.marks:
                yield mark, path, packed


def _is_same(path: str, identity: bytes) -> bool:
    """Whether a file is as it was, but for the number of its disk: what it is taken for is looked at anyway."""
    try:
        status = os.stat(path, follow_symlinks=False)
    except (OSError, ValueError):
        return False
    return pack(identity_of(status, FINAL))[16:] == identity[16:]
