"""What all loads share: their folders, the alternating rounds, and one run from an empty folder to compared data."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

import msgspec

from bench.clients import Client, Job
from bench.machine import cpu_times, default_arena, load_average
from bench.metering import Reading, measure
from bench.payload import MIB, difference, source_folder
from bench.results import Column, Goal, Sample, Summary
from bench.tools import Event, ToolError

GIB = 1 << 30
ARENA_ALLOWANCE = 150 * MIB  # resident memory beyond the arena's budget
SPEED = Column("mib_s", "MiB/s", 0, "more")
CPU = Column("cpu_s_gib", "CPU s/GiB", 2, "less")
WALL = Column("wall_s", "wall s", 2, "less")
PEAK = Column("peak_mib", "peak MiB", 0, "less")
FIRST = Column("first_connection_s", "1st conn. s", 2, "less")


class Scale(msgspec.Struct, frozen=True):
    """How large the loads are. `size`: bytes instead of a load's own; `quick`: a smoke test's sizes."""

    quick: bool = False
    size: int = 0


class Load(ABC):
    """One load. Used as a context: entering makes the data and starts the seeds, leaving removes and stops them."""

    name: ClassVar[str]
    about: ClassVar[str]
    clients: ClassVar[tuple[Client, ...]]
    columns: ClassVar[tuple[Column, ...]]
    charted: ClassVar[tuple[str, ...]]  # keys of the columns that are drawn
    writes_only: ClassVar[tuple[Client, ...]] = ()  # those that write anything, with which nothing is to be compared
    rounds_at_most: int = 1000
    poll_ms: int = 200
    stop_after: float = 0.0

    def __init__(self, scale: Scale, destination: Path) -> None:
        self.scale = scale
        self.destination = destination
        self._stack = ExitStack()
        self.job: Job

    @property
    @abstractmethod
    def size(self) -> int:
        """Bytes of payload."""

    @property
    def full_size(self) -> bool:
        return not self.scale.quick and not self.scale.size

    def describe(self) -> str:
        """One line about what runs; says so when it is not the load's own size."""
        if self.full_size:
            return self.about
        return f"{self.about} (here {self.size // MIB} MiB{', a smoke test' if self.scale.quick else ''})"

    @property
    def timeout(self) -> float:
        """Seconds after which a run is killed: that of a client which does 20 MiB/s, and a minute."""
        return 60 + self.size / (20 * MIB)

    @abstractmethod
    def start(self, folder: Path, stack: ExitStack) -> Job:
        """Makes data in `folder`, starts what serves it, and says what is to be downloaded."""

    @abstractmethod
    def figures(self, reading: Reading) -> dict[str, float]:
        """The columns' values for a run that ended well."""

    @abstractmethod
    def goals(self, summary: Summary) -> list[Goal]: ...

    def __enter__(self) -> Load:
        with ExitStack() as stack:
            source = source_folder(self.size)
            room, needed = shutil.disk_usage(self.destination).free, self.size * 11 // 10
            if room < needed:
                raise ToolError(
                    f"{self.destination}: {room // MIB} MiB free: {self.name} needs {needed // MIB}: see --dest"
                )
            prefix = f"btfast-bench-{self.name}-"
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=prefix, dir=source))
            self.work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=prefix, dir=self.destination)))
            self.job = self.start(Path(folder), stack)._replace(folder=self.work / "out")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, client: Client, number: int) -> Sample:
        """One run of one client in an empty folder; the payload is compared after the clock has stopped."""
        self.job.folder.mkdir()
        os.sync()  # what the run before left to be written is not this one's
        load, before = load_average(), cpu_times()
        reading, said = self.take(client)
        after = cpu_times()
        failure = reading.failure
        if failure and said:
            failure = f"{failure}: {said.splitlines()[-1]}"
        if failure is None and client not in self.writes_only:
            failure = self.check()
        figures = self.figures(reading) if failure is None else {}
        put_aside(self.job.folder)
        passed = after[0] - before[0]
        steal = (after[1] - before[1]) / passed if passed else 0.0
        return Sample(client.name, number, failure, figures, reading, steal, load)

    def take(self, client: Client) -> tuple[Reading, str]:
        """Runs it to its end, or for as long as the load lasts; what it took, and what it said last."""
        command = client.command(self.job)
        return measure(command, self.work, timeout=self.timeout, poll_ms=self.poll_ms, stop_after=self.stop_after)

    def check(self) -> str | None:
        """What is wrong with the data that was downloaded, or None."""
        return next(filter(None, (difference(payload, self.job.folder) for payload in self.job.payloads)), None)

    def rounds(self, clients: Sequence[Client], count: int, report: Callable[[Sample], None]) -> list[Sample]:
        """Every client once a round, the order turned by one each round; `report` hears of each sample."""
        samples: list[Sample] = []
        for number in range(min(count, self.rounds_at_most) if clients else 0):
            turn = number % len(clients)
            for client in (*clients[turn:], *clients[:turn]):
                samples.append(self.run(client, number))
                report(samples[-1])
        return samples

    def basic_figures(self, reading: Reading) -> dict[str, float]:
        return {
            SPEED.key: self.size / MIB / reading.wall,
            CPU.key: reading.cpu * GIB / self.size,
            WALL.key: reading.wall,
            PEAK.key: reading.peak_pss / MIB,
        }


def put_aside(folder: Path) -> None:
    """Empties what a run has left; it is removed with all the rest at the end.

    ext4 looks past files that were deleted in the last minutes one by one when it makes new ones: removed at once, 500
    small files cost whoever runs next 0.3 s of system time.
    """
    for path, _, names in os.walk(folder):
        for name in names:
            left = os.path.join(path, name)
            if not os.path.islink(left):
                os.truncate(left, 0)
    aside = Path(tempfile.mkdtemp(prefix="done-", dir=folder.parent))
    folder.rename(aside / folder.name)


def first_connection(events: Sequence[Event], start: float) -> float:
    """Seconds from process start to the first accepted connection."""
    return min((event.time for event in events if event.kind == "accept"), default=time.monotonic()) - start


def ratio_goal(summary: Summary, text: str, column: Column, client: str, other: str, bar: float) -> Goal:
    """`client`'s median over `other`'s, held against the bar; which way is better comes from the column."""
    return Goal(text, summary.ratio(column.key, client, other), bar, column.better == "more")


def memory_goal(summary: Summary, client: str = "btfast", arena: int = 0) -> Goal:
    """Peak memory of all processes against the arena's budget and 150 MiB."""
    budget = arena or default_arena()
    text = f"{client}: peak MiB of all processes, arena {budget // MIB} + {ARENA_ALLOWANCE // MIB}"
    return Goal(text, summary.median(client, PEAK.key), (budget + ARENA_ALLOWANCE) / MIB, False)
