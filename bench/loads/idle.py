"""idle: the flat load from 50 seeds, with 2,000 connected peers that do nothing, and without."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from bench.clients import BTFAST_ALONE, BTFAST_IDLE, IDLE_PORT, Client, Job
from bench.loads.base import CPU, GIB, PEAK, SPEED, Load, ratio_goal
from bench.metering import Reading
from bench.payload import MIB, make_payload
from bench.results import Column, Goal, Sample, Summary
from bench.tools import start_idle, start_seeds

SEEDS = 50
CONNECTED = Column("connected_s", "all conn. s", 2, "less")
PER_PEER = 32  # KiB of resident memory for an idle peer


class Idle(Load):
    """The seeds of the crowded runs unchoke nobody until all idle peers are connected; the clock of MiB/s starts when
    the first of them has been accepted, or has unchoked."""

    name = "idle"
    about = "4 GiB, 1 MiB pieces, 50 cheap seeds on loopback, with 2,000 idle peers and without"
    clients = (BTFAST_ALONE, BTFAST_IDLE)
    columns = (SPEED, CPU, PEAK, CONNECTED)
    charted = (SPEED.key,)
    poll_ms = 100

    @property
    def size(self) -> int:
        return self.scale.size or (64 * MIB if self.scale.quick else 4 * GIB)

    @property
    def idle_count(self) -> int:
        return 100 if self.scale.quick else 2000

    def start(self, folder: Path, stack: ExitStack) -> Job:
        payload = make_payload(folder, self.size, MIB)
        what = (payload.content, payload.info_hash, payload.piece_length, SEEDS)
        self._seeds = {
            BTFAST_ALONE.name: stack.enter_context(start_seeds(*what)),
            BTFAST_IDLE.name: stack.enter_context(start_seeds(*what, hold=True)),
        }
        pieces, tell = self.size // payload.piece_length, self._seeds[BTFAST_IDLE.name].pid
        stack.enter_context(
            start_idle(f"127.0.0.1:{IDLE_PORT}", payload.info_hash, pieces, self.idle_count, tell)
        )
        return Job((payload,), (), "", announce=False, folder=folder)

    def run(self, client: Client, number: int) -> Sample:
        self.seeds = self._seeds[client.name]
        self.job = self.job._replace(peers=tuple(self.seeds.addresses))
        return super().run(client, number)

    def figures(self, reading: Reading) -> dict[str, float]:
        events = self.seeds.events_when_closed(reading.start)
        begins = [event.time for event in events if event.kind == "unchoke"]
        begin = begins[0] if begins else min(event.time for event in events if event.kind == "accept")
        end = max(event.time for event in events if event.kind == "close")
        return {
            SPEED.key: self.size / MIB / (end - begin),
            CPU.key: reading.cpu * GIB / self.size,
            PEAK.key: reading.peak_pss / MIB,
            CONNECTED.key: begin - reading.start,
        }

    def goals(self, summary: Summary) -> list[Goal]:
        alone, crowded = BTFAST_ALONE.name, BTFAST_IDLE.name
        less, more = summary.median(alone, PEAK.key), summary.median(crowded, PEAK.key)
        each = (more - less) * 1024 / self.idle_count if less is not None and more is not None else None
        return [
            ratio_goal(summary, "MiB/s with idle peers over without", SPEED, crowded, alone, 0.9),
            Goal("resident KiB for each idle peer", each, PER_PEER, False),
        ]
