"""magnets: magnet links resolved to .torrent files, from one libtorrent seeder found through one HTTP tracker."""

from __future__ import annotations

import hashlib
import sys
from contextlib import ExitStack
from pathlib import Path

import msgspec

from bench.clients import ARIA2, BTFAST, LIBTORRENT, LIBTORRENT_TUNED, PEER_SCRIPT, Job
from bench.loads.base import PEAK, WALL, Load, memory_goal
from bench.loads.bulk import CPU_EACH, RATE, SEEDER_HOST
from bench.metering import Reading
from bench.payload import info_of, make_many
from bench.results import Goal, Summary
from bench.tools import Tool, announce_url, start_tracker

CONTENT = 65536  # bytes of each torrent's only file


class Magnets(Load):
    name = "magnets"
    about = "1000 magnet links resolved to .torrent files, one libtorrent seeder, one HTTP tracker"
    clients = (BTFAST, LIBTORRENT, LIBTORRENT_TUNED, ARIA2)
    columns = (RATE, WALL, CPU_EACH, PEAK)
    charted = (RATE.key, CPU_EACH.key)

    @property
    def count(self) -> int:
        return 20 if self.scale.quick else 1000

    @property
    def size(self) -> int:
        return self.count * CONTENT

    def start(self, folder: Path, stack: ExitStack) -> Job:
        payloads = make_many(folder, self.count, CONTENT, CONTENT // 4)
        told = {"torrents": [str(payload.torrent) for payload in payloads], "folder": str(folder), "host": SEEDER_HOST}
        seeder = stack.enter_context(Tool([sys.executable, PEER_SCRIPT, "seed", msgspec.json.encode(told).decode()]))
        tracker = stack.enter_context(start_tracker(seeder.addresses))
        return Job(
            tuple(payloads), tuple(seeder.addresses), announce_url(tracker), announce=True, folder=folder, magnets=True
        )

    def figures(self, reading: Reading) -> dict[str, float]:
        return {
            **self.basic_figures(reading),
            RATE.key: self.count / reading.wall,
            CPU_EACH.key: reading.cpu * 1000 / self.count,
        }

    def check(self) -> str | None:
        """The clients name the files each in its own way: what counts are the info-hashes."""
        wanted = {payload.info_hash for payload in self.job.payloads}
        found = {hashlib.sha1(info_of(path.read_bytes())).hexdigest() for path in self.job.folder.glob("*.torrent")}
        return None if found == wanted else f"{len(wanted - found)} of {len(wanted)} .torrent files are missing or wrong"

    def goals(self, summary: Summary) -> list[Goal]:
        other = summary.best(RATE.key, (LIBTORRENT.name, LIBTORRENT_TUNED.name, ARIA2.name))
        ratio = summary.ratio(RATE.key, "btfast", other) if other else None
        return [
            Goal(f"torrents/s over the best of the others ({other or 'none measured'})", ratio, 1.0, True),
            memory_goal(summary),
        ]
