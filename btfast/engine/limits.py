"""What limited a download: said to the user at the end, from figures and not from guesses."""

from __future__ import annotations

import os

import psutil

from btfast.engine.context import Context

WAITED = 0.25  # share of the time that requests waited for memory: the disk or the hashing was behind
BUSY = 0.85  # share of a core that counts as all of it


class Stopwatch:
    """Started when data may begin to flow."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._began = context.loop.time()
        self._full = context.full_seconds
        self._own = _cpu(os.getpid())
        self._workers = sum(_cpu(pid) for pid in context.workers.pids)

    @property
    def seconds(self) -> float:
        return max(1e-6, self._context.loop.time() - self._began)

    def verdict(self, downloaded: int) -> str:
        """`peers`, `disk`, `hashing`, `network process`, or `nothing to do`."""
        if not downloaded:
            return "nothing to do"
        seconds = self.seconds
        pids = self._context.workers.pids
        if self._context.full_seconds - self._full > WAITED * seconds:
            spent = sum(_cpu(pid) for pid in pids) - self._workers
            return "hashing" if spent > BUSY * 0.8 * seconds * min(len(pids), os.cpu_count() or 1) else "disk"
        if _cpu(os.getpid()) - self._own > BUSY * seconds:
            return "network process"
        return "peers"


def _cpu(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)
