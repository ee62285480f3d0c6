"""A session: one network process and the downloads it works on, inside the caller's own event loop.

Works in any asyncio loop. Signal handlers, loop policies and logging stay the caller's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Unpack

from btfast.client.download import Download, error_named, failed_of
from btfast.client.launch import NetworkProcess, launch
from btfast.client.link import Link
from btfast.client.sources import HasRaw, PeerLike, absolute_directory, peer_address, read_source, web_seed_url
from btfast.config import Settings, checked
from btfast.engine.control import Add, Configure, Listening, Remove, Report, Stop, encode
from btfast.errors import Error, InputError, InternalError, InterruptedError
from btfast.events import Complete, Event, Failed
from btfast.metainfo.selection import Wanted, WantedKeywords

STOP_PATIENCE = 4.4  # seconds for the network process to save and leave; Ctrl-C promises 5 s in all
TERMINATE_PATIENCE = 0.3  # seconds after SIGTERM; SIGKILL follows
KILL_PATIENCE = 5.0  # seconds that the kernel may take
LAST_WORDS_PATIENCE = 1.0  # seconds to read what an ended process has left in the socket
_POLL = 0.005
_UNCAUGHT = re.compile(r"btfast\.errors\.(\w+): (.+)")  # the last line of its traceback

Source = str | os.PathLike[str] | bytes | HasRaw


class Session:
    """`async with Session(settings) as session:` starts the network process and stops it at the end.

    `on_event` is called in the loop with every event of every download, in order; it must not raise.
    `on_log` is called with what the network process writes to stderr.
    `network` is one that was launched before and has been sent its Configure. Raises InputError for settings out of range.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        on_event: Callable[[Event], None] | None = None,
        on_log: Callable[[bytes], None] | None = None,
        network: NetworkProcess | None = None,
    ) -> None:
        self.settings = checked(settings or Settings())
        self._on_event = on_event
        self._on_log = on_log
        self._network = network
        self._configured = network is not None
        self._link: Link | None = None
        self._downloads: dict[int, Download] = {}
        self._next = 0
        self._listening: Listening | None = None
        self._listening_known = asyncio.Event()
        self._stopping = False
        self._broken: Error | None = None
        self._burial: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Session:
        if self._link is not None:
            raise InputError("session: entered a second time: make a new Session")
        network = self._network = self._network or launch()
        self._link = Link(self._handle_report, self._handle_lost)
        try:
            if not self._configured:
                network.send(encode(Configure(self.settings)))
            network.control.setblocking(False)
            loop = asyncio.get_running_loop()
            link = self._link
            await loop.create_unix_connection(lambda: link, sock=network.control)
            loop.add_reader(network.errors, self._handle_log)
        except BaseException:
            network.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        network, link = self._opened()
        self.stop()
        try:
            await self._end_process(network)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(link.lost.wait(), LAST_WORDS_PATIENCE)
            if self._burial is not None:
                await self._burial
        finally:
            link.abort()
            asyncio.get_running_loop().remove_reader(network.errors)
            network.close()
            self._fail_pending()

    async def add(
        self,
        source: Source,
        directory: str | os.PathLike[str] = ".",
        *,
        peers: Iterable[PeerLike] = (),
        web_seeds: Iterable[str] = (),
        seed: bool = False,
        metadata_only: bool = False,
        **wanted: Unpack[WantedKeywords],
    ) -> Download:
        """Starts a download of `source` into `directory`, or with `seed` serves the complete data that is there.

        `source` is the path of a .torrent, an http(s) URL of one, its bytes, a Torrent, a magnet link, or an info-hash.
        `peers` are tried besides those that trackers name, as `"host:port"` or `(host, port)`; `web_seeds` are http(s)
        URLs of its files (BEP 19), besides those that it names. With `metadata_only` no
        more than NAME.torrent is written into `directory`.
        `files` (indices, or texts such as "0,3-7") and `select` (globs) name the files that are wanted, all without either;
        `exclude` takes some out again; `priorities` maps globs to "high", "normal" or "low". `sequential` fetches pieces in
        their order, `first_last` the first and last piece of each file before the others.
        Every call takes the next `id`, from 0, also one that raises. Raises InputError, SourceNotFoundError,
        StorageError for a source that cannot be read, InternalError when the network process is gone.
        """
        number = self._next
        self._next += 1
        _, link = self._opened()
        where = absolute_directory(directory)
        addresses = [peer_address(peer) for peer in peers]
        servers = [web_seed_url(url) for url in web_seeds]
        chosen = Wanted.of(**wanted)
        label, data, magnet = await read_source(source)
        await link.writable.wait()
        if self._broken is not None:
            raise type(self._broken)(str(self._broken), **self._broken.facts)
        if self._stopping:
            raise InterruptedError(f"{label}: the session is stopping: run it again to go on")
        link.send(
            Add(
                id=number,
                source=label,
                directory=where,
                data=data,
                magnet=magnet,
                metadata_only=metadata_only,
                peers=addresses,
                web_seeds=servers,
                seed=seed,
                wanted=chosen,
            )
        )
        download = self._downloads[number] = Download(number, label, where, self._remove)
        return download

    async def port(self) -> int:
        """Where peers reach this session, once it listens. Raises InternalError when the network process is gone."""
        await self._listening_known.wait()
        if self._listening is None:
            raise self._broken or InternalError("network process: stopped before it listened: look for its last words")
        return self._listening.port

    def stop(self) -> None:
        """Has everything saved and the network process leave; downloads still active end in InterruptedError."""
        if not self._stopping:
            self._stopping = True
            self._opened()[1].send(Stop())

    def _opened(self) -> tuple[NetworkProcess, Link]:
        if self._network is None or self._link is None:
            raise InputError("session: not open: use it as `async with Session() as session`")
        return self._network, self._link

    def _remove(self, number: int) -> None:
        self._opened()[1].send(Remove(number))

    def _handle_report(self, report: Report) -> None:
        if isinstance(report, Listening):
            self._listening = report
            self._listening_known.set()
        else:
            self._deliver(report)

    def _handle_lost(self, reason: InternalError | None) -> None:
        """The network process has closed its end: it stopped as told, or died."""
        if self._stopping and reason is None:
            self._listening_known.set()
        elif self._network is not None:
            self._broken = reason
            self._burial = asyncio.get_running_loop().create_task(self._bury(self._network))

    def _deliver(self, event: Event) -> None:
        number = getattr(event, "id", None)
        if isinstance(event, (Complete, Failed)):
            download = self._downloads.pop(event.id, None)
            if download is None:
                return  # it has ended before: each item ends once
        else:
            download = None if number is None else self._downloads.get(number)
        if download is not None:
            download.handle_event(event)
        if self._on_event is not None:
            self._on_event(event)

    def _fail_pending(self) -> None:
        for download in list(self._downloads.values()):
            error: Error = self._broken or InterruptedError(f"{download.source}: stopped: run it again to go on")
            done, total = (download.progress.done, download.progress.total) if download.progress else (0, 0)
            self._deliver(failed_of(download.id, download.source, error, done=done, total=total))

    def _handle_log(self) -> None:
        if self._network is None:
            return
        data = self._network.read_errors()
        if data is None:
            asyncio.get_running_loop().remove_reader(self._network.errors)
        elif data and self._on_log is not None:
            self._on_log(data)

    async def _end_process(self, network: NetworkProcess) -> None:
        """Waits for it to leave; then asks, then forces."""
        for patience, force in ((STOP_PATIENCE, network.process.terminate), (TERMINATE_PATIENCE, network.process.kill)):
            if await _exits(network, patience):
                return
            force()
        await _exits(network, KILL_PATIENCE)

    async def _bury(self, network: NetworkProcess) -> None:
        """After an end that nobody asked for: tells every download what the network process said last."""
        await self._end_process(network)
        self._handle_log()
        if self._broken is None:
            self._broken = _last_words(network)
        self._listening_known.set()
        self._fail_pending()


def _last_words(network: NetworkProcess) -> Error:
    """Why it ended: an error of ours that it could not start with, such as an address to bind to, or a crash."""
    lines = network.tail.splitlines()
    facts = {"status": network.process.returncode, "stderr": network.tail}
    known = _UNCAUGHT.fullmatch(lines[-1]) if lines else None
    if known is not None:
        return error_named(known[1], known[2], **facts)
    said = " | ".join(lines[-5:]) or "it said nothing"
    return InternalError(f"network process: ended unexpectedly, {network.status}: {said}: please report this", **facts)


async def _exits(network: NetworkProcess, patience: float) -> bool:
    """Whether it ends within `patience` seconds. A child's end can be waited for in any loop only by looking."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    while network.process.poll() is None and loop.time() < deadline:
        await asyncio.sleep(_POLL)
    return network.process.poll() is not None
