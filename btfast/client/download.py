"""One item of a session as its caller sees it: wait for it, follow its events, cancel it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from pathlib import Path
from typing import Any

import msgspec

from btfast import errors
from btfast.engine.flag import Flag
from btfast.events import Complete, Event, Failed, Metadata, Progress, Warning

EVENT_LIMIT = 10_000  # unread events that are kept; the oldest go first, and a Warning says how many


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a download brought: everything is verified, on disk, under its final names."""

    name: str
    info_hash: str  # 40 hexadecimal digits
    directory: Path
    files: tuple[Path, ...]
    bytes: int  # size of the files that were wanted
    downloaded: int  # payload fetched in this run
    uploaded: int
    wasted: int  # payload fetched in vain
    seconds: float
    rate: float  # bytes a second
    limited_by: str  # "peers", "web seeds", "disk", "hashing", "network process", "limit", "nothing to do"


class Download:
    """Made by `Session.add`. Await it for its Result; it raises the btfast.Error that ended it.

    Cancelling the task that awaits it stops the download and keeps its state.
    """

    def __init__(self, number: int, source: str, directory: str, remove: Callable[[int], None]) -> None:
        self.id = number
        self.source = source
        self.directory = directory
        self.metadata: Metadata | None = None
        self.progress: Progress | None = None  # the latest
        self._remove = remove
        self._outcome: asyncio.Future[Complete | Failed] = asyncio.get_running_loop().create_future()
        self._events: list[Event | None] = []  # None stands for the latest Progress: at most one is in the queue
        self._progress_queued = False
        self._dropped = 0
        self._arrival = Flag()

    def __repr__(self) -> str:
        return f"<Download {self.id} {self.source!r} {'done' if self.done() else 'active'}>"

    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self._outcome.done()

    def cancel(self) -> None:
        """Stops it and keeps its state: awaiting it raises InterruptedError. Nothing happens when it has ended."""
        if not self.done():
            self._remove(self.id)

    def __await__(self) -> Generator[Any, None, Result]:
        return self._wait().__await__()

    async def _wait(self) -> Result:
        try:
            outcome = await asyncio.shield(self._outcome)
        except asyncio.CancelledError:
            self.cancel()
            raise
        if isinstance(outcome, Failed):
            raise error_of(outcome)
        return result_of(outcome)

    async def events(self) -> AsyncIterator[Event]:
        """Each event since it was added, for one reader, up to its Complete or Failed.

        Progress events that were not read in time become one, the latest; the others are kept, up to EVENT_LIMIT.
        """
        while True:
            self._arrival.clear()
            while self._events:
                if self._dropped:
                    count, self._dropped = self._dropped, 0
                    yield Warning(id=self.id, message=f"{count} events were dropped: they were not read in time")
                event = self._events.pop(0)
                if event is None:
                    self._progress_queued = False
                    event = self.progress
                if event is not None:
                    yield event
            if self.done():
                return
            await self._arrival.wait()

    def handle_event(self, event: Event) -> None:
        """Takes what the network process reports about this item."""
        if self.done():
            return
        if isinstance(event, Progress):
            self.progress = event
            if self._progress_queued:
                return
            self._progress_queued = True
            self._events.append(None)
        else:
            self._events.append(event)
        if len(self._events) > EVENT_LIMIT:
            if self._events.pop(0) is None:
                self._progress_queued = False
            self._dropped += 1
        if isinstance(event, Metadata):
            self.metadata = event
        elif isinstance(event, (Complete, Failed)):
            self._outcome.set_result(event)
        self._arrival.set()


def result_of(event: Complete) -> Result:
    directory = Path(event.directory)
    return Result(
        name=event.name,
        info_hash=event.info_hash,
        directory=directory,
        files=tuple(directory / name for name in event.files),
        bytes=event.bytes,
        downloaded=event.downloaded,
        uploaded=event.uploaded,
        wasted=event.wasted,
        seconds=event.seconds,
        rate=event.rate,
        limited_by=event.limited_by,
    )


def error_of(event: Failed) -> errors.Error:
    """The exception that the event names, with its facts."""
    return error_named(event.kind, event.error, id=event.id, source=event.source, done=event.done, total=event.total)


def error_named(kind: str, message: str, **facts: object) -> errors.Error:
    """An exception of the class in btfast.errors called `kind`; InternalError where there is none."""
    cls = getattr(errors, kind, None)
    if not (isinstance(cls, type) and issubclass(cls, errors.Error)):
        cls = errors.InternalError
    return cls(message, **facts)


def failed_of(number: int, source: str, error: errors.Error, *, done: int = 0, total: int = 0) -> Failed:
    """The event for an item that ended in `error` on this side of the control socket."""
    return Failed(
        id=number,
        source=source,
        error=str(error),
        kind=type(error).__name__,
        exit_code=error.exit_code,
        done=done,
        total=total,
    )
