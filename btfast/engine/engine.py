"""The network process: takes items from its caller, runs so many at once, reports, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, cast

from btfast import events
from btfast._arena import Arena
from btfast.config import Settings
from btfast.engine import control
from btfast.engine.by_hash import ByHash
from btfast.engine.context import Context
from btfast.engine.control import Add, Remove, Stop
from btfast.engine.dialing import Dialer
from btfast.engine.finished import finished, metadata_of
from btfast.engine.listening import Listener
from btfast.engine.opening import must_be_here
from btfast.engine.resuming import Resuming
from btfast.engine.rounds import Rounds
from btfast.engine.taken import Taken
from btfast.engine.torrent import ActiveTorrent
from btfast.engine.web_sources import torrent_of
from btfast.engine.worker_process import Job
from btfast.engine.worker_start import StartedWorker
from btfast.engine.workers import Workers
from btfast.errors import DestinationBusyError, Error, InternalError, InterruptedError, LimitReachedError, bug
from btfast.frames import Frames
from btfast.metainfo.selection import Selection
from btfast.metainfo.torrent import Torrent
from btfast.storage.folding import placed
from btfast.storage.layout import PART
from btfast.storage.messages import Known, Problem

if TYPE_CHECKING:  # they are loaded when the first magnet link comes
    from btfast.engine.magnets import Magnets
    from btfast.engine.resolving import Resolving
    from btfast.engine.torrent_file import TorrentFiles

NUDGE = 0.1  # seconds
NUDGES_A_TICK = 10
FULL_TOO_LONG = 5.0  # seconds that requests may wait for memory before idle pieces of any torrent give theirs back
FAREWELL = 4.0  # seconds for everything that is told and saved at the end
BACKLOG = 64 << 20  # bytes of reports that the caller has not read before nothing optional is sent any more


class Engine(asyncio.Protocol):
    """Speaks with the caller over one stream; `finished` resolves when it is time to exit.

    Without `details` the caller does not hear of single peers and files, nor what it has added itself.
    """

    def __init__(self, settings: Settings, arena: Arena, started: list[StartedWorker], *, details: bool = True) -> None:
        self._settings = settings
        self._details = details
        self._arena = arena
        self._workers = started
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.gone = asyncio.Event()  # nothing can be said to the caller any more
        self._frames = Frames()
        self._context: Context | None = None
        self._starting: asyncio.Task[None] | None = None
        self._reports: list[bytes] = []
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._serving: set[int] = set()  # of the tasks, those with nothing left but to serve: they keep nobody waiting
        self._waiting: deque[Add] = deque()
        self._torrents: dict[int, ActiveTorrent] = {}
        self._rounds: Rounds[ActiveTorrent] = Rounds()
        self._answered: set[ActiveTorrent] = set()  # those of which workers have done something in this batch
        self._resolving: dict[int, Resolving] = {}
        self._by_hash: ByHash[ActiveTorrent | Resolving] = ByHash()
        self._magnets: Magnets | None = None
        self._files: TorrentFiles | None = None
        self._begun: set[int] = set()  # of the tasks, those that have taken a step
        self._limit: Error | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._ticking: asyncio.Task[None] | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but ancestry
        self._starting = asyncio.get_running_loop().create_task(self._start(self._settings))
        self._starting.add_done_callback(self._ended)

    def data_received(self, data: bytes) -> None:
        for body in self._frames.handle_bytes(data):
            command = control.decode_command(body)
            if isinstance(command, Stop):
                self.stop()
            elif isinstance(command, Add):
                self._emit(events.Added(id=command.id, source=command.source, directory=command.directory))
                self._waiting.append(command)
                self._start_waiting()
            elif isinstance(command, Remove):
                self._remove(command.id)

    def connection_lost(self, exc: Exception | None) -> None:
        """All is said, or the caller is gone, perhaps killed: save and leave."""
        self.gone.set()
        self.stop()

    def _emit(self, event: events.Event) -> None:
        """Reports to the caller; what is reported in one turn of the loop leaves in one write."""
        if not self._details and isinstance(event, (events.Peer, events.FileDone, events.Added)):
            return
        if isinstance(event, (events.Progress, events.Peer)) and self._transport.get_write_buffer_size() > BACKLOG:
            return
        if not self._reports:
            asyncio.get_running_loop().call_soon(self._write_reports)
        self._reports.append(control.encode(event))

    def _write_reports(self) -> None:
        reports, self._reports = self._reports, []
        if not self._transport.is_closing():
            self._transport.write(b"".join(reports))

    # life

    async def _start(self, settings: Settings) -> None:
        context = Context(settings, self._arena, self._emit)
        context.workers = Workers(
            context.arena, self._workers, self._job_completed, self._batch_ended, self._problem, self._fatal
        )
        context.resuming = Resuming(context, self._not_durable)
        await context.workers.start()
        self._dialer = Dialer(context)
        self._listener = Listener(context, self._by_hash.get, self._by_hash.find_skey)
        context.port = self._listener.port
        self._context = context
        if not self._transport.is_closing():
            listening = control.Listening(port=context.port, pid=os.getpid(), workers=context.workers.pids)
            self._transport.write(control.encode(listening))
        self._ticking = context.loop.create_task(self._tick_forever())
        self._ticking.add_done_callback(self._ended)
        if settings.max_time:
            context.loop.call_later(settings.max_time, self._out_of_time)
        self._start_waiting()

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not self.finished.done():
            # What is cancelled because of it ends with the reason, not as if somebody had interrupted it.
            self._limit = bug("network process", error)
            self.finished.set_exception(error)

    def stop(self) -> None:
        """Ends every item, announces `stopped`, and resolves `finished`."""
        if self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(self._stop())
            self._stopping.add_done_callback(self._ended)

    async def _stop(self) -> None:
        try:
            async with asyncio.timeout(FAREWELL):
                if self._starting is not None:
                    await asyncio.gather(self._starting, return_exceptions=True)
                for add in self._waiting:
                    self._fail(add, InterruptedError(f"{add.source}: stopped before it began: run it again"))
                self._waiting.clear()
                for task in self._tasks.values():
                    task.cancel()
                await asyncio.gather(*self._tasks.values(), return_exceptions=True)
                while self._context is not None and self._context.workers.busy:
                    await asyncio.sleep(0.01)
                if self._context is not None:
                    await self._context.resuming.settle()
        except TimeoutError:
            pass  # the caller was promised that we leave in time
        if self._ticking is not None:
            self._ticking.cancel()
        context = self._context
        if context is not None:
            self._listener.close()
            self._dialer.close()
            context.up.close()
            context.down.close()
            await context.trackers.close()
            await context.dht.close()
            context.close_web()
            context.udp.close()
            context.lsd.close()
            context.resolver.close()
            context.resuming.close()
            context.workers.close()
            await context.workers.reap()
        if not self.finished.done():
            self.finished.set_result(None)
        self._write_reports()
        if not self._transport.is_closing():
            self._transport.close()

    # items

    def _start_waiting(self) -> None:
        context = self._context
        if context is None or self._stopping is not None:
            return
        while self._waiting and len(self._tasks) - len(self._serving) < context.settings.jobs:
            add = self._waiting.popleft()
            if self._limit is not None:
                self._fail(add, self._limit)
                continue
            task = context.loop.create_task(self._run_item(context, add))
            self._tasks[add.id] = task
            task.add_done_callback(partial(self._item_ended, add))

    def _serves(self, number: int) -> None:
        self._serving.add(number)
        self._start_waiting()

    def _item_ended(self, add: Add, task: asyncio.Task[None]) -> None:
        del self._tasks[add.id]
        self._serving.discard(add.id)
        if add.id in self._begun:
            self._begun.discard(add.id)
        else:  # cancelled before its first step
            self._fail(add, self._limit or InterruptedError(f"{add.source}: stopped before it began: run it again"))
        if not task.cancelled():
            self._ended(task)
        self._start_waiting()

    async def _run_item(self, context: Context, add: Add) -> None:
        torrent: ActiveTorrent | None = None
        self._begun.add(add.id)
        try:
            add, meta, resolved = await self._metadata(context, add)
            if add.metadata_only:
                await self._save(context, add, meta, resolved)
                return
            try:
                meta = placed(meta, add.directory)
                known = await self._recall(context, add, meta)
                taken = Taken(context, meta, add, known)
                complete = known is not None and known.complete and not add.seed and not context.settings.seeds
                if complete or taken.selection is None:
                    if resolved is not None:
                        await resolved.leave()
                    finished(self._emit, add, meta, taken)
                    return
                torrent = ActiveTorrent(context, self._dialer, add.id, add, meta, taken, taken.selection, resolved, known)
            except (Error, asyncio.CancelledError):
                if resolved is not None:
                    await resolved.leave()
                raise
            torrent.handle_layers = partial(self._keep_layers, context, meta)
            torrent.handle_serving = partial(self._serves, add.id)
            torrent.wake = partial(self._rounds.wake, torrent)
            self._torrents[add.id] = torrent
            self._rounds.add(torrent)
            self._by_hash.name(meta.swarm_hashes, torrent)
            try:
                result = await torrent.run()
            finally:
                del self._torrents[add.id]
                self._rounds.remove(torrent)
                self._by_hash.forget(meta.swarm_hashes, torrent)
                torrent.ended.set()
            self._emit(result)
        except Error as error:
            self._fail(add, error, torrent)
        except asyncio.CancelledError:
            self._fail(add, self._limit or InterruptedError(f"{add.source}: stopped: run it again to go on"), torrent)
            raise
        except Exception as error:  # noqa: BLE001 - a bug ends its item, says so, and leaves the others alone
            self._fail(add, bug(add.source, error), torrent)
            context.loop.call_exception_handler({"message": f"item {add.id} broke", "exception": error})

    async def _recall(self, context: Context, add: Add, meta: Torrent) -> Known | None:
        """What earlier runs say, once no other item has the same torrent: a magnet link may not have named all its hashes."""
        suffix = "" if context.settings.in_place or add.seed else PART
        while True:
            await self._turn(add, meta.swarm_hashes)
            known = await context.resuming.recall(meta, add.directory, suffix)
            if self._by_hash.first(meta.swarm_hashes) is None:
                must_be_here(known, add.directory)
                return known

    async def _metadata(self, context: Context, add: Add) -> tuple[Add, Torrent, Resolving | None]:
        """The item's torrent, and where it came from its peers, those."""
        if not add.magnet:
            add, meta = await torrent_of(add, context.trackers)
            await self._turn(add, meta.swarm_hashes)
            if meta.hashes.missing:
                self._cached(context).recall_layers(meta)
            return add, meta, None
        magnets = self._cached(context)
        add, magnet = magnets.read(add)
        await self._turn(add, magnet.swarm_hashes)
        known = magnets.known(magnet)
        if known is not None:
            return add, known, None
        resolving = magnets.resolving(add, magnet)
        self._resolving[add.id] = resolving
        self._by_hash.name(magnet.swarm_hashes, resolving)
        held = False
        try:
            meta = await resolving.run()
            if add.metadata_only:
                held = True  # until it is written
                return add, meta, resolving
            magnets.keep(meta)
            if meta.private:  # peers that others than its trackers named are not for it (BEP 27)
                await resolving.leave()
                return add, meta, None
            return add, meta, resolving
        finally:
            if not held:
                self._resolved(add, resolving)

    def _cached(self, context: Context) -> Magnets:
        if self._magnets is None:
            from btfast.engine.magnets import Magnets  # who has whole .torrent files does without

            self._magnets = Magnets(context, self._dialer)
        return self._magnets

    def _keep_layers(self, context: Context, meta: Torrent) -> None:
        self._cached(context).keep_layers(meta)

    def _resolved(self, add: Add, resolving: Resolving) -> None:
        """Its place is free for the torrent, or for another item with the same one."""
        del self._resolving[add.id]
        self._by_hash.forget(resolving.swarm_hashes, resolving)
        resolving.ended.set()

    async def _turn(self, add: Add, swarm_hashes: tuple[bytes, ...]) -> None:
        """Waits until no other item has the same torrent."""
        while (same := self._by_hash.first(swarm_hashes)) is not None:
            if add.seed or same.seeds:
                raise DestinationBusyError(f"{add.source}: this run serves the same torrent already: leave one out")
            await same.ended.wait()

    async def _save(self, context: Context, add: Add, meta: Torrent, resolved: Resolving | None) -> None:
        """`--metadata-only`: the .torrent itself is what was wanted."""
        if self._files is None:
            from btfast.engine.torrent_file import TorrentFiles

            self._files = TorrentFiles()
        leaving = asyncio.ensure_future(resolved.leave()) if resolved is not None else None
        try:
            self._emit(metadata_of(add.id, meta, Selection(meta)))
            keep = partial(self._magnets.keep, meta) if resolved is not None and self._magnets is not None else None
            name = await self._files.save(add.directory, meta, keep)
        finally:
            if resolved is not None:
                self._resolved(add, resolved)
            if leaving is not None:
                await leaving
        received, seconds = (resolved.received, resolved.seconds) if resolved is not None else (0, 1e-6)
        self._emit(
            events.Complete(
                id=add.id, source=add.source, name=meta.name, info_hash=meta.info_hash.hex(), directory=add.directory,
                files=[name], bytes=len(meta.raw), downloaded=received, uploaded=0,
                wasted=max(0, received - len(meta.info_raw)), seconds=seconds, rate=received / seconds,
                limited_by="peers" if received else "nothing to do",
            )
        )  # fmt: skip

    def _fail(self, add: Add, error: Error, torrent: ActiveTorrent | None = None) -> None:
        self._emit(
            events.Failed(
                id=add.id, source=add.source, error=str(error), kind=type(error).__name__, exit_code=error.exit_code,
                done=torrent.done_bytes if torrent is not None else 0,
                total=torrent.wanted_bytes if torrent is not None else 0,
            )
        )  # fmt: skip

    def _remove(self, number: int) -> None:
        task = self._tasks.get(number)
        if task is not None:
            task.cancel()
        for add in list(self._waiting):
            if add.id == number:
                self._waiting.remove(add)
                self._fail(add, InterruptedError(f"{add.source}: stopped before it began: run it again"))

    def _out_of_time(self) -> None:
        assert self._context is not None
        self._limit = LimitReachedError(
            f"--max-time: {self._context.settings.max_time:g} s are over: what was verified is kept; run it again to go on"
        )
        for add in self._waiting:
            self._fail(add, self._limit)
        self._waiting.clear()
        for task in self._tasks.values():
            task.cancel()

    # workers

    def _job_completed(self, job: Job, status: int, errno: int) -> None:
        torrent = self._torrents.get(job.torrent)
        if torrent is None:
            return
        self._answered.add(torrent)
        try:
            torrent.disk.handle_completed(job, status, errno)
        except Exception as error:  # noqa: BLE001 - a bug ends its item, and not the handling of the other completions
            torrent.fail(bug(torrent.name, error))

    def _batch_ended(self) -> None:
        for torrent in self._answered:
            torrent.handle_batch_end()
        self._answered.clear()
        assert self._context is not None
        if self._context.starved:
            self._context.room_freed()

    def _problem(self, problem: Problem) -> None:
        torrent = self._torrents.get(problem.torrent)
        if torrent is not None:
            torrent.disk.handle_problem(problem)

    def _not_durable(self, number: int, file: int, errno: int) -> None:
        torrent = self._torrents.get(number)
        if torrent is not None:
            torrent.disk.handle_not_durable(file, errno)

    def _fatal(self, error: InternalError) -> None:
        self._limit = error
        for task in self._tasks.values():
            task.cancel()

    async def _tick_forever(self) -> None:
        assert self._context is not None
        loop = self._context.loop
        for beat in itertools.count(1):
            await asyncio.sleep(NUDGE)
            now = loop.time()
            for torrent in self._rounds.awake(now):
                if not torrent.idle:
                    with self._to_blame(torrent):
                        torrent.nudge(now)
            self._context.resuming.tick(now)
            if beat % NUDGES_A_TICK:
                continue
            self._context.sample_load()
            self._listener.tick(now)
            self._context.lsd.tick(now)
            self._context.served.tick(now, self._arena.size - self._arena.peak)
            if self._context.full_since is not None and now - self._context.full_since > FULL_TOO_LONG:
                for torrent in self._torrents.values():
                    torrent.give_memory_back()
                self._context.room_freed()
            for torrent in self._rounds.awake(now):
                with self._to_blame(torrent):
                    until = torrent.tick(now)
                    if until > now:
                        self._rounds.rest(torrent, until)
            for resolving in list(self._resolving.values()):
                with self._to_blame(resolving):
                    resolving.tick(now)

    @contextlib.contextmanager
    def _to_blame(self, item: ActiveTorrent | Resolving) -> Iterator[None]:
        """A bug ends its item, says so, and leaves the others alone."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - see above
            item.fail(bug(item.name, error))
            asyncio.get_running_loop().call_exception_handler({"message": f"{item.name} broke", "exception": error})
