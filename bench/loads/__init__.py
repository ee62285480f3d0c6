"""The loads, by name, in the order they run."""

from __future__ import annotations

from bench.loads.again import Rerun
from bench.loads.base import Load
from bench.loads.bulk import Bulk
from bench.loads.flat import Flat
from bench.loads.idle import Idle
from bench.loads.long_pipes import Crowd, Pipe
from bench.loads.magnets import Magnets
from bench.loads.memory import Memory
from bench.loads.on_disk import Check, Cold, Create, Hybrid
from bench.loads.rc4 import Rc4
from bench.loads.swarms import Seed, Swarm
from bench.loads.torrents import Torrents
from bench.loads.tracker import Tracker, TrackerHttp
from bench.loads.versions import Versions
from bench.loads.webseed import Webpipe, Webseed

_ALL: tuple[type[Load], ...] = (
    Flat, Versions, Rc4, Pipe, Crowd, Bulk, Magnets, Memory, Torrents, Idle, Tracker, TrackerHttp, Seed, Swarm, Webseed, Webpipe,
    Check, Cold, Create, Hybrid, Rerun,
)  # fmt: skip
LOADS: dict[str, type[Load]] = {load.name: load for load in _ALL}
