"""memory: 200 slow seeds and 16 MiB pieces, for a bounded time: how much memory does a client hold?"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from bench.clients import ARIA2, BTFAST, BTFAST_256, LIBTORRENT, LIBTORRENT_TUNED, Job
from bench.loads.base import PEAK, Load, Scale, memory_goal
from bench.metering import Reading
from bench.payload import MIB, make_payload
from bench.results import Column, Goal, Summary
from bench.tools import announce_url, start_seeds, start_tracker

RATE = 50 * 1024  # bytes/s that each seed gives
RSS = Column("rss_mib", "sum of RSS MiB", 0, "less")
SHARE = Column("share", "share of the seeds' rate", 3, "more")
CPU_SHARE = Column("cpu_percent", "CPU %", 1, "less")


class Memory(Load):
    """The run is ended while the download goes on, so nothing is compared; what the seeds gave shows that it did go on.
    A client that takes less holds less: read the peak beside the share."""

    name = "memory"
    about = "1 GiB, 16 MiB pieces, 200 seeds that give 50 KiB/s each, for 60 s"
    clients = (BTFAST, BTFAST_256, LIBTORRENT, LIBTORRENT_TUNED, ARIA2)
    columns = (PEAK, RSS, SHARE, CPU_SHARE)
    charted = (PEAK.key, SHARE.key)
    poll_ms = 100
    rounds_at_most = 2  # a minute each, and peaks hardly differ

    def __init__(self, scale: Scale, destination: Path) -> None:
        super().__init__(scale, destination)
        self.stop_after = 6.0 if scale.quick else 60.0

    @property
    def seed_count(self) -> int:
        return 20 if self.scale.quick else 200

    @property
    def size(self) -> int:
        return 64 * 16 * MIB

    def start(self, folder: Path, stack: ExitStack) -> Job:
        payload = make_payload(folder, self.size, 16 * MIB)
        self.seeds = stack.enter_context(
            start_seeds(payload.content, payload.info_hash, payload.piece_length, self.seed_count, rate=RATE)
        )
        tracker = stack.enter_context(start_tracker(self.seeds.addresses))
        return Job((payload,), tuple(self.seeds.addresses), announce_url(tracker), announce=False, folder=folder)

    def check(self) -> str | None:
        return None

    def figures(self, reading: Reading) -> dict[str, float]:
        events = self.seeds.events_when_closed(reading.start)
        given = sum(event.values[1] for event in events if event.kind == "close")
        return {
            PEAK.key: reading.peak_pss / MIB,
            RSS.key: reading.peak_rss / MIB,
            SHARE.key: given / (RATE * self.seed_count * self.stop_after),
            CPU_SHARE.key: 100 * reading.cpu / reading.wall,
        }

    def goals(self, summary: Summary) -> list[Goal]:
        return [memory_goal(summary), memory_goal(summary, BTFAST_256.name, 256 * MIB)]
