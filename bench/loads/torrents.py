"""torrents: 10,000 complete torrents served at once, of which nobody wants anything: what does it cost to have them?"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import msgspec
import psutil

from bench.clients import BTFAST, LIBTORRENT, PEER_SCRIPT, Client, Job
from bench.loads.base import Load, Scale
from bench.metering import Reading, client_environment
from bench.payload import make_many
from bench.results import Column, Goal, Summary
from bench.tools import announce_url, start_tracker

PIECE = 16 << 10
SIZE = 2 * PIECE
EACH = Column("kib_each", "KiB/torrent", 1, "less")
REST_CPU = Column("rest_cpu_percent", "CPU % at rest", 2, "less")
SERVED = Column("served_s", "all served s", 1, "less")
START_CPU = Column("cpu_ms_each", "CPU ms/torrent to start", 2, "less")
SETTLE = 5.0  # seconds from the last first announce to the minute of idling


class BtfastSeeds:
    name = "btfast"  # the same program, another verb

    def missing(self) -> str | None:
        return BTFAST.missing()

    def version(self) -> str:
        return BTFAST.version()

    def command(self, job: Job) -> list[str]:
        where = ["--data", str(job.payloads[0].content.parent), "--bind", "127.0.0.1", "--port", "0"]
        torrents = [str(payload.announced(job.tracker)) for payload in job.payloads]
        return [sys.executable, "-m", "btfast", "seed", *where, "--no-dht", "--no-lsd", "-q", *torrents]


class LibtorrentSeeds:
    name = "libtorrent"

    def missing(self) -> str | None:
        return LIBTORRENT.missing()

    def version(self) -> str:
        return LIBTORRENT.version()

    def command(self, job: Job) -> list[str]:
        torrents = [str(payload.announced(job.tracker)) for payload in job.payloads]
        told = {"torrents": torrents, "folder": str(job.payloads[0].content.parent), "host": "127.0.0.1"}
        listing = job.folder.with_name("libtorrent.json")  # too long for a command line
        listing.write_bytes(msgspec.json.encode(told))
        return [sys.executable, str(PEER_SCRIPT), "seed", f"@{listing}"]


BTFAST_SEEDS = BtfastSeeds()
LIBTORRENT_SEEDS = LibtorrentSeeds()


class Torrents(Load):
    """A torrent is served once its first announce has reached the tracker. Both hash the data before."""

    name = "torrents"
    about = "10,000 complete torrents of 32 KiB served, one HTTP tracker, and then a minute in which nothing happens"
    clients = (BTFAST_SEEDS, LIBTORRENT_SEEDS)
    columns = (EACH, REST_CPU, SERVED, START_CPU)
    charted = (EACH.key, REST_CPU.key, SERVED.key)
    rounds_at_most = 2  # two minutes each

    def __init__(self, scale: Scale, destination: Path) -> None:
        super().__init__(scale, destination)
        self.rest = 5.0 if scale.quick else 60.0

    @property
    def count(self) -> int:
        return 100 if self.scale.quick else 10_000

    @property
    def size(self) -> int:
        return self.count * SIZE

    @property
    def timeout(self) -> float:
        return 600.0

    def start(self, folder: Path, stack: ExitStack) -> Job:
        payloads = make_many(folder, self.count, SIZE, PIECE)
        self.tracker = stack.enter_context(start_tracker([], log=True))
        return Job(tuple(payloads), (), announce_url(self.tracker), announce=True, folder=folder)

    def take(self, client: Client) -> tuple[Reading, str]:
        """Until all are served, a minute more, and until it has ended, which is asked of it."""
        with tempfile.TemporaryDirectory(prefix="home-", dir=self.work) as home, tempfile.TemporaryFile("w+") as errors:
            environment, start = client_environment(Path(home)), time.monotonic()
            process = subprocess.Popen(
                client.command(self.job), cwd=self.work, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=errors,
            )  # fmt: skip
            try:
                stopped = "asked" if self._watch(process, start) else "timeout"
            finally:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            errors.seek(0)
            said = errors.read().strip()
        wall = time.monotonic() - start
        reading = Reading(
            start, wall, self._cpu, 0.0, self._cpu, self._pss, self._rss, self._processes, 0, 0, stopped, left_behind=0
        )
        return reading, said

    def _watch(self, process: subprocess.Popen[bytes], start: float) -> bool:
        """False when it ended, or was not done in time."""
        self._cpu = self._pss = self._rss = self._processes = 0
        while len(self._served(start)) < self.count:
            time.sleep(0.1)
            if process.poll() is not None or time.monotonic() - start > self.timeout:
                return False
        time.sleep(SETTLE)
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        begun, at = _cpu(tree), time.monotonic()
        time.sleep(self.rest)
        self._cpu, seconds = _cpu(tree), time.monotonic() - at
        memory = [one.memory_full_info() for one in tree]
        self._pss, self._rss = sum(one.pss for one in memory), sum(one.rss for one in memory)
        self._processes = len(tree)
        self._figures = {
            EACH.key: self._pss / 1024 / self.count,
            REST_CPU.key: 100 * (self._cpu - begun) / seconds,
            SERVED.key: self._served(start)[self.count - 1] - start,
            START_CPU.key: 1000 * begun / self.count,
        }
        return True

    def _served(self, start: float) -> list[float]:
        return [event.time for event in self.tracker.events(start) if event.kind == "started"]

    def check(self) -> str | None:
        return None

    def figures(self, reading: Reading) -> dict[str, float]:
        return self._figures

    def goals(self, summary: Summary) -> list[Goal]:
        ours, theirs = BTFAST_SEEDS.name, LIBTORRENT_SEEDS.name
        return [
            Goal("CPU % at rest", summary.median(ours, REST_CPU.key), 2.0, False),
            Goal("KiB/torrent over libtorrent's", summary.ratio(EACH.key, ours, theirs), 1.0, False),
            Goal("time until all are served over libtorrent's", summary.ratio(SERVED.key, ours, theirs), 1.0, False),
        ]


def _cpu(tree: list[psutil.Process]) -> float:
    """CPU seconds so far."""
    return sum(sum(one.cpu_times()[:2]) for one in tree)
