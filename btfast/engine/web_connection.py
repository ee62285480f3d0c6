"""One connection to a web server whose answers are received into their final place. Decides nothing."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from btfast.engine.throttle import Line
from btfast.errors import RemoteError
from btfast.metainfo.reach import Reach
from btfast.wire.http import Head, HttpReader, Kind

_SCRATCH = memoryview(bytearray(256 << 10))  # for all: a read and what is made of it are one step of the loop


class Owner(Protocol):
    """Who the connection works for."""

    def handle_head(self, head: Head) -> None: ...

    def place(self, most: int) -> memoryview | None:
        """Where the next bytes of the body belong, at most `most`; None: `handle_body` wants to see them."""

    def handle_placed(self, count: int) -> None: ...

    def handle_body(self, data: memoryview) -> None: ...

    def handle_end(self) -> None: ...

    def handle_lost(self, why: str) -> None:
        """Once, unless it was aborted. `why`: bare, "" when the server closed it between two answers."""


class WebConnection(asyncio.BufferedProtocol):
    """`reach`: how near the remote address is. `line`: the cap on what comes in."""

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: Owner, line: Line | None) -> None:
        self._loop = loop
        self._owner: Owner | None = owner
        self._line = line
        self._granted = 0
        self._placed = False
        self._held = False  # by its owner
        self._capped = False
        self._transport: asyncio.Transport | None = None
        self._reader = HttpReader()
        self.reach = Reach.PUBLIC
        self.answered = False
        self.keeps = True  # the server has not said that it will close it
        self.heard_at = loop.time()

    def send(self, data: bytes) -> None:
        """A request."""
        if self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        """Ends it at once; its owner hears nothing more."""
        self._owner = None
        if self._line is not None:
            self._line.forget(self)
        if self._transport is not None:
            self._transport.abort()

    def hold(self, held: bool) -> None:
        """Stops and resumes reading."""
        self._held = held
        self._hold_or_read()

    def _hold_or_read(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._held or self._capped:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._owner is None:
            self._transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        view: memoryview | None = None
        straight = self._reader.straight
        if straight and self._owner is not None:
            view = self._owner.place(straight)
        self._placed = view is not None
        if view is None:
            view = _SCRATCH
        if self._line is not None:
            return view[: max(1, self._granted or self._line.room(self._loop.time()))]
        return view

    def buffer_updated(self, nbytes: int) -> None:
        self.heard_at = self._loop.time()
        owner = self._owner
        if owner is None:
            return
        if self._placed:
            ended = self._reader.took(nbytes)
            owner.handle_placed(nbytes)
            if ended and self._owner is not None:
                owner.handle_end()
        else:
            self._feed(_SCRATCH[:nbytes])
        if self._line is not None and self._owner is not None:
            self._take(self._line, nbytes)

    def _feed(self, data: memoryview) -> None:
        try:
            while len(data) and (owner := self._owner) is not None:
                for kind, value in self._reader.feed(data):
                    if kind is Kind.HEAD:
                        head = cast(Head, value)
                        self.answered = True
                        self.keeps = head.keeps
                        owner.handle_head(head)
                        if self._owner is not None and self._reader.bodiless:
                            owner.handle_end()
                    elif kind is Kind.DATA:
                        owner.handle_body(cast(memoryview, value))
                    else:
                        owner.handle_end()
                    if self._owner is None:
                        return
                data = self._reader.rest
        except RemoteError as error:
            self._lose(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        owner = self._owner
        if owner is None:
            return
        idle = self._reader.idle
        if exc is None and self._reader.handle_closed():
            owner.handle_end()
        else:
            self._lose("" if idle else "closed the connection in the middle of an answer")

    def _lose(self, why: str) -> None:
        owner = self._owner
        self.abort()
        if owner is not None:
            owner.handle_lost(why)

    # throttle.Waiter

    def _take(self, line: Line, count: int) -> None:
        prepaid = min(self._granted, count)
        self._granted -= prepaid
        line.take(count - prepaid)
        if not self._granted and line.room(self._loop.time()) <= 0:
            self._capped = True
            self._hold_or_read()
            line.wait(self)

    def go_on(self, line: Line, most: int) -> None:
        """So many bytes may come now: they count as if they had, since nobody can be made to send them at once."""
        line.take(most)
        self._granted = most
        self._capped = False
        self._hold_or_read()
