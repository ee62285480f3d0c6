"""Runs items through one session: feeds them, shows what happens, obeys signals, and finds the exit code."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from typing import NamedTuple

from btfast.cli.command import INTERRUPTED
from btfast.cli.options import Options
from btfast.cli.report import Reporter
from btfast.cli.reporters import reporters_of
from btfast.cli.text import plural
from btfast.cli.totals import Totals
from btfast.client.download import failed_of
from btfast.client.launch import NetworkProcess
from btfast.client.session import Session, Source
from btfast.client.sources import PeerLike, shown
from btfast.config import Settings
from btfast.errors import Error, InterruptedError, StorageError, bug
from btfast.events import Complete, Event, Failed, Progress
from btfast.metainfo.selection import WantedKeywords

TICK = 0.25  # seconds between looks at the display


class Item(NamedTuple):
    """One thing to do."""

    source: Source
    directory: str
    peers: Sequence[PeerLike] = ()
    seed: bool = False
    metadata_only: bool = False
    web_seeds: Sequence[str] = ()
    wanted: WantedKeywords = {}  # noqa: RUF012 - nobody changes it


class Run:
    """One command's work. `run()` returns the exit code."""

    def __init__(
        self,
        settings: Settings,
        items: Sequence[Item],
        reporters: Sequence[Reporter],
        totals: Totals,
        network: NetworkProcess | None = None,
    ) -> None:
        self._settings = settings
        self._items = items
        self._reporters = reporters
        self._totals = totals
        self._network = network
        self._window = asyncio.Semaphore(2 * settings.jobs + 16)  # items handed over at a time: a list may be long
        self._serving: set[int] = set()
        self._all_serving = asyncio.Event()  # or ended
        self._all_ended = asyncio.Event()
        self._interrupted = asyncio.Event()
        self._begun = 0
        self._ended = 0

    async def run(self) -> int:
        started = self._network.started if self._network is not None else time.monotonic()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._handle_signal)
        session = Session(self._settings, on_event=self._handle_event, on_log=self._handle_log, network=self._network)
        try:
            async with session:
                ticker = loop.create_task(self._tick())
                work = loop.create_task(self._work(session))
                stopper = loop.create_task(self._interrupted.wait())
                await asyncio.wait([work, stopper], return_when=asyncio.FIRST_COMPLETED)
                if work.done():
                    work.result()
                for task in (work, stopper, ticker):
                    task.cancel()
                await asyncio.gather(work, stopper, ticker, return_exceptions=True)
            for index in range(self._begun, len(self._items)):
                label = _label(self._items[index])
                error = InterruptedError(f"{label}: not started: run it again to go on")
                self._handle_event(failed_of(index, label, error))
            code = INTERRUPTED if self._interrupted.is_set() else 0
            summary = self._totals.summary(time.monotonic() - started, code)
            self._report(summary)
            lost = any(reporter.lost for reporter in self._reporters)
            return summary.exit_code or (StorageError.exit_code if lost else 0)
        finally:
            for reporter in self._reporters:
                reporter.close()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    async def _work(self, session: Session) -> None:
        """Hands the items over, in their order, and waits until every one has ended."""
        for number, item in enumerate(self._items):
            await self._window.acquire()
            try:
                await session.add(
                    item.source, item.directory, peers=item.peers, web_seeds=item.web_seeds, seed=item.seed,
                    metadata_only=item.metadata_only,
                    **item.wanted,
                )  # fmt: skip
            except Error as error:
                self._handle_event(failed_of(number, _label(item), error))
            except Exception as error:  # noqa: BLE001 - a bug of ours costs one item and not its list
                self._handle_event(failed_of(number, _label(item), bug(_label(item), error)))
            self._begun = number + 1
        if not self._items:
            return
        await self._all_serving.wait()
        if self._serving:
            note = f"serving {plural(len(self._serving), 'torrent')} on port {await session.port()}"
            for reporter in self._reporters:
                reporter.handle_note(note)
        await self._all_ended.wait()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            for reporter in self._reporters:
                reporter.poll(now)

    def _handle_event(self, event: Event) -> None:
        self._totals.handle_event(event)
        self._report(event)
        if isinstance(event, (Complete, Failed)):
            if event.id not in self._serving:
                self._window.release()
            self._serving.discard(event.id)
            self._ended += 1
            if self._ended == len(self._items):
                self._all_ended.set()
        elif isinstance(event, Progress) and event.state == "seeding" and event.id not in self._serving:
            self._serving.add(event.id)
            self._window.release()
        else:
            return
        if self._ended + len(self._serving) == len(self._items):
            self._all_serving.set()

    def _report(self, event: Event) -> None:
        for reporter in self._reporters:
            reporter.handle_event(event)

    def _handle_log(self, data: bytes) -> None:
        for reporter in self._reporters:
            reporter.handle_log(data.decode("utf-8", "replace"))

    def _handle_signal(self) -> None:
        if self._interrupted.is_set():  # asked twice: the network process sees our end close, and saves by itself
            for reporter in self._reporters:
                reporter.abandon()
            os._exit(INTERRUPTED)
        self._interrupted.set()


def run_items(
    settings: Settings, items: Sequence[Item], options: Options, network: NetworkProcess | None = None
) -> int:
    """Runs the items in a loop of their own; returns the exit code."""
    totals = Totals(len(items))
    reporters = reporters_of(options, totals)

    async def run() -> int:
        return await Run(settings, items, reporters, totals, network).run()

    return asyncio.run(run())


def _label(item: Item) -> str:
    return shown(os.fspath(item.source)) if isinstance(item.source, (str, os.PathLike)) else "(torrent in memory)"
