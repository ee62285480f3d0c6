"""What every part of the network process shares: settings, memory, workers, trackers, randomness, and the way out for events."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from btfast._arena import Arena
from btfast.config import Settings, parse_size
from btfast.engine.dht import Dht
from btfast.engine.lsd import LocalDiscovery
from btfast.engine.places import Places
from btfast.engine.resolve import Resolver
from btfast.engine.resuming import Resuming
from btfast.engine.reusing import Reusing
from btfast.engine.served_files import ServedFiles
from btfast.engine.sharing import Sharing
from btfast.engine.throttle import Line, Throttle
from btfast.engine.trackers import Trackers
from btfast.engine.udp import UdpSockets
from btfast.engine.workers import Workers
from btfast.events import Event, Warning
from btfast.storage.files import descriptor_budget
from btfast.swarm.external import ExternalAddress
from btfast.swarm.metadata import Room
from btfast.wire.handshake import make_peer_id

if TYPE_CHECKING:
    from btfast.engine.web_hosts import WebHosts


class Context:
    """One a network process. `emit(event)` reports to the caller."""

    def __init__(self, settings: Settings, arena: Arena, emit: Callable[[Event], None]) -> None:
        self.settings = settings
        self.emit = emit
        self.loop = asyncio.get_running_loop()
        self.rng = random.Random()
        self.peer_id = make_peer_id(os.urandom)
        self.key = os.urandom(4).hex()  # tells trackers who we are when our address changes
        self.arena = arena
        self.resolver = Resolver(self.loop)  # of names of peers
        self.served = ServedFiles()
        self.places = Places(descriptor_budget())
        self.metadata_room = Room()  # for metadata that has not been verified yet
        self.up = Throttle(self.loop, parse_size(settings.max_up))
        self.down = Throttle(self.loop, parse_size(settings.max_down))
        self.port = 0  # where we listen
        self.external = ExternalAddress()
        self.reusing = Reusing(emit, settings.reuse)
        self.sharing = Sharing()
        self.lsd = LocalDiscovery(self)  # opens its sockets when a torrent is old enough
        self.udp = UdpSockets(self)  # makes its sockets when they are first used
        self.trackers = Trackers(self.udp, self.resolver, settings.bind)
        self.dht = Dht(
            self, lambda message: emit(Warning(id=None, message=message)), moved=self.external.handle_agreed
        )  # fmt: skip
        self._web_hosts: WebHosts | None = None
        self.workers: Workers  # these two are set by the engine before anything else runs
        self.resuming: Resuming
        self.starved: dict[object, Callable[[], bool]] = {}  # who waits for room in the arena
        self.full_since: float | None = None
        self.own_cpu = 0.0
        self.worker_cpu = 0.0
        self.full_seconds = 0.0  # how long requests had to wait because the arena was full

    def web_hosts(self) -> WebHosts:
        """The servers of web seeds; loaded when a torrent has any."""
        if self._web_hosts is None:
            from btfast.engine.web_hosts import WebHosts

            self._web_hosts = WebHosts(bind=self.settings.bind)
        return self._web_hosts

    def close_web(self) -> None:
        if self._web_hosts is not None:
            self._web_hosts.close()

    def lines(self) -> tuple[Line | None, Line | None]:
        """One torrent's caps: up and down."""
        each = self.settings.max_up_torrent, self.settings.max_down_torrent
        return self.up.line(parse_size(each[0])), self.down.line(parse_size(each[1]))

    def sample_load(self) -> None:
        """Once a second: CPU seconds that this process and the workers have used so far."""
        self.own_cpu = time.process_time()
        self.worker_cpu = self.workers.cpu_seconds()

    def wait_for_room(self, who: object, retry: Callable[[], bool]) -> None:
        """Calls `retry` when slots have been freed, until it returns True."""
        if self.full_since is None:
            self.full_since = self.loop.time()
        self.starved[who] = retry

    def room_freed(self) -> None:
        """Slots were freed: those who wait go on, in the order in which they came, while there is room."""
        while self.starved:
            who = next(iter(self.starved))
            retry = self.starved.pop(who)
            if not retry():
                self.starved = {who: retry, **self.starved}
                return
        if self.full_since is not None:
            self.full_seconds += self.loop.time() - self.full_since
            self.full_since = None
