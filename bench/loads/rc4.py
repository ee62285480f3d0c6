"""rc4: the flat load with encryption required. On two cores the seeds' RC4 takes its part of the machine, too."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from bench.clients import ARIA2, BTFAST, LIBTORRENT, LIBTORRENT_TUNED, Job
from bench.loads.base import CPU, FIRST, GIB, PEAK, SPEED, WALL, Load, first_connection, memory_goal, ratio_goal
from bench.metering import Reading
from bench.payload import MIB, make_payload
from bench.results import Goal, Summary
from bench.tools import announce_url, start_seeds, start_tracker

SEEDS = 4


class Rc4(Load):
    name = "rc4"
    about = "1 GiB, 1 MiB pieces, 4 cheap seeds on loopback that speak RC4 and nothing else"
    clients = (BTFAST, LIBTORRENT, LIBTORRENT_TUNED, ARIA2)
    columns = (SPEED, CPU, WALL, PEAK, FIRST)
    charted = (SPEED.key, CPU.key)

    @property
    def size(self) -> int:
        return self.scale.size or (64 * MIB if self.scale.quick else GIB)

    def start(self, folder: Path, stack: ExitStack) -> Job:
        payload = make_payload(folder, self.size, MIB)
        self.seeds = stack.enter_context(
            start_seeds(payload.content, payload.info_hash, payload.piece_length, SEEDS, encrypt=True)
        )
        tracker = stack.enter_context(start_tracker(self.seeds.addresses))
        peers = tuple(self.seeds.addresses)
        return Job((payload,), peers, announce_url(tracker), announce=False, folder=folder, encrypted=True)

    def figures(self, reading: Reading) -> dict[str, float]:
        first = first_connection(self.seeds.events(reading.start), reading.start)
        return {**self.basic_figures(reading), FIRST.key: first}

    def goals(self, summary: Summary) -> list[Goal]:
        return [
            ratio_goal(summary, f"MiB/s over {other}'s", SPEED, "btfast", other, 2.0)
            for other in (LIBTORRENT.name, LIBTORRENT_TUNED.name)
        ] + [memory_goal(summary)]
