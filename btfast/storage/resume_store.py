"""The resume store: what later runs know about torrents and their files, in one SQLite database in WAL mode.

A row for each torrent in each destination. It claims pieces that were on disk, made durable, when it was written, and says
which files they were in: who reads it compares these with what is there (recorder.py). A database that is damaged, or of a
newer version, is moved aside and never deleted; all that is lost with it is the time to hash files again.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Sequence
from errno import EIO

import msgspec
import xxhash

VERSION = 3
MOST_TORRENTS = 200_000  # rows; those that were not used for longest go
MOST_ALIKE = 1_000_000  # marks of complete files; the oldest go
FOUND = 4  # files of one mark that are told
BUSY = 3.0  # seconds to wait for another btfast's transaction
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
_FOREIGN = ("no such table", "no such column", "columns but")  # its tables are not ours
_SCHEMA = """
CREATE TABLE IF NOT EXISTS torrent (
    key BLOB NOT NULL, place TEXT NOT NULL, used INTEGER NOT NULL, complete INTEGER NOT NULL, have BLOB NOT NULL,
    files BLOB NOT NULL, partial BLOB NOT NULL, checksum INTEGER NOT NULL, uploaded INTEGER NOT NULL,
    downloaded INTEGER NOT NULL, peers BLOB NOT NULL, trackers TEXT NOT NULL, volume TEXT NOT NULL DEFAULT '',
    parts BLOB NOT NULL DEFAULT x'', taken BLOB NOT NULL DEFAULT x'', UNIQUE (key, place))
"""
_ALIKE = """
CREATE TABLE IF NOT EXISTS alike (
    mark INTEGER NOT NULL, path TEXT NOT NULL, identity BLOB NOT NULL, UNIQUE (mark, path) ON CONFLICT REPLACE)
"""
_SINCE = {  # what came with later versions
    1: (
        "ALTER TABLE torrent ADD COLUMN volume TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE torrent ADD COLUMN parts BLOB NOT NULL DEFAULT x''",
    ),
    2: ("ALTER TABLE torrent ADD COLUMN taken BLOB NOT NULL DEFAULT x''",),
}
_COLUMNS = "complete, have, files, partial, checksum, uploaded, downloaded, peers, trackers, volume, parts, taken"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about one torrent in one destination.

    `key`: SHA-256 of the info dict; `place`: the absolute directory; `have`: the bitfield of durable pieces; `files`: see
    identity.py; `partial`: blocks of pieces that are not whole; `uploaded`, `downloaded`: payload bytes over all runs;
    `peers`: compact addresses; `trackers`: URLs that answered, one a line; `used`: seconds since 1970;
    `volume`: where the files were, see volumes.py; `parts`: pieces in the parts file, b"" for none; `taken`: files that were
    taken as they are, b"" for none.
    """

    key: bytes
    place: str
    complete: bool
    have: bytes
    files: bytes
    partial: bytes = b""
    uploaded: int = 0
    downloaded: int = 0
    peers: bytes = b""
    trackers: str = ""
    used: int = 0
    volume: str = ""
    parts: bytes = b""
    taken: bytes = b""

    @property
    def checksum(self) -> int:
        """Of what is trusted: a disk that changes a bit in it must not make it claim pieces."""
        parts = (self.key, self.place.encode(errors="surrogateescape"), b"\1" if self.complete else b"\0", self.have)
        digest = xxhash.xxh3_64()
        volume = self.volume.encode(errors="surrogateescape")
        later = [part for part in (volume, self.parts, self.taken) if part]  # none in version 1
        for part in (*parts, self.files, self.partial, *later):
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
        return digest.intdigest() - (1 << 63)  # SQLite's integers are signed


def _use_wal(database: sqlite3.Connection) -> None:
    """The switch refuses at once where another connection switches or writes: BUSY is waited for by a transaction."""
    for last in (False, False, False, True):
        try:
            database.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if last or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
        database.execute("BEGIN EXCLUSIVE")
        database.execute("COMMIT")


class ResumeStore:
    """`path`: of the database, made with its directory by the first `save`. `messages` collects what the user should hear.

    OSError where it can be neither read nor written now: locked, full, not permitted.
    """

    def __init__(self, path: str, *, most: int = MOST_TORRENTS) -> None:
        self._path = path
        self._most = most
        self._database: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None
        self.messages: list[str] = []

    def load(self, wanted: Iterable[tuple[bytes, str]]) -> list[Entry | None]:
        """For each key and place what is known. OSError."""
        asked = list(wanted)
        try:
            database = self._open(make=False)
            return [None] * len(asked) if database is None else self._load(database, asked)
        except sqlite3.Error as error:
            self._give_up(error)
            return [None] * len(asked)

    def _load(self, database: sqlite3.Connection, asked: list[tuple[bytes, str]]) -> list[Entry | None]:
        database.execute("BEGIN")  # one look at it for all
        try:
            return [self._entry(database, key, place) for key, place in asked]
        finally:
            database.execute("COMMIT")

    def _entry(self, database: sqlite3.Connection, key: bytes, place: str) -> Entry | None:
        query = f"SELECT {_COLUMNS} FROM torrent WHERE key = ? AND place = ?"
        row = database.execute(query, (key, place)).fetchone()
        if row is None:
            return None
        complete, have, files, partial, checksum, uploaded, downloaded, peers, trackers, volume, parts, taken = row
        try:
            entry = msgspec.convert(
                {
                    "key": key, "place": place, "complete": bool(complete), "have": have, "files": files,
                    "partial": partial, "uploaded": uploaded, "downloaded": downloaded, "peers": peers,
                    "trackers": trackers, "volume": volume, "parts": parts, "taken": taken,
                },
                Entry,
            )  # fmt: skip
        except msgspec.ValidationError:
            return None
        return entry if entry.checksum == checksum else None

    def find(self, marks: Iterable[int]) -> list[tuple[str, bytes]]:
        """Paths and identities of complete files that have one of these marks, the newest first. OSError."""
        try:
            database = self._open(make=False)
            if database is None:
                return []
            query = "SELECT path, identity FROM alike WHERE mark = ? ORDER BY rowid DESC LIMIT ?"
            found = {path: identity for mark in marks for path, identity in database.execute(query, (mark, FOUND))}
        except sqlite3.Error as error:
            self._give_up(error)
            return []
        return [(path, identity) for path, identity in found.items() if isinstance(path, str) and isinstance(identity, bytes)]

    def save(self, entries: Iterable[Entry], alike: Iterable[tuple[int, str, bytes]] = ()) -> None:
        """Puts these in the place of what was known, in one transaction; `alike`: marks of complete files, their paths and
        identities. OSError.
        """
        marks = list(alike)
        rows = [
            (
                entry.key, entry.place, entry.used, int(entry.complete), entry.have, entry.files, entry.partial,
                entry.checksum, entry.uploaded, entry.downloaded, entry.peers, entry.trackers, entry.volume, entry.parts,
                entry.taken,
            )
            for entry in entries
        ]  # fmt: skip
        for last in (False, True):
            try:
                self._save(rows, marks)
                return
            except sqlite3.Error as error:
                self._give_up(error)
                if last:
                    raise OSError(EIO, f"{self._path}: {error}") from None

    def _save(self, rows: Sequence[tuple[object, ...]], alike: Sequence[tuple[int, str, bytes]]) -> None:
        fresh = self._database is None
        database = self._open(make=True)
        assert database is not None
        database.execute("BEGIN IMMEDIATE")
        try:
            if fresh:
                self._prune(database)
            database.executemany(f"INSERT OR REPLACE INTO torrent VALUES ({', '.join('?' * 15)})", rows)
            database.executemany("INSERT INTO alike VALUES (?, ?, ?)", alike)
            database.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                database.execute("ROLLBACK")
            raise

    def _prune(self, database: sqlite3.Connection) -> None:
        (count,) = database.execute("SELECT count(*) FROM torrent").fetchone()
        if count > self._most:
            gone = count - self._most * 9 // 10
            oldest = "SELECT rowid FROM torrent ORDER BY used LIMIT ?"
            database.execute(f"DELETE FROM torrent WHERE rowid IN ({oldest})", (gone,))
        first, last = database.execute("SELECT min(rowid), max(rowid) FROM alike").fetchone()
        if last is not None and last - first > MOST_ALIKE:
            database.execute("DELETE FROM alike WHERE rowid < ?", (last - MOST_ALIKE * 9 // 10,))

    def close(self) -> None:
        """Only forgets the connection: what SQLite would tidy up now, the next one does."""
        database, self._database = self._database, None
        if database is not None:
            database.close()

    def _open(self, *, make: bool) -> sqlite3.Connection | None:
        """The database; None where there is none and none is to be made."""
        if self._database is not None:
            return self._database
        if not os.path.exists(self._path):
            if not make:
                return None
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        status = os.stat(self._path)
        self._inode = status.st_dev, status.st_ino
        database = sqlite3.connect(self._path, timeout=BUSY, isolation_level=None)
        try:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version > VERSION:
                database.close()
                self._move_aside(f"version-{version}", f"it was written by a newer btfast (version {version})")
                return self._open(make=make)
            # A commit need not reach the disk at once: what it claims has, and to lose the newest claims costs nothing
            # but hashing.
            _use_wal(database)
            database.execute("PRAGMA synchronous = NORMAL")
            if version < VERSION:
                database.execute("BEGIN IMMEDIATE")
                (version,) = database.execute("PRAGMA user_version").fetchone()  # another btfast may have been faster
                database.execute(_SCHEMA)
                database.execute(_ALIKE)
                for old in range(version or VERSION, VERSION):
                    for step in _SINCE[old]:
                        database.execute(step)
                database.execute(f"PRAGMA user_version = {VERSION}")
                database.execute("COMMIT")
        except BaseException:
            database.close()
            raise
        self._database = database
        return database

    def _give_up(self, error: sqlite3.Error) -> None:
        """A damaged database makes room for a new one; any other error may pass, and is an OSError."""
        self.close()
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        foreign = any(sign in str(error) for sign in _FOREIGN)
        if code not in _DAMAGED and not foreign:
            raise OSError(EIO, f"{self._path}: {error}") from None
        self._move_aside("damaged", f"it is damaged ({error})")

    def _move_aside(self, label: str, why: str) -> None:
        status = os.stat(self._path)
        if (status.st_dev, status.st_ino) != self._inode:
            return  # another btfast was faster, and this is the new one
        aside = f"{self._path}.{label}"
        number = 1
        while os.path.exists(aside):
            number += 1
            aside = f"{self._path}.{label}-{number}"
        os.rename(self._path, aside)
        for tail in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.rename(self._path + tail, aside + tail)
        self.messages.append(
            f"resume state {self._path}: {why}: moved aside to {os.path.basename(aside)}; what is on disk is hashed once more"
        )
