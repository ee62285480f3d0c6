"""tracker, trackerhttp: announces as fast as a tracker answers them, from a generator on the other core. No download."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

from bench.clients import BTFAST, Client, Job
from bench.loads.base import PEAK, Load, Scale
from bench.metering import Reading
from bench.payload import MIB
from bench.results import Column, Goal, Sample, Summary
from bench.tools import Tool, build

RATE = Column("announces_s", "announces/s", 0, "more")
CPU_EACH = Column("cpu_us_each", "CPU us/announce", 1, "less")
TORRENTS = 1000
PEERS = 50_000
WARM = 2.0  # seconds at the start that do not count: the interpreter starts, and the swarms fill


class BtfastTracker:
    """The same program, another verb."""

    def __init__(self, name: str = "btfast") -> None:
        self.name = name

    def missing(self) -> str | None:
        return BTFAST.missing()

    def version(self) -> str:
        return BTFAST.version()

    def command(self, job: Job) -> list[str]:
        port = job.tracker.rpartition(":")[2]
        return [sys.executable, "-m", "btfast", "tracker", "--bind", "127.0.0.1", "--port", port, "-q"]


class OpenTracker:
    """In C. Debian's is built to take listed torrents only."""

    name = "opentracker"

    def missing(self) -> str | None:
        return None if shutil.which("opentracker") else "opentracker is not installed"

    def version(self) -> str:
        return ""

    def command(self, job: Job) -> list[str]:
        port, folder, root = job.tracker.rpartition(":")[2], job.folder.parent, os.geteuid() == 0
        listing = folder / "list"
        listing.write_text("".join(f"{number:040x}\n" for number in range(TORRENTS)))
        folder.chmod(0o755)
        where = ["-i", "127.0.0.1", "-p", port, "-P", port, "-d", str(folder)]
        return ["opentracker", *where, "-w", "/list" if root else str(listing), *(["-u", "nobody"] if root else [])]


BTFAST_TRACKER = BtfastTracker()
BTFAST_KEPT = BtfastTracker("btfast-kept")
OPENTRACKER = OpenTracker()


class Tracker(Load):
    """The tracker is ended after a few seconds; what the generator got meanwhile is counted."""

    name = "tracker"
    about = f"UDP announces of {PEERS} peers in {TORRENTS} torrents, as fast as the tracker answers, for 8 s"
    clients = (BTFAST_TRACKER, OPENTRACKER)
    columns = (RATE, CPU_EACH, PEAK)
    charted = (RATE.key, CPU_EACH.key)

    def __init__(self, scale: Scale, destination: Path) -> None:
        super().__init__(scale, destination)
        self.stop_after = 4.0 if scale.quick else 8.0

    @property
    def size(self) -> int:
        return MIB

    def describe(self) -> str:
        return self.about

    def start(self, folder: Path, stack: ExitStack) -> Job:
        self.generator, job = self.generate(stack, folder, "announce")
        return job

    def generate(self, stack: ExitStack, folder: Path, tool: str, *options: str) -> tuple[Tool, Job]:
        """A generator, and the tracker that it asks."""
        with socket.create_server(("127.0.0.1", 0)) as reserved:
            address = f"127.0.0.1:{reserved.getsockname()[1]}"
        words = [build(tool), "--to", address, "--torrents", str(TORRENTS), "--peers", str(PEERS), *options]
        return stack.enter_context(Tool(words)), Job((), (), f"//{address}", announce=True, folder=folder)

    def check(self) -> str | None:
        return None

    def figures(self, reading: Reading) -> dict[str, float]:
        events = [event for event in self.generator.events(reading.start) if event.kind == "answers"]
        late = [event for event in events if event.time > reading.start + WARM]
        total = sum(event.values[0] for event in events)
        seconds = late[-1].time - late[0].time if len(late) > 1 else 0.0
        return {
            RATE.key: sum(event.values[0] for event in late[1:]) / seconds if seconds else 0.0,
            CPU_EACH.key: 1e6 * reading.cpu / total if total else 0.0,
            PEAK.key: reading.peak_pss / MIB,
        }

    def goals(self, summary: Summary) -> list[Goal]:
        return [Goal("UDP announces/s", summary.median(BTFAST_TRACKER.name, RATE.key), 20_000, True)]


class TrackerHttp(Tracker):
    """The same over HTTP: an announce a connection, as most clients do it, and one after the other on kept ones."""

    name = "trackerhttp"
    about = f"HTTP announces of {PEERS} peers in {TORRENTS} torrents, each on a connection of its own (kept: 32 stay), for 8 s"
    clients = (BTFAST_TRACKER, BTFAST_KEPT, OPENTRACKER)

    def start(self, folder: Path, stack: ExitStack) -> Job:
        self._once = self.generate(stack, folder, "announce_http")
        self._kept = self.generate(stack, folder, "announce_http", "--keep", "1")
        return self._once[1]

    def run(self, client: Client, number: int) -> Sample:
        self.generator, job = self._kept if client is BTFAST_KEPT else self._once
        self.job = job._replace(folder=self.job.folder)
        return super().run(client, number)

    def goals(self, summary: Summary) -> list[Goal]:
        ratio = summary.ratio(RATE.key, BTFAST_TRACKER.name, OPENTRACKER.name)
        return [Goal("HTTP announces/s over opentracker's", ratio, 0.5, True)]
