"""What this run leaves for later ones, and what earlier ones have left: the network process's end of the resume store.

A worker holds the store (storage/recorder.py). Torrents that end are recorded soon; those under way every INTERVAL seconds,
after their files have been made durable, so that a run that is killed loses no more than that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from errno import ENOENT
from typing import Protocol

import msgspec

from btfast.config import Settings
from btfast.engine.recording import TorrentRecord, key_of
from btfast.engine.state import state_directory
from btfast.engine.workers import Workers
from btfast.events import Event, Warning
from btfast.metainfo.paths import parts_name
from btfast.metainfo.torrent import Torrent
from btfast.storage.messages import Known, Recorded, Row, Wanted

FILE = "resume.db"
INTERVAL = 5.0  # seconds between the records of a torrent under way
SOON = 0.2  # seconds after which torrents that have ended are recorded, all at once: at the end of a run the last ones
PATIENCE = 2.0  # seconds that an end waits for the last records
AT_ONCE = 100  # rows in one transaction: what is recorded is recorded, even if the rest must wait for a slow disk
TRIES = 3  # of a row that the store could not take


class Process(Protocol):
    """What is needed of the Context."""

    loop: asyncio.AbstractEventLoop
    settings: Settings
    emit: Callable[[Event], None]
    workers: Workers


class Resuming:
    """One a network process. `handle_failed(torrent, file, errno)`: what was written to a file may not be on disk."""

    def __init__(self, context: Process, handle_failed: Callable[[int, int, int], None]) -> None:
        self._context = context
        self._handle_failed = handle_failed
        state = state_directory(context.settings)
        self._path = os.path.join(state, FILE) if state else ""
        self._exists = bool(self._path) and os.path.exists(self._path)
        self._asked: list[tuple[Wanted, asyncio.Future[Known | None]]] = []
        self._asking: set[asyncio.Task[None]] = set()
        self._due: dict[TorrentRecord, float] = {}  # of torrents under way, when to record them
        self._ended: list[Row] = []
        self._ended_due = 0.0
        self._flushing: asyncio.Task[None] | None = None
        self._refusals = 0
        self._warned = False

    # what is known

    async def recall(self, torrent: Torrent, directory: str, suffix: str) -> Known | None:
        """What earlier runs have recorded of the torrent in this place, and what of it still holds.

        `suffix`: of the names of unfinished files.
        """
        if not self._exists:
            return None
        loop = self._context.loop
        future: asyncio.Future[Known | None] = loop.create_future()
        if not self._asked:
            loop.call_soon(self._ask)
        paths = [torrent.path_text(file) for file in range(len(torrent.files))]
        pads = [number for number, file in enumerate(torrent.files) if file.pad]
        parts = parts_name(torrent.name, torrent.info_hash)
        self._asked.append((Wanted(key_of(torrent), directory, paths, pads, suffix, parts), future))
        known = await future
        if known is not None and self._context.settings.check:  # the user trusts nothing but hashes
            return msgspec.structs.replace(known, have=b"", complete=False, elsewhere=False, partial=[], parts=None, taken=[])
        return known

    async def seek(self, marks: dict[int, list[int]]) -> dict[int, list[str]]:
        """Where earlier runs have left what may be the files with these marks."""
        if not self._exists or not marks:
            return {}
        paths = await self._context.workers.seek(self._path, list(marks.values()))
        return {file: found for file, found in zip(marks, paths, strict=True) if found}

    def _ask(self) -> None:
        """What was asked in one turn of the loop leaves as one question."""
        asked, self._asked = self._asked, []
        task = self._context.loop.create_task(self._recall(asked))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _recall(self, asked: list[tuple[Wanted, asyncio.Future[Known | None]]]) -> None:
        try:
            answer = await self._context.workers.recall(self._path, [wanted for wanted, _ in asked])
        except Exception as error:  # noqa: BLE001 - whoever has asked is told, and must not wait for ever
            for _, future in asked:
                if not future.done():
                    future.set_exception(error)
            return
        self._say(answer.messages, answer.error)
        for (_, future), known in zip(asked, answer.known, strict=True):
            if not future.done():
                future.set_result(known)

    # what becomes known

    def changed(self, record: TorrentRecord) -> None:
        """Something of a torrent under way is to be recorded."""
        if self._path and record not in self._due:
            self._due[record] = self._context.loop.time() + INTERVAL

    def ended(self, record: TorrentRecord) -> None:
        """A torrent will not change any more; may be said again."""
        self._due.pop(record, None)
        if not self._path or not record.ends():
            return
        if not self._ended:
            self._ended_due = self._context.loop.time() + SOON
        self._ended.append(self._row(record))

    def tick(self, now: float) -> None:
        """Ten times a second."""
        if self._flushing is None and ((self._ended and self._ended_due <= now) or any(due <= now for due in self._due.values())):
            self._flush(now)

    def _flush(self, now: float) -> None:
        due = [record for record, at in self._due.items() if at <= now]
        for record in due:
            del self._due[record]
        self._flushing = self._context.loop.create_task(self._record(due))

    async def _record(self, due: list[TorrentRecord]) -> None:
        ended, self._ended = self._ended[:AT_ONCE], self._ended[AT_ONCE:]
        try:
            rows = ended + [self._row(record) for record in due]
            answer = await self._context.workers.record(self._path, rows)
        finally:
            self._flushing = None
        self._exists = True
        self._say(answer.messages, answer.error)
        self._look_at_failures(answer, ended, due)

    def _row(self, record: TorrentRecord) -> Row:
        return record.row(int(time.time()), busy=self._context.workers.busy_with(record.number))

    def _look_at_failures(self, answer: Recorded, ended: list[Row], due: list[TorrentRecord]) -> None:
        if not answer.error:
            self._refusals = 0
        elif (refusals := self._refusals + 1) <= TRIES:
            self._refusals = refusals
            self._ended += ended
            self._ended_due = self._context.loop.time() + INTERVAL
            for record in due:
                record.repeat()
        failed: dict[int, list[tuple[int, int]]] = {}
        for torrent, file, errno in answer.failed:
            failed.setdefault(torrent, []).append((file, errno))
        for record in due:
            for file, errno in failed.get(record.number, ()):
                if record.handle_failed(file, errno):
                    self._handle_failed(record.number, file, errno)
            if any(errno != ENOENT for _, errno in failed.get(record.number, ())):  # else the row was recorded
                record.repeat()

    async def settle(self) -> None:
        """Returns when what has ended is recorded, or after a while: a hanging disk holds nobody up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while self._flushing is not None or self._ended:
                    if self._flushing is None:
                        self._flush(self._context.loop.time())
                    assert self._flushing is not None
                    await asyncio.wait((self._flushing,))

    def close(self) -> None:
        """Nothing is recorded from here on."""
        self._path = ""
        self._exists = False
        for task in self._asking:
            task.cancel()
        if self._flushing is not None:
            self._flushing.cancel()

    def _say(self, messages: list[str], error: str) -> None:
        for message in messages:
            self._context.emit(Warning(id=None, message=message))
        if error and not self._warned:
            self._warned = True
            self._context.emit(
                Warning(id=None, message=f"resume state is not kept: {error}: choose another place with --state")
            )
