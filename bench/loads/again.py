"""again: 10,000 finished torrents of 10 files, all of them once more and one of them: what a resume store costs and saves."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from bench.clients import BTFAST, Job
from bench.loads.base import PEAK, WALL, Load
from bench.metering import Reading, client_environment
from bench.payload import bencode
from bench.results import Goal, Summary
from bench.tools import ToolError

FILES = 10
LENGTH = 300  # bytes of a file
PIECE = 16384
LEAST = 300.0  # MiB that a run may take


class Again:
    """btfast on a list whose torrents are finished and recorded beside the job's folder."""

    def __init__(self, name: str, listed: str) -> None:
        self.name = name
        self._listed = listed

    def missing(self) -> str | None:
        return BTFAST.missing()

    def version(self) -> str:
        return BTFAST.version()

    def command(self, job: Job) -> list[str]:
        return again(job.folder.parent, self._listed)


def again(work: Path, listed: str) -> list[str]:
    """The command for the list of that name in `work`."""
    local = ["--no-dht", "--no-lsd", "--no-trackers", "--bind", "127.0.0.1", "--port", "0"]
    where = ["--state", str(work / "state"), "-o", str(work / "data"), "-i", str(work / listed)]
    return [sys.executable, "-m", "btfast", "get", "-q", *local, *where]


ALL = Again("btfast", "all.txt")
ONE = Again("btfast-one", "one.txt")


class Rerun(Load):
    name = "again"
    about = "10,000 finished torrents of 10 files run again, and one of them with all 10,000 in the state"
    clients = (ALL, ONE)
    columns = (WALL, PEAK)
    charted = (WALL.key,)

    @property
    def count(self) -> int:
        return 20 if self.scale.quick else 10_000

    @property
    def size(self) -> int:
        return self.count * FILES * LENGTH

    def start(self, folder: Path, stack: ExitStack) -> Job:
        torrents = self.work / "torrents"
        torrents.mkdir()
        paths = [_make(torrents, self.work / "data", number) for number in range(self.count)]
        (self.work / "all.txt").write_text("".join(f"{path}\n" for path in paths))
        (self.work / "one.txt").write_text(f"{paths[-1]}\n")
        done = subprocess.run(
            again(self.work, "all.txt"), env=client_environment(self.work), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ToolError(f"the first run of {self.name} ended with {done.returncode}: {done.stderr[-300:]}")
        return Job((), (), "", announce=False, folder=folder)

    def figures(self, reading: Reading) -> dict[str, float]:
        return self.basic_figures(reading)

    def check(self) -> str | None:
        """The exit code says that all were found complete."""
        return None

    def goals(self, summary: Summary) -> list[Goal]:
        found = []
        for client, bar, what in ((ALL, 3.0, "all again"), (ONE, 2.0, "one of them")):
            found.append(Goal(f"s for {what}", summary.median(client.name, WALL.key), bar, False))
            found.append(Goal(f"peak MiB for {what}", summary.median(client.name, PEAK.key), LEAST, False))
        return found


def _make(torrents: Path, data: Path, number: int) -> Path:
    """A torrent and its files, complete under their final names."""
    name = f"set-{number:05}"
    contents = [hashlib.sha512(f"{name} {file}".encode()).digest() * 5 for file in range(FILES)]
    (data / name).mkdir(parents=True)
    files: list[dict[str, object]] = []
    for file, content in enumerate(contents):
        (data / name / f"{file}.bin").write_bytes(content[:LENGTH])
        files.append({"length": LENGTH, "path": [f"{file}.bin"]})
    payload = b"".join(content[:LENGTH] for content in contents)
    pieces = b"".join(hashlib.sha1(payload[at : at + PIECE]).digest() for at in range(0, len(payload), PIECE))
    path = torrents / f"{name}.torrent"
    path.write_bytes(bencode({"info": {"files": files, "name": name, "piece length": PIECE, "pieces": pieces}}))
    return path
