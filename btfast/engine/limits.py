"""What limited a download: said to the user at the end, from figures and not from guesses."""

from __future__ import annotations

import os

from btfast.engine.context import Context
from btfast.engine.throttle import Line

WAITED = 0.25  # share of the time that requests waited for memory: the disk or the hashing was behind
CAPPED = 0.5  # share of the time that bytes waited for their turn under a cap
BUSY = 0.85  # share of a core that counts as all of it
SHORT = 2.0  # seconds below which the load, sampled once a second, tells nothing


class Stopwatch:
    """Started when data may begin to flow. `line`: what caps it, if anything does."""

    def __init__(self, context: Context, line: Line | None = None) -> None:
        self._context = context
        self._line = line
        self._held = line.held() if line is not None else 0.0
        self._began = context.loop.time()
        self._full = context.full_seconds
        self._own = context.own_cpu
        self._workers = context.worker_cpu

    @property
    def seconds(self) -> float:
        return max(1e-6, self._context.loop.time() - self._began)

    def verdict(self, downloaded: int, from_web: int = 0) -> str:
        """`peers`, `web seeds` (where most came from them), `disk`, `hashing`, `network process`, `limit`, `nothing to do`."""
        if not downloaded:
            return "nothing to do"
        context, seconds = self._context, self.seconds
        if seconds > SHORT:
            context.sample_load()
        if context.full_seconds - self._full > WAITED * seconds:
            cores = min(len(context.workers.workers), os.cpu_count() or 1)
            return "hashing" if context.worker_cpu - self._workers > BUSY * 0.8 * seconds * cores else "disk"
        if self._line is not None and self._line.held() - self._held > CAPPED * seconds:
            return "limit"
        if seconds > SHORT and context.own_cpu - self._own > BUSY * (seconds - SHORT / 2):
            return "network process"
        return "web seeds" if 2 * from_web > downloaded else "peers"
