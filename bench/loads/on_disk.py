"""check, cold, create, hybrid: data on disk, verified against its torrent or made into one. Nothing is downloaded."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.clients import ARIA2, BTFAST, LIBTORRENT, Client, Job
from bench.loads.base import CPU, GIB, PEAK, SPEED, WALL, Load, ratio_goal
from bench.metering import Reading
from bench.payload import MIB, Payload, make_payload
from bench.results import Goal, Sample, Summary
from bench.tools import ROOT

SCRIPT = str(Path(__file__).resolve().parents[1] / "local_peer.py")
OURS = "btfast"
DISK = "the disk"


def _imports(library: str) -> str | None:
    asked = [sys.executable, "-c", f"import {library}"]
    done = subprocess.run(asked, capture_output=True, check=False, cwd=ROOT)
    return f"{library} is not installed (pip install {library})" if done.returncode else None


def _installed(program: str) -> str | None:
    return None if shutil.which(program) else f"{program} is not installed"


class Worker:
    """A program with one payload to work on. `words` makes its command from the payload and the folder for its output."""

    def __init__(self, name: str, missing: Callable[[], str | None], words: Callable[[Payload, Path], Sequence[object]]) -> None:
        self.name = name
        self._missing = missing
        self._words = words

    def missing(self) -> str | None:
        return self._missing()

    def version(self) -> str:
        return ""

    def command(self, job: Job) -> list[str]:
        (payload,) = job.payloads
        return [str(word) for word in self._words(payload, job.folder)]


def _ours(verb: str, *words: object) -> list[object]:
    return [sys.executable, "-m", "btfast", verb, "-q", *words]


def _script(*words: object) -> list[object]:
    return [sys.executable, SCRIPT, *words]


def _aria2(payload: Payload, folder: Path) -> list[object]:
    quiet = ["--no-conf", "--quiet", "--summary-interval=0", "--download-result=hide", "--enable-dht=false"]
    local = ["--enable-dht6=false", "--bt-enable-lpd=false", "--disable-ipv6=true", "--seed-time=0"]
    what = ["--check-integrity=true", "--hash-check-only=true", f"--dir={payload.content.parent}", payload.torrent]
    return ["aria2c", *quiet, *local, *what]


CHECKERS = (
    Worker(OURS, BTFAST.missing, lambda payload, _: _ours("check", payload.torrent, payload.content.parent)),
    Worker(
        "libtorrent",
        LIBTORRENT.missing,
        lambda payload, _: _script("libtorrent-check", payload.torrent, payload.content.parent),
    ),
    Worker("torf", lambda: _imports("torf"), lambda payload, _: _script("torf-check", payload.torrent, payload.content)),
    Worker("aria2", ARIA2.missing, _aria2),
)


READERS = (*CHECKERS, Worker(DISK, lambda: None, lambda payload, _: _script("direct-read", payload.content)))


def _makers(version: str) -> tuple[Worker, ...]:
    makers = (
        Worker(
            OURS,
            BTFAST.missing,
            lambda payload, out: _ours(
                "create", payload.content, "--version", version, "--piece-size", "1MiB", "-o", out / "made.torrent"
            ),
        ),
        Worker(
            "libtorrent",
            LIBTORRENT.missing,
            lambda payload, out: _script("libtorrent-create", payload.content, out / "made.torrent", version),
        ),
    )
    if version != "1":
        return makers
    return (
        *makers,
        Worker(
            "torf",
            lambda: _imports("torf"),
            lambda payload, out: _script("torf-create", payload.content, out / "made.torrent"),
        ),
        Worker(
            "mktorrent",
            lambda: _installed("mktorrent"),
            lambda payload, out: ["mktorrent", "-t", "2", "-l", "20", "-o", out / "made.torrent", payload.content],
        ),
    )


class _OnDisk(Load):
    """No network, nothing large is written: from process start to exit."""

    columns = (SPEED, CPU, WALL, PEAK)
    charted = (SPEED.key, CPU.key)

    @property
    def size(self) -> int:
        return self.scale.size or (64 * MIB if self.scale.quick else 4 * GIB)

    def start(self, folder: Path, stack: ExitStack) -> Job:
        return Job((make_payload(folder, self.size, MIB),), (), "", announce=False, folder=folder)

    def figures(self, reading: Reading) -> dict[str, float]:
        return self.basic_figures(reading)

    def _goal(self, summary: Summary, bar: float) -> Goal:
        others = tuple(client.name for client in self.clients if client.name != OURS)
        best = summary.best(SPEED.key, others)
        text = f"MiB/s over the best of the others ({best or 'none measured'})"
        return ratio_goal(summary, text, SPEED, OURS, best, bar) if best else Goal(text, None, bar, True)


class Check(_OnDisk):
    name = "check"
    about = "4 GiB in the page cache, 1 MiB pieces, hashed and found right; two threads each"
    clients = CHECKERS

    def check(self) -> str | None:
        """Each says by its exit code whether it found the data right."""
        return None

    def goals(self, summary: Summary) -> list[Goal]:
        return [self._goal(summary, 2.2)]


class Cold(Check):
    name = "cold"
    about = "4 GiB that is on the disk and nowhere else, 1 MiB pieces, hashed and found right; what the disk gives beside it"
    clients = READERS

    def start(self, folder: Path, stack: ExitStack) -> Job:
        data = self.work / "data"  # the folder of the others may be in memory
        data.mkdir()
        return super().start(data, stack)

    def run(self, client: Client, number: int) -> Sample:
        for payload in self.job.payloads:
            with payload.content.open("rb") as file:
                os.fdatasync(file.fileno())  # only what is written can be let go
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return super().run(client, number)

    def goals(self, summary: Summary) -> list[Goal]:
        return [ratio_goal(summary, "MiB/s over what the disk gives", SPEED, OURS, DISK, 0.95)]


class Create(_OnDisk):
    name = "create"
    about = "a v1 torrent of 4 GiB in the page cache, 1 MiB pieces; two threads each"
    clients = _makers("1")

    def check(self) -> str | None:
        """What was made has the right hashes in it, whatever else its maker writes."""
        (payload,) = self.job.payloads
        made = self.job.folder / "made.torrent"
        if not made.is_file():
            return "no torrent was made"
        return None if payload.hashes in made.read_bytes() else "its piece hashes are wrong"

    def goals(self, summary: Summary) -> list[Goal]:
        return [self._goal(summary, 1.8)]


class Hybrid(Create):
    name = "hybrid"
    about = "a hybrid torrent of 4 GiB in the page cache, 1 MiB pieces; two threads where that can be said"
    clients = _makers("hybrid")

    def goals(self, summary: Summary) -> list[Goal]:
        return [self._goal(summary, 3.5)]
