"""Runs one command under the meter (c/meter.c): wall, CPU and memory of its whole process tree."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.tools import ROOT, build

ERROR_LINES = 6


class Reading(msgspec.Struct, frozen=True):
    """What the meter measured; the fields are explained in c/meter.c. Seconds and bytes."""

    start: float
    wall: float
    user: float
    system: float
    polled_cpu: float
    peak_pss: float
    peak_rss: float
    processes: int
    exit: int
    signal: int
    stopped: str
    left_behind: int

    @property
    def cpu(self) -> float:
        """CPU seconds of the tree. A parent that ignores SIGCHLD hides its children: then what was polled is more."""
        total = self.user + self.system
        return max(total, self.polled_cpu) if self.polled_cpu > 1.05 * total + 0.1 else total

    @property
    def failure(self) -> str | None:
        """Why the run does not count, or None."""
        if self.stopped == "timeout":
            return f"killed after {self.wall:.0f} s"
        if self.left_behind:
            return f"{self.left_behind} processes outlived it"
        if self.stopped == "asked":
            return None
        if self.signal:
            return f"died of signal {self.signal}"
        return f"exit code {self.exit}" if self.exit else None


def client_environment(home: Path) -> dict[str, str]:
    """The environment of a measured client: no proxies, and its state in a folder of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    folders = {f"XDG_{name}_HOME": str(home / name.lower()) for name in ("STATE", "CACHE", "CONFIG", "DATA")}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**kept, **folders, "PYTHONPATH": path}


def measure(
    command: Sequence[str], folder: Path, *, timeout: float, poll_ms: int = 200, stop_after: float = 0
) -> tuple[Reading, str]:
    """Runs the command in `folder`; returns the reading and the last lines it wrote on stderr.

    `poll_ms`: how often memory is looked at. `stop_after`: seconds after which the command is asked to end, 0: never.
    """
    with tempfile.TemporaryDirectory(prefix="home-", dir=folder) as home, tempfile.TemporaryFile("w+") as errors:
        result = Path(home) / "meter.json"
        options = ["--result", str(result), "--timeout", str(timeout), "--poll-ms", str(poll_ms)]
        options += ["--stop-after", str(stop_after)]
        subprocess.run(
            [str(build("meter")), *options, "--", *command],
            check=True,
            cwd=folder,
            env=client_environment(Path(home)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        errors.seek(0)
        said = "\n".join(errors.read().strip().splitlines()[-ERROR_LINES:])
        return msgspec.json.decode(result.read_bytes(), type=Reading), said
