"""versions: the same data as a v1 torrent, a v2 torrent and a hybrid, in turn: what SHA-256 trees cost beside SHA-1."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from bench.clients import BTFAST, Client, Job
from bench.loads.base import CPU, FIRST, GIB, PEAK, SPEED, WALL, Load, first_connection, ratio_goal
from bench.metering import Reading
from bench.payload import MIB, difference, make_file, make_torrent, make_v2_torrent
from bench.results import Goal, Summary
from bench.tools import announce_url, start_seeds, start_tracker

SEEDS = 4


class OfVersion:
    """A client that is given one of the job's torrents, and the seeds that know its info-hash."""

    def __init__(self, client: Client, name: str, number: int) -> None:
        self.client = client
        self.name = name
        self.number = number

    def missing(self) -> str | None:
        return self.client.missing()

    def version(self) -> str:
        return self.client.version()

    def command(self, job: Job) -> list[str]:
        first = self.number * SEEDS
        return self.client.command(
            job._replace(payloads=(job.payloads[self.number],), peers=job.peers[first : first + SEEDS])
        )


V1, V2, HYBRID = OfVersion(BTFAST, "btfast", 0), OfVersion(BTFAST, "btfast-v2", 1), OfVersion(BTFAST, "btfast-hybrid", 2)


class Versions(Load):
    name = "versions"
    about = "2 GiB, 1 MiB pieces, 4 cheap seeds on loopback, as v1, v2 and hybrid"
    clients = (V1, V2, HYBRID)
    columns = (SPEED, CPU, WALL, PEAK, FIRST)
    charted = (SPEED.key, CPU.key)

    @property
    def size(self) -> int:
        return self.scale.size or (64 * MIB if self.scale.quick else 2 * GIB)

    def start(self, folder: Path, stack: ExitStack) -> Job:
        content = folder / "payload.bin"
        make_file(content, self.size, 1)
        v2, hybrid = (make_v2_torrent(content, MIB, hybrid=hybrid) for hybrid in (False, True))
        payloads = (make_torrent(content, MIB), v2, hybrid)
        self.seeds = [
            stack.enter_context(start_seeds(content, each.info_hash, MIB, SEEDS, first_host=2 + SEEDS * number))
            for number, each in enumerate(payloads)
        ]
        peers = tuple(address for tool in self.seeds for address in tool.addresses)
        tracker = stack.enter_context(start_tracker(peers))
        return Job(payloads, peers, announce_url(tracker), announce=False, folder=folder)

    def check(self) -> str | None:
        return difference(self.job.payloads[0], self.job.folder)

    def figures(self, reading: Reading) -> dict[str, float]:
        events = [event for tool in self.seeds for event in tool.events(reading.start)]
        return {**self.basic_figures(reading), FIRST.key: first_connection(events, reading.start)}

    def goals(self, summary: Summary) -> list[Goal]:
        return [
            ratio_goal(summary, f"{client.name}: MiB/s over v1's", SPEED, client.name, V1.name, 0.9)
            for client in (V2, HYBRID)
        ]
