"""pipe and crowd: the same data over long links, one fast or forty slow. What counts is the share of the links used."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

from bench.clients import ARIA2, BTFAST, LIBTORRENT, LIBTORRENT_TUNED, Job
from bench.loads.base import CPU, FIRST, PEAK, WALL, Load, first_connection, memory_goal
from bench.metering import Reading
from bench.payload import MIB, make_payload
from bench.results import Column, Goal, Summary
from bench.tools import announce_url, start_relay, start_seeds, start_tracker

SHARE = Column("share", "share of link", 3, "more")
PAYLOAD_SHARE = Column("payload_share", "1st-last byte", 3, "more")
RELAY_HOST, SEED_HOST = 2, 130  # 127.0.0.x of the first relayed address and of the first seed behind it
MEGABIT = 125_000  # bytes/s


class LongPipes(Load):
    """Seeds behind relays; each link has `rate` bytes/s and `rtt_ms`."""

    seeds: ClassVar[int]
    rate: ClassVar[float]
    rtt_ms: ClassVar[float]
    clients = (BTFAST, LIBTORRENT, LIBTORRENT_TUNED, ARIA2)
    columns = (SHARE, PAYLOAD_SHARE, FIRST, WALL, CPU, PEAK)
    charted = (SHARE.key, CPU.key)

    @property
    def size(self) -> int:
        return self.scale.size or (32 * MIB if self.scale.quick else 512 * MIB)

    def start(self, folder: Path, stack: ExitStack) -> Job:
        payload = make_payload(folder, self.size, MIB // 4)
        seeds = stack.enter_context(
            start_seeds(payload.content, payload.info_hash, payload.piece_length, self.seeds, first_host=SEED_HOST)
        )
        self.relay = stack.enter_context(start_relay(seeds.addresses, self.rtt_ms, self.rate, first_host=RELAY_HOST))
        tracker = stack.enter_context(start_tracker(self.relay.addresses))
        return Job((payload,), tuple(self.relay.addresses), announce_url(tracker), announce=False, folder=folder)

    def figures(self, reading: Reading) -> dict[str, float]:
        events = self.relay.events_when_closed(reading.start)
        # close: link, payload bytes, times of the first and of the last payload byte that the relay delivered
        spans = [event.values[2:4] for event in events if event.kind == "close" and event.values[1]]
        ideal = self.size / (self.rate * self.seeds)
        figures = {
            **self.basic_figures(reading),
            FIRST.key: first_connection(events, reading.start),
            SHARE.key: ideal / reading.wall,
        }
        if spans:
            figures[PAYLOAD_SHARE.key] = ideal / (max(last for _, last in spans) - min(first for first, _ in spans))
        return figures

    def share_goal(self, summary: Summary) -> Goal:
        return Goal("share of the links, process start to exit", summary.median("btfast", SHARE.key), 0.85, True)

    def first_goal(self, summary: Summary) -> Goal:
        text = "seconds from process start to first connection"
        return Goal(text, summary.median("btfast", FIRST.key), 0.35, False)


class Pipe(LongPipes):
    name = "pipe"
    about = "512 MiB, 256 KiB pieces, 1 seed behind a 100 ms round trip and 1 Gbit/s"
    seeds = 1
    rate = 1000 * MEGABIT
    rtt_ms = 100

    def goals(self, summary: Summary) -> list[Goal]:
        share = summary.median("btfast", PAYLOAD_SHARE.key)
        first = Goal("share of the link, first to last payload byte", share, 0.95, True)
        return [first, self.share_goal(summary), self.first_goal(summary), memory_goal(summary)]


class Crowd(LongPipes):
    name = "crowd"
    about = "512 MiB, 256 KiB pieces, 40 seeds, each behind an 80 ms round trip and 25 Mbit/s"
    seeds = 40
    rate = 25 * MEGABIT
    rtt_ms = 80

    def goals(self, summary: Summary) -> list[Goal]:
        return [self.share_goal(summary), self.first_goal(summary), memory_goal(summary)]
