"""seed and swarm: what serving costs, and how soon a swarm that starts from one seed is done."""

from __future__ import annotations

import shutil
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

import msgspec

from bench.clients import BTFAST, BTFAST_512, LIBTORRENT_TUNED, Client, Job
from bench.loads.base import GIB, WALL, Load, ratio_goal
from bench.metering import Reading
from bench.payload import MIB, difference, make_payload
from bench.results import Column, Goal, Sample, Summary
from bench.tools import announce_url, start_tracker

RUN = Path(__file__).parents[1] / "swarm_run.py"
LEECHERS = 8
SEED_CPU = Column("seed_cpu_s_gib", "seeder CPU s/GiB", 3, "less")
LAST = Column("last_s", "last done s", 2, "less")
RATE = Column("served_mib_s", "MiB/s served", 0, "more")
ALL_CPU = Column("all_cpu_s", "CPU s of all", 1, "less")


class Member:
    """A client as a member of the swarm: the command runs the whole swarm."""

    def __init__(self, client: Client, load: SwarmOf) -> None:
        self.name, self.missing, self.version = client.name, client.missing, client.version
        self._load = load

    def command(self, job: Job) -> list[str]:
        return [sys.executable, str(RUN), msgspec.json.encode(self._load.told(self.name)).decode()]


class SwarmOf(Load):
    """`told` says who is what; `rate`: bytes/s of the seed, 0: no cap."""

    clients: ClassVar[tuple[Client, ...]] = (BTFAST, LIBTORRENT_TUNED)
    rate: ClassVar[int] = 0
    direct: ClassVar[bool] = False

    def start(self, folder: Path, stack: ExitStack) -> Job:
        payload = make_payload(folder, self.size, MIB // 2)
        self.first_port = _free_ports(LEECHERS + 1)
        names = [f"127.0.0.{2 + number}:{self.first_port + number}" for number in range(LEECHERS + 1)]
        tracker = stack.enter_context(start_tracker(names))
        # From a tracker the leechers would hear of one another, and trade: half of the bytes did not come from the seed.
        self.torrent = payload.torrent if self.direct else payload.announced(announce_url(tracker))
        # What the leechers get lies beside the source, in memory where there is room: disks are not what is measured.
        self.downloads = folder / "downloads"
        return Job((payload,), (), announce_url(tracker), announce=False, folder=folder)

    def told(self, client: str) -> dict[str, object]:
        """The job of swarm_run.py."""
        shutil.rmtree(self.downloads, ignore_errors=True)
        self.downloads.mkdir()
        kind = "btfast" if client.startswith("btfast") else "libtorrent"
        options = BTFAST_512.options if client == BTFAST_512.name else ()
        return {
            "torrent": str(self.torrent), "content": str(self.torrent.parent), "folder": str(self.downloads),
            "seed": kind, "leech": "libtorrent" if self.direct else kind, "leechers": LEECHERS, "rate": self.rate,
            "first_port": self.first_port, "direct": self.direct, "result": str(self.downloads / "result.json"),
            "options": options,
        }  # fmt: skip

    def run(self, client: Client, number: int) -> Sample:
        return super().run(Member(client, self), number)

    def check(self) -> str | None:
        (payload,) = self.job.payloads
        folders = [self.downloads / str(number) for number in range(1, LEECHERS + 1)]
        return next(filter(None, (difference(payload, folder) for folder in folders)), None)

    def figures(self, reading: Reading) -> dict[str, float]:
        found = msgspec.json.decode((self.downloads / "result.json").read_bytes(), type=dict[str, float])
        served = LEECHERS * self.size
        return {
            LAST.key: found["seconds"],
            SEED_CPU.key: found["seed_cpu"] * GIB / served,
            RATE.key: served / MIB / found["seconds"],
            ALL_CPU.key: reading.cpu,
            WALL.key: reading.wall,
        }


class Seed(SwarmOf):
    name = "seed"
    about = "512 MiB served to 8 libtorrent leechers that do not trade"
    columns = (SEED_CPU, RATE, LAST, ALL_CPU)
    charted = (SEED_CPU.key, RATE.key)
    clients = (BTFAST, BTFAST_512, LIBTORRENT_TUNED)
    direct = True

    @property
    def size(self) -> int:
        return self.scale.size or (32 * MIB if self.scale.quick else 512 * MIB)

    def goals(self, summary: Summary) -> list[Goal]:
        text = "CPU s/GiB of the seeder over libtorrent's"
        return [
            ratio_goal(summary, text, SEED_CPU, "btfast", LIBTORRENT_TUNED.name, 0.5),
            ratio_goal(summary, f"with --memory 512MiB: {text}", SEED_CPU, BTFAST_512.name, LIBTORRENT_TUNED.name, 0.5),
        ]


class Swarm(SwarmOf):
    name = "swarm"
    about = "256 MiB, 1 seed of 16 MiB/s and 8 leechers, all of one kind, one tracker"
    columns = (LAST, ALL_CPU)
    charted = (LAST.key,)
    rate = 16 * MIB

    @property
    def size(self) -> int:
        return self.scale.size or (32 * MIB if self.scale.quick else 256 * MIB)

    def goals(self, summary: Summary) -> list[Goal]:
        text = "time until the last has finished over libtorrent's"
        return [ratio_goal(summary, text, LAST, "btfast", LIBTORRENT_TUNED.name, 0.95)]


def _free_ports(count: int) -> int:
    """The first of `count` ports in a row that are free now on the addresses they are meant for."""
    for first in range(21_000, 32_000, count):
        try:
            for number in range(count):
                with socket.socket() as probe:
                    probe.bind((f"127.0.0.{2 + number}", first + number))
        except OSError:
            continue
        return first
    raise OSError("no free ports between 21000 and 32000")
