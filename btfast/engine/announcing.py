"""One torrent's announces: the schedule decides when and where, this makes them."""

from __future__ import annotations

import asyncio
import re
from typing import Protocol

import msgspec

from btfast.discovery.announce import AnnounceRequest, AnnounceResponse
from btfast.discovery.schedule import Announce, TrackerSchedule
from btfast.engine.context import Context
from btfast.errors import Error, RemoteError
from btfast.metainfo.addresses import PeerAddress
from btfast.metainfo.reach import Reach, reach_of
from btfast.swarm.peers import Source
from btfast.swarm.source_policy import allowed

STOPPED_PATIENCE = 2.0  # seconds that a `stopped` may take

_HOST = re.compile(r"\w+://(?:[^@/?#]*@)?(?:\[([^\]]*)\]|([^:/?#]*))")


class Owner(Protocol):
    """Who is announced."""

    def announce_request(self, event: str | None) -> AnnounceRequest: ...

    def handle_peers(self, addresses: list[PeerAddress]) -> None: ...

    def handle_tracker_warning(self, message: str) -> None: ...


class Announcing:
    """Runs until `stop`."""

    def __init__(self, context: Context, schedule: TrackerSchedule, owner: Owner) -> None:
        self._context = context
        self._schedule = schedule
        self._owner = owner
        self._wake = asyncio.Event()
        self._under_way: Announce | None = None
        self._ending = False
        self._task = context.loop.create_task(self._run()) if len(schedule) else None
        self._warned: set[str] = set()
        self.last_error: str | None = None

    @property
    def without_trackers(self) -> bool:
        """There is nobody to ask."""
        return self._task is None

    def completed(self) -> None:
        self._schedule.handle_completed(self._context.loop.time())
        self._wake.set()

    def want_peers(self) -> None:
        self._schedule.handle_want_peers(self._context.loop.time())
        self._wake.set()

    async def _run(self) -> None:
        loop = self._context.loop
        while not self._ending:
            announce = self._schedule.poll_announce(loop.time())
            if announce is None:
                deadline = self._schedule.next_deadline()
                self._wake.clear()
                try:
                    async with asyncio.timeout(None if deadline is None else max(0.01, deadline - loop.time())):
                        await self._wake.wait()
                except TimeoutError:
                    pass
                continue
            self._under_way = announce
            try:
                response = await self._announce(announce.url, announce.event)
            except Error as error:
                self._schedule.handle_failure(loop.time(), announce.url, error)
                self._warn(str(error))
                continue
            finally:
                self._under_way = None
            self._schedule.handle_response(loop.time(), announce.url, response)
            if response.failure_reason is not None:
                self._warn(f"tracker says: {response.failure_reason}")
                continue
            self.last_error = None
            if response.warning_message:
                self._warn(f"tracker warns: {response.warning_message}")
            self._owner.handle_peers(await self._allowed(announce.url, response.peers))

    async def _allowed(self, url: str, peers: tuple[PeerAddress, ...]) -> list[PeerAddress]:
        """Those that the tracker may send us to."""
        public = allowed(Source.TRACKER, Reach.PUBLIC, peers)
        if len(public) == len(peers):
            return public
        host = host_of(url)
        try:
            addresses = await self._context.resolver.resolve(host, f"tracker {host}")
        except RemoteError:
            return public
        return allowed(Source.TRACKER, max(reach_of(address.host) for address in addresses), peers)

    def _warn(self, message: str) -> None:
        self.last_error = message
        if message not in self._warned and len(self._warned) < 100:
            self._warned.add(message)
            self._owner.handle_tracker_warning(message)

    async def stop(self) -> None:
        """Ends the announces; those who heard `started` are told `stopped`, and before it `completed` where that is owed."""
        if self._task is None:
            return
        try:
            async with asyncio.timeout(STOPPED_PATIENCE):
                await self._say_farewell(self._task)
        except TimeoutError:
            pass  # the tracker forgets us by itself
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _say_farewell(self, task: asyncio.Task[None]) -> None:
        if self._under_way is not None and self._under_way.event == "completed":
            self._ending = True  # a tracker that may have heard it must not hear it again: wait for the answer
            await asyncio.wait([task])
        else:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        last = self._schedule.poll_announce(self._context.loop.time())
        owed = last.url if last is not None and last.event == "completed" else None
        urls = self._schedule.poll_stopped()
        await asyncio.gather(*[self._farewell(url, url == owed) for url in urls], return_exceptions=True)

    async def _farewell(self, url: str, completed: bool) -> None:
        for event in ("completed", "stopped") if completed else ("stopped",):
            await self._announce(url, event)

    async def _announce(self, url: str, event: str | None) -> AnnounceResponse:
        request = self._owner.announce_request(event)
        if (trackerid := self._schedule.tracker_id(url)) is not None:
            request = msgspec.structs.replace(request, trackerid=trackerid)
        return await self._context.trackers.announce(url, request)


def host_of(url: str) -> str:
    """The host in a URL, "" when there is none."""
    match = _HOST.match(url)
    return (match[1] or match[2] or "") if match else ""
