"""flat: one large torrent from four cheap seeds on loopback, nothing in the way."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from bench.clients import ARIA2, BTFAST, BTFAST_BUFFERED, DISK, FLOOR, LIBTORRENT, LIBTORRENT_TUNED, Job
from bench.loads.base import CPU, FIRST, GIB, PEAK, SPEED, WALL, Load, first_connection, memory_goal, ratio_goal
from bench.metering import Reading
from bench.payload import MIB, make_payload
from bench.results import Goal, Summary
from bench.tools import announce_url, start_seeds, start_tracker

SEEDS = 4


class Flat(Load):
    name = "flat"
    about = "4 GiB, 1 MiB pieces, 4 cheap seeds on loopback, no limits"
    clients = (BTFAST, BTFAST_BUFFERED, FLOOR, DISK, LIBTORRENT, LIBTORRENT_TUNED, ARIA2)
    writes_only = (DISK,)
    columns = (SPEED, CPU, WALL, PEAK, FIRST)
    charted = (SPEED.key, CPU.key)

    @property
    def size(self) -> int:
        return self.scale.size or (64 * MIB if self.scale.quick else 4 * GIB)

    def start(self, folder: Path, stack: ExitStack) -> Job:
        payload = make_payload(folder, self.size, MIB)
        self.seeds = stack.enter_context(start_seeds(payload.content, payload.info_hash, payload.piece_length, SEEDS))
        tracker = stack.enter_context(start_tracker(self.seeds.addresses))
        return Job((payload,), tuple(self.seeds.addresses), announce_url(tracker), announce=False, folder=folder)

    def figures(self, reading: Reading) -> dict[str, float]:
        figures, events = self.basic_figures(reading), self.seeds.events(reading.start)
        if events:  # nobody connects to measure the disk
            figures[FIRST.key] = first_connection(events, reading.start)
        return figures

    def goals(self, summary: Summary) -> list[Goal]:
        tuned, buffered = LIBTORRENT_TUNED.name, BTFAST_BUFFERED.name
        return [
            ratio_goal(summary, "MiB/s over tuned libtorrent's", SPEED, "btfast", tuned, 2.5),
            ratio_goal(summary, "CPU s/GiB over tuned libtorrent's", CPU, "btfast", tuned, 0.35),
            ratio_goal(summary, "CPU s/GiB over the floor's", CPU, "btfast", FLOOR.name, 1.8),
            ratio_goal(summary, "with --io buffered: CPU s/GiB over tuned libtorrent's", CPU, buffered, tuned, 0.8),
            memory_goal(summary),
            memory_goal(summary, buffered),
        ]
