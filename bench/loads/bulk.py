"""bulk: many small torrents from one libtorrent seeder, found through one HTTP tracker."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import msgspec

from bench.clients import ARIA2, BTFAST, LIBTORRENT, LIBTORRENT_TUNED, PEER_SCRIPT, Job
from bench.loads.base import PEAK, WALL, Load, memory_goal
from bench.metering import Reading
from bench.payload import MIB, make_many
from bench.results import Column, Goal, Summary
from bench.tools import Tool, announce_url, start_tracker

RATE = Column("torrents_s", "torrents/s", 0, "more")
CPU_EACH = Column("cpu_ms_each", "CPU ms/torrent", 2, "less")
SEEDER_HOST = "127.0.0.2"


class Bulk(Load):
    name = "bulk"
    about = "500 torrents of 1 MiB, one libtorrent seeder, one HTTP tracker"
    clients = (BTFAST, LIBTORRENT, LIBTORRENT_TUNED, ARIA2)
    columns = (RATE, WALL, CPU_EACH, PEAK)
    charted = (RATE.key, CPU_EACH.key)

    @property
    def count(self) -> int:
        return 20 if self.scale.quick else 500

    @property
    def size(self) -> int:
        return self.count * MIB

    def start(self, folder: Path, stack: ExitStack) -> Job:
        payloads = make_many(folder, self.count, MIB, MIB // 4)
        told = {"torrents": [str(payload.torrent) for payload in payloads], "folder": str(folder), "host": SEEDER_HOST}
        seeder = stack.enter_context(Tool([sys.executable, PEER_SCRIPT, "seed", msgspec.json.encode(told).decode()]))
        tracker = stack.enter_context(start_tracker(seeder.addresses))
        return Job(tuple(payloads), tuple(seeder.addresses), announce_url(tracker), announce=True, folder=folder)

    def figures(self, reading: Reading) -> dict[str, float]:
        return {
            **self.basic_figures(reading),
            RATE.key: self.count / reading.wall,
            CPU_EACH.key: reading.cpu * 1000 / self.count,
        }

    def goals(self, summary: Summary) -> list[Goal]:
        other = summary.best(RATE.key, (LIBTORRENT.name, LIBTORRENT_TUNED.name, ARIA2.name))
        ratio = summary.ratio(RATE.key, "btfast", other) if other else None
        return [
            Goal("torrents/s", summary.median("btfast", RATE.key), 300, True),
            Goal(f"torrents/s over the best of the others ({other or 'none measured'})", ratio, 1.5, True),
            memory_goal(summary),
        ]
