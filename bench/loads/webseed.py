"""webseed and webpipe: one file from a web server, straight and behind a long link. curl is what it is held against."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from bench.clients import BTFAST, CURL, Job
from bench.loads.base import CPU, GIB, PEAK, SPEED, WALL, Load, memory_goal, ratio_goal
from bench.loads.long_pipes import MEGABIT, PAYLOAD_SHARE, SHARE
from bench.metering import Reading
from bench.payload import MIB, make_payload
from bench.results import Goal, Summary
from bench.tools import start_relay
from bench.web import nginx

SERVER_HOST = "127.0.0.130"  # behind the relay's address
RTT_MS = 100
RATE = 1000 * MEGABIT


class Webseed(Load):
    name = "webseed"
    about = "4 GiB, 1 MiB pieces, from nginx on loopback alone; curl fetches the same file"
    clients = (BTFAST, CURL)
    columns = (SPEED, CPU, WALL, PEAK)
    charted = (SPEED.key, CPU.key)

    @property
    def size(self) -> int:
        return self.scale.size or (64 * MIB if self.scale.quick else 4 * GIB)

    def start(self, folder: Path, stack: ExitStack) -> Job:
        (folder / "www").mkdir()
        payload = make_payload(folder / "www", self.size, MIB)
        self.address = stack.enter_context(nginx(folder / "www", folder / "nginx", SERVER_HOST))
        url = f"http://{self._shown(stack)}/{payload.content.name}"
        return Job((payload,), (), "", announce=False, folder=folder, web=url)

    def _shown(self, stack: ExitStack) -> str:
        """The address that clients are told."""
        return self.address

    def figures(self, reading: Reading) -> dict[str, float]:
        return self.basic_figures(reading)

    def goals(self, summary: Summary) -> list[Goal]:
        return [
            ratio_goal(summary, "MiB/s over curl's", SPEED, "btfast", CURL.name, 0.9),
            ratio_goal(summary, "CPU s/GiB over curl's, hashing included", CPU, "btfast", CURL.name, 1.3),
            memory_goal(summary),
        ]


class Webpipe(Webseed):
    name = "webpipe"
    about = "1 GiB, 1 MiB pieces, from nginx behind a 100 ms round trip and 1 Gbit/s"
    columns = (SHARE, PAYLOAD_SHARE, WALL, CPU, PEAK)
    charted = (SHARE.key, CPU.key)

    @property
    def size(self) -> int:
        return self.scale.size or (32 * MIB if self.scale.quick else GIB)

    def _shown(self, stack: ExitStack) -> str:
        self.relay = stack.enter_context(start_relay([self.address], RTT_MS, RATE))
        return self.relay.addresses[0]

    def figures(self, reading: Reading) -> dict[str, float]:
        events = self.relay.events_when_closed(reading.start)
        spans = [event.values[2:4] for event in events if event.kind == "close" and event.values[1]]
        ideal = self.size / RATE
        figures = {**self.basic_figures(reading), SHARE.key: ideal / reading.wall}
        if spans:
            figures[PAYLOAD_SHARE.key] = ideal / (max(last for _, last in spans) - min(first for first, _ in spans))
        return figures

    def goals(self, summary: Summary) -> list[Goal]:
        share = summary.median("btfast", PAYLOAD_SHARE.key)
        return [
            Goal("share of the link, first to last payload byte", share, 0.95, True),
            Goal("share of the link, process start to exit", summary.median("btfast", SHARE.key), 0.9, True),
            memory_goal(summary),
        ]
