"""Our end of the control socket: commands out, reports in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import msgspec

from btfast.engine.control import Command, Report, decode_report, encode
from btfast.errors import InternalError
from btfast.frames import Frames


class Link(asyncio.Protocol):
    """Calls `on_report` for each message and `on_lost` once, with the reason where it was a broken message."""

    def __init__(self, on_report: Callable[[Report], None], on_lost: Callable[[InternalError | None], None]) -> None:
        self.writable = asyncio.Event()  # cleared while the network process is slow to read
        self.lost = asyncio.Event()
        self._on_report = on_report
        self._on_lost = on_lost
        self._frames = Frames()
        self._transport: asyncio.WriteTransport | None = None
        self._reason: InternalError | None = None

    def send(self, command: Command) -> None:
        """Queues a command; one that comes too late goes nowhere. Raises InputError as `encode` does."""
        data = encode(command)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        try:
            reports = [decode_report(frame) for frame in self._frames.handle_bytes(data)]
        except (InternalError, msgspec.MsgspecError) as error:
            self._reason = InternalError(f"network process: sent what is no message: {error}: please report this")
            self.abort()
            return
        for report in reports:
            self._on_report(report)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.set()
        self.writable.set()
        self._on_lost(self._reason)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()
