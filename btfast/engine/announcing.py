"""One torrent's announces: the schedule decides when and where, this makes them."""

from __future__ import annotations

import asyncio
import re
from typing import Protocol

import msgspec

from btfast.discovery.announce import AnnounceRequest, AnnounceResponse, tracker_name
from btfast.discovery.schedule import Announce, TrackerSchedule
from btfast.engine.context import Context
from btfast.engine.resolve import literal
from btfast.engine.together import end, together
from btfast.errors import Error, RemoteError
from btfast.metainfo.addresses import PeerAddress
from btfast.metainfo.reach import Reach, reach_of
from btfast.swarm.peers import Source
from btfast.swarm.source_policy import allowed

SHORTEST_WAIT = 0.01  # seconds between two looks at the schedule
STOPPED_PATIENCE = 2.0  # seconds that a `stopped` may take
NAME_SECONDS = 10.0  # to look a peer's host name up
ADDRESSES_A_NAME = 2

_HOST = re.compile(r"\w+://(?:[^@/?#]*@)?(?:\[([^\]]*)\]|([^:/?#]*))")


class Owner(Protocol):
    """Who is announced."""

    def announce_request(self, event: str | None) -> AnnounceRequest: ...

    def handle_answered(self, url: str) -> None:
        """A tracker has taken the announce."""
        ...

    def handle_peers(self, addresses: list[PeerAddress], tracker: str) -> None: ...

    def handle_tracker_warning(self, message: str) -> None: ...


class _Flight:
    """An announce, and whether anything of it may have been sent."""

    __slots__ = ("announce", "begun")

    def __init__(self, announce: Announce) -> None:
        self.announce = announce
        self.begun = False


class Announcing:
    """Runs until `stop`.

    An announce under way has a task of its own; between them there is none, only a timer for the next. While a tracker
    is slow to answer, the others that the schedule names meanwhile are asked.
    """

    def __init__(self, context: Context, schedule: TrackerSchedule, owner: Owner) -> None:
        self._context = context
        self._schedule = schedule
        self._owner = owner
        self._under_way: dict[asyncio.Task[None], _Flight] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._ending = False
        self._warned: set[str] = set()
        self._naming: asyncio.Task[None] | None = None
        self.last_error: str | None = None
        self.without_trackers = not len(schedule)  # there is nobody to ask
        for url in schedule.ignored:
            name = tracker_name(url)
            if context.trackers.first_mention(name):
                self._warn(f"tracker {name}: only http, https and udp trackers can be asked: it is left out")
        self._advance()

    def completed(self) -> None:
        self._schedule.handle_completed(self._context.loop.time())
        self._advance()

    def found_complete(self) -> None:
        self._schedule.handle_found_complete()

    def want_peers(self) -> None:
        self._schedule.handle_want_peers(self._context.loop.time())
        self._advance()

    def _advance(self) -> None:
        """Makes the announces that are due, and comes back when the next one is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._ending or self.without_trackers:
            return
        loop = self._context.loop
        now = loop.time()
        while (announce := self._schedule.poll_announce(now)) is not None:
            flight = _Flight(announce)
            task = loop.create_task(self._make(flight))
            self._under_way[task] = flight
            task.add_done_callback(self._ended)
        deadline = self._schedule.next_deadline()
        if deadline is not None:
            self._timer = loop.call_later(max(SHORTEST_WAIT, deadline - now), self._advance)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A bug is at once to be seen, and not when the task is forgotten."""
        del self._under_way[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._context.loop.call_exception_handler({"message": "announcing broke", "exception": error, "task": task})
        self._advance()

    async def _make(self, flight: _Flight) -> None:
        """Announces once and tells the schedule and the owner what came of it."""
        loop, announce = self._context.loop, flight.announce
        flight.begun = True
        try:
            response = await self._announce(announce.url, announce.event)
        except Error as error:
            self._schedule.handle_failure(loop.time(), announce.url, error)
            self._warn(str(error))
            return
        self._schedule.handle_response(loop.time(), announce.url, response)
        if response.failure_reason is not None:
            self._warn(f"tracker says: {response.failure_reason}")
            return
        self.last_error = None
        self._owner.handle_answered(announce.url)
        if response.external_ip is not None:
            self._context.external.handle_vote(_voter(announce.url), response.external_ip)
        if response.warning_message:
            self._warn(f"tracker warns: {response.warning_message}")
        if response.hostnames and self._naming is None:
            self._naming = loop.create_task(self._resolve(announce.url, response.hostnames))
        if response.peers:
            self._owner.handle_peers(await self._allowed(announce.url, response.peers), host_of(announce.url))

    async def _resolve(self, url: str, names: tuple[tuple[str, int], ...]) -> None:
        """Peers that a tracker gave by host name (BEP 3): one name after the other, and of one answer at a time."""
        try:
            for host, port in names:
                try:
                    async with asyncio.timeout(NAME_SECONDS):
                        found = await self._context.resolver.resolve(host, f"peer {host}:{port}")
                except (RemoteError, TimeoutError):
                    continue  # one peer less, as one that does not answer
                peers = tuple(PeerAddress(address.host, port) for address in found[:ADDRESSES_A_NAME])
                self._owner.handle_peers(await self._allowed(url, peers), host_of(url))
        finally:
            self._naming = None

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

    def answered(self) -> list[str]:
        """Trackers that have answered."""
        return self._schedule.answered()

    async def stop(self) -> None:
        """Ends the announces; those who heard `started` are told `stopped`, and before it `completed` where that is owed."""
        self._ending = True
        if self._timer is not None:
            self._timer.cancel()
        under_way = dict(self._under_way)
        try:
            async with asyncio.timeout(STOPPED_PATIENCE):
                await self._say_farewell(under_way)
        except TimeoutError:
            pass  # the tracker forgets us by itself
        await end([*under_way, *([self._naming] if self._naming is not None else ())])

    async def _say_farewell(self, under_way: dict[asyncio.Task[None], _Flight]) -> None:
        # A tracker that may have heard `completed` must not hear it again: its answer is waited for.
        awaited = [task for task, flight in under_way.items() if flight.announce.event == "completed"]
        await end([task for task in under_way if task not in awaited])
        if awaited:
            await asyncio.gather(*awaited, return_exceptions=True)
        for flight in under_way.values():
            if not flight.begun:
                self._schedule.handle_unsent(flight.announce.url)
        await together([self._farewell(url, self._schedule.owes_completed(url)) for url in self._schedule.poll_stopped()])

    async def _farewell(self, url: str, completed: bool) -> None:
        try:
            for event in ("completed", "stopped") if completed else ("stopped",):
                await self._announce(url, event)
        except Error:
            pass  # it forgets us by itself
        except Exception as error:  # noqa: BLE001 - a bug is to be seen, and must not take back that all is complete
            self._context.loop.call_exception_handler({"message": "announcing broke", "exception": error})

    async def _announce(self, url: str, event: str | None) -> AnnounceResponse:
        request = self._owner.announce_request(event)
        if (trackerid := self._schedule.tracker_id(url)) is not None:
            request = msgspec.structs.replace(request, trackerid=trackerid)
        return await self._context.trackers.announce(url, request, patience=self._schedule.patience(url))


def host_of(url: str) -> str:
    """The host in a URL, "" when there is none."""
    match = _HOST.match(url)
    return (match[1] or match[2] or "") if match else ""


def _voter(url: str) -> str:
    """Whose word it is when a tracker says where it sees us: a host's, or that of the owner of its domain."""
    host = host_of(url)
    return host if literal(host) is not None else ".".join(host.split(".")[-2:])
