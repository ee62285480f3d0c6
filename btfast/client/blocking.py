"""`btfast.download`: one download from plain Python. The session runs in a thread of its own, so that it works in a
script, in a thread and where a loop already runs (a notebook), and Ctrl-C reaches the caller alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
from collections.abc import Iterable
from typing import Unpack

from btfast.client.download import Result
from btfast.client.session import STOP_PATIENCE, Session, Source
from btfast.client.sources import PeerLike
from btfast.config import Settings
from btfast.errors import InternalError
from btfast.events import Complete, Event, Progress
from btfast.metainfo.selection import WantedKeywords
from btfast.progress import ProgressLike, shower


def download(
    source: Source,
    directory: str | os.PathLike[str] = ".",
    *,
    progress: ProgressLike | None = None,
    settings: Settings | None = None,
    peers: Iterable[PeerLike] = (),
    **wanted: Unpack[WantedKeywords],
) -> Result:
    """Downloads `source` into `directory` and returns when everything that is wanted is complete and verified.

    `files`, `select`, `exclude`, `priorities`, `sequential` and `first_last` are those of Session.add.
    `progress` is a callable `(done, total)` in bytes, or a tqdm-style object; it is used in the calling thread.
    Raises btfast.Error; KeyboardInterrupt, or what `progress` raises, once the state is saved.
    """
    worker = _Worker(source, directory, settings, list(peers), wanted)
    worker.start()
    show = shower(progress)
    try:
        while (news := worker.news.get()) is not None:
            show(*news)
    except BaseException:
        worker.cancel()
        worker.join(STOP_PATIENCE + 2)
        raise
    worker.join()
    if worker.error is not None:
        raise worker.error
    if worker.result is None:
        raise InternalError("download: ended without a result: please report this")
    return worker.result


class _Worker(threading.Thread):
    """Runs the session; posts (done, total) and, at its end, None."""

    def __init__(
        self,
        source: Source,
        directory: str | os.PathLike[str],
        settings: Settings | None,
        peers: list[PeerLike],
        wanted: WantedKeywords,
    ) -> None:
        super().__init__(name="btfast.download", daemon=True)
        self.news: queue.SimpleQueue[tuple[int, int] | None] = queue.SimpleQueue()
        self.result: Result | None = None
        self.error: BaseException | None = None
        self._arguments = source, directory, peers
        self._wanted = wanted
        self._settings = settings
        self._task: asyncio.Task[Result] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started_loop = threading.Event()

    def run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                self.result = runner.run(self._download())
        except BaseException as error:  # noqa: BLE001 - carried to the calling thread, which raises it
            self.error = error
        finally:
            self._started_loop.set()
            self.news.put(None)

    def cancel(self) -> None:
        """Stops the download; its state is kept."""
        self._started_loop.wait()
        if self._loop is not None and self._task is not None:
            with contextlib.suppress(RuntimeError):  # its loop has closed: it has ended by itself
                self._loop.call_soon_threadsafe(self._task.cancel)

    async def _download(self) -> Result:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._started_loop.set()
        source, directory, peers = self._arguments
        async with Session(self._settings, on_event=self._handle_event) as session:
            return await (await session.add(source, directory, peers=peers, **self._wanted))

    def _handle_event(self, event: Event) -> None:
        if isinstance(event, Progress):
            self.news.put((event.done, event.total))
        elif isinstance(event, Complete):
            self.news.put((event.bytes, event.bytes))
