"""UDP trackers on the network: one object announces for all torrents of a process, over context.udp's sockets (BEP 15)."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Sequence

from btfast.discovery import udp_tracker as packets
from btfast.discovery.announce import AnnounceRequest, AnnounceResponse, ScrapedSwarm, tracker_name
from btfast.discovery.udp_exchange import NO_ANSWER, Exchanges, Outcome
from btfast.engine.families import Families
from btfast.engine.resolve import Address, Resolver
from btfast.engine.udp import UdpSockets
from btfast.errors import RemoteError
from btfast.metainfo.addresses import PeerAddress

TRIES = 2  # 15 s and 30 s: then the schedule rests this tracker and turns to others
MAX_LINES = 1024


class _Line:
    """One tracker at one address: the exchanges, who waits for them, and their timer."""

    def __init__(self, address: PeerAddress, sockets: UdpSockets, loop: asyncio.AbstractEventLoop) -> None:
        self.address = address
        self.failed_at = -1.0
        self._sockets = sockets
        self._loop = loop
        self._exchanges = Exchanges(random.SystemRandom())
        self._waiting: dict[int, asyncio.Future[Outcome]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None

    @property
    def idle(self) -> bool:
        return not self._waiting

    async def ask(
        self, action: int, body: bytes, tries: int, *, urgent: bool, patience: float | None = None
    ) -> Outcome:
        key = self._exchanges.ask(action, body, tries=tries, urgent=urgent, patience=patience)
        answer: asyncio.Future[Outcome] = self._loop.create_future()
        self._waiting[key] = answer
        self._advance()
        try:
            return await answer
        finally:
            if self._waiting.pop(key, None) is not None:
                self._exchanges.forget(key)
                self._advance()

    def handle_datagram(self, data: bytes) -> None:
        self._exchanges.handle_datagram(data, self._loop.time())
        self._advance()

    def close(self) -> None:
        """Who waits learns that there is no answer."""
        if self._timer is not None:
            self._timer.cancel()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_result(Outcome(0, NO_ANSWER, b""))

    def _advance(self) -> None:
        exchanges = self._exchanges
        for data in exchanges.poll(self._loop.time()):
            self._sockets.send(data, self.address)
        for outcome in exchanges.outcomes():
            if outcome.action == NO_ANSWER:
                self.failed_at = self._loop.time()
            answer = self._waiting.pop(outcome.key, None)
            if answer is not None and not answer.done():
                answer.set_result(outcome)
        deadline = exchanges.next_deadline()
        if deadline != self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = deadline
            self._timer = self._loop.call_at(deadline, self._tick) if deadline is not None else None

    def _tick(self) -> None:
        self._timer_at = None
        self._advance()


class UdpTrackers:
    """Announces and scrapes. Use inside one running loop; `close` when done."""

    def __init__(self, sockets: UdpSockets, resolver: Resolver, *, tries: int = TRIES) -> None:
        self._sockets = sockets
        self._resolver = resolver
        self._tries = tries
        self._loop = asyncio.get_running_loop()
        self._families = Families(self._loop)
        self._lines: dict[PeerAddress, _Line] = {}
        sockets.tracker_handler = self._handle_datagram

    async def announce(self, url: str, request: AnnounceRequest, *, patience: float | None = None) -> AnnounceResponse:
        """Announce once. What the tracker refuses is an answer with a failure reason.

        Raises RemoteError, one line that names the tracker by scheme, host and port, when there is no answer that can
        be read; InputError for a URL that is none.
        """
        name = f"tracker {tracker_name(url)}"
        host, port, url_data = packets.parse_url(url, name)

        async def find() -> list[int]:
            return sorted({address.family for address in await self._addresses(host, port, name)})

        async def ask(family: int) -> AnnounceResponse:
            line = await self._line(host, port, name, family)
            v6 = family == socket.AF_INET6
            body = packets.announce_body(request, url_data, v6=v6)
            outcome = await line.ask(
                packets.ANNOUNCE, body, self._tries, urgent=request.event is not None, patience=patience
            )
            if outcome.action == packets.ERROR:
                return AnnounceResponse(failure_reason=packets.parse_error(outcome.body))
            return packets.parse_announce(_answered(outcome, name), name, v6=v6)

        return await self._families.announce(f"{host}:{port}", find, ask)

    async def scrape(self, url: str, info_hashes: Sequence[bytes]) -> dict[bytes, ScrapedSwarm]:
        """How the swarms stand, at most 74 of them. Raises RemoteError, also when the tracker refuses; InputError."""
        name = f"tracker {tracker_name(url)}"
        host, port, _ = packets.parse_url(url, name)
        line = await self._line(host, port, name, 0)
        outcome = await line.ask(packets.SCRAPE, packets.scrape_body(info_hashes), self._tries, urgent=False)
        if outcome.action == packets.ERROR:
            raise RemoteError(f"{name}: tracker says: {packets.parse_error(outcome.body)}", tracker=name)
        return packets.parse_scrape(_answered(outcome, name), info_hashes, name)

    def close(self) -> None:
        """Give up what is being asked."""
        self._sockets.tracker_handler = None
        for line in self._lines.values():
            line.close()
        self._lines.clear()

    async def _addresses(self, host: str, port: int, name: str) -> list[Address]:
        found = await self._resolver.resolve(host, name)
        usable = [address for address in found if self._sockets.has(v6=address.family == socket.AF_INET6)]
        usable = [
            address for address in usable if PeerAddress(address.host, port) in self._lines or _has_route(address, port)
        ]
        if not usable:
            why = self._sockets.problem or "no route to it: check the network, or --bind"
            raise RemoteError(f"{name}: cannot be reached: {why}", tracker=name)
        return usable

    async def _line(self, host: str, port: int, name: str, family: int) -> _Line:
        """That of the tracker's address; of several, the one whose last failure is the longest ago."""
        places = [
            PeerAddress(address.host, port)
            for address in await self._addresses(host, port, name)
            if family in (0, address.family)
        ]
        if not places:
            raise RemoteError(f"{name}: has no address of this kind any more: try again later", tracker=name)
        if len(self._lines) + len(places) > MAX_LINES:
            self._lines = {place: line for place, line in self._lines.items() if not line.idle}
            if len(self._lines) + len(places) > MAX_LINES:
                raise RemoteError(f"{name}: too many UDP trackers at once: it is asked later", tracker=name)
        lines = []
        for place in places:
            line = self._lines.get(place)
            if line is None:
                line = self._lines[place] = _Line(place, self._sockets, self._loop)
            lines.append(line)
        return min(lines, key=lambda line: line.failed_at)

    def _handle_datagram(self, data: bytes, address: PeerAddress) -> None:
        line = self._lines.get(address)
        if line is not None:
            line.handle_datagram(data)


def _has_route(address: Address, port: int) -> bool:
    """Whether the system knows a way; nothing is sent. Without it each datagram would be waited for."""
    try:
        with socket.socket(address.family, socket.SOCK_DGRAM) as probe:
            probe.connect((address.host, port))
    except OSError:
        return False
    return True


def _answered(outcome: Outcome, name: str) -> bytes:
    if outcome.action == NO_ANSWER:
        raise RemoteError(f"{name}: no answer over UDP: try again later", tracker=name)
    return outcome.body
