"""The bench's own C programs: compiling them, running them, and reading what they say."""

from __future__ import annotations

import os
import platform
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import msgspec

ROOT = Path(__file__).resolve().parents[1]
SOURCES = Path(__file__).resolve().parent / "c"
KERNELS = ROOT / "ext" / "kernels"
START_TIMEOUT_S = 60.0

CFLAGS = ["-O2", "-Wall", "-Wextra"]
X86_FLAGS = {
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512vl"],
    "avx2": ["-mavx2"],
    "shani": ["-msha", "-msse4.1", "-mssse3"],
}
ARM_FLAGS = {"armv8": ["-march=armv8-a+crypto"]}


class ToolError(Exception):
    """A tool of the bench could not be built or started; the message says which and why."""


class Event(msgspec.Struct, frozen=True):
    """One line of a seed or relay: `kind` is accept or close, `time` is time.monotonic(), `values` are the rest."""

    kind: str
    time: float
    values: tuple[float, ...]


def compiler() -> str:
    """Path of the C compiler: $CC or cc. Raises ToolError."""
    found = shutil.which(os.environ.get("CC", "cc"))
    if found is None:
        raise ToolError("no C compiler: install one or set CC")
    return found


def _build_folder() -> Path:
    folder = Path(__file__).resolve().parent / "build"
    try:
        folder.mkdir(exist_ok=True)
        (folder / ".writable").touch()
    except OSError:
        folder = Path(tempfile.gettempdir()) / f"btfast-bench-build-{os.getuid()}"
        folder.mkdir(exist_ok=True)
    return folder


def _compile(command: list[str], target: Path, sources: Sequence[Path]) -> None:
    if target.exists() and all(source.stat().st_mtime < target.stat().st_mtime for source in sources):
        return
    # Built under another name first, so that a build that runs at the same time never executes half a file.
    draft = target.with_name(f"{target.name}.{os.getpid()}")
    done = subprocess.run([*command, "-o", str(draft)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolError(f"cannot compile {target.name}: {done.stderr.strip()}")
    draft.replace(target)


def _kernel_objects(folder: Path) -> list[Path]:
    """Compiles btfast's hash kernels, each with the instruction set that its file name ends in."""
    machine = platform.machine().lower()
    flags = X86_FLAGS if machine in ("x86_64", "amd64") else ARM_FLAGS if machine in ("aarch64", "arm64") else {}
    headers, objects = sorted(KERNELS.glob("*.h")), []
    for source in sorted(KERNELS.glob("*.c")):
        needs = source.stem.rsplit("_", 1)[-1]
        if needs in {**X86_FLAGS, **ARM_FLAGS} and needs not in flags:
            continue
        target = folder / f"kernel_{source.stem}.o"
        command = [compiler(), "-O3", "-fno-strict-aliasing", *flags.get(needs, []), f"-I{KERNELS}", "-c", str(source)]
        _compile(command, target, [source, *headers])
        objects.append(target)
    return objects


def build(name: str) -> Path:
    """Compiles the tool when it is older than its source; returns the program's path. Raises ToolError."""
    folder, source = _build_folder(), SOURCES / f"{name}.c"
    target, inputs = folder / name, [source, *sorted(SOURCES.glob("*.h")), KERNELS / "rc4.h"]
    # Encryption is what an encrypted seed costs: it gets the flags of the core.
    command = [compiler(), *CFLAGS, *(["-O3", f"-I{KERNELS}"] if name == "seed" else []), str(source)]
    if name == "floor":
        objects = _kernel_objects(folder)
        command += [f"-I{KERNELS}", *map(str, objects)]
        inputs += objects
    _compile([*command, "-lm"], target, inputs)
    return target


class Tool:
    """A running seed, relay, tracker or libtorrent seeder: its addresses, and its events as they come.

    Speaks the tools' line protocol: `listening A:P` lines, then `ready`, then events. Raises ToolError when the program
    ends or stays silent instead.
    """

    def __init__(self, command: Sequence[str | Path]) -> None:
        self.name = Path(command[0]).name
        self.addresses: list[str] = []
        self._events: list[Event] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while (line := self._next_line(deadline)) != "ready":
            word, _, address = line.partition(" ")
            if word == "listening":
                self.addresses.append(address)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.strip())
        self._lines.put(None)

    def _next_line(self, deadline: float) -> str:
        try:
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            line = None
        if line is None:
            self.stop()
            raise ToolError(f"{self.name} did not start (exit code {self._process.returncode})")
        return line

    def events(self, since: float) -> list[Event]:
        """All events at or after the time `since`."""
        while not self._lines.empty():
            line = self._lines.get()
            if line is not None:
                kind, stamp, *values = line.split()
                self._events.append(Event(kind, float(stamp), tuple(map(float, values))))
        return [event for event in self._events if event.time >= since]

    def events_when_closed(self, since: float, timeout: float = 10.0) -> list[Event]:
        """The events since then, once every accepted connection has closed (at most `timeout` seconds later)."""
        deadline = time.monotonic() + timeout
        while True:
            events = self.events(since)
            open_connections = sum({"accept": 1, "close": -1}.get(event.kind, 0) for event in events)
            if open_connections <= 0 or time.monotonic() > deadline:
                return events
            time.sleep(0.02)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_seeds(
    data: Path, info_hash: str, piece_length: int, count: int, *, first_host: int = 2, rate: float = 0, hold: bool = False,
    encrypt: bool = False,
) -> Tool:
    """`count` cheap seeds on addresses of their own from 127.0.0.`first_host` up.

    `rate`: bytes/s that each gives a connection, 0: no cap. `hold`: they unchoke nobody until they are sent SIGUSR1.
    `encrypt`: RC4 or nothing.
    """
    options = [
        "--data",
        str(data),
        "--info-hash",
        info_hash,
        "--piece-length",
        str(piece_length),
        "--seeds",
        str(count),
    ]
    options += ["--first-host", str(first_host), "--rate", str(rate), "--hold", str(int(hold))]
    options += ["--encrypt", str(int(encrypt))]
    return Tool([build("seed"), *options])


def start_idle(to: str, info_hash: str, pieces: int, count: int, tell: int) -> Tool:
    """`count` idle peers that connect to `to`; once all are connected the process `tell` gets SIGUSR1."""
    options = ["--to", to, "--info-hash", info_hash, "--pieces", str(pieces), "--count", str(count), "--tell", str(tell)]
    return Tool([build("idle"), *options])


def start_relay(targets: Sequence[str], rtt_ms: float, rate: float, *, first_host: int = 2) -> Tool:
    """One link of `rate` bytes/s and `rtt_ms` to each target, each on an address of its own."""
    options = ["--rtt-ms", str(rtt_ms), "--rate", str(rate), "--first-host", str(first_host), "--to", ",".join(targets)]
    return Tool([build("relay"), *options])


def start_tracker(peers: Sequence[str], *, log: bool = False) -> Tool:
    """An HTTP tracker that answers every announce with `peers`; `announce_url(tool)` is its URL.

    `log`: each announce is an event, `started` or `announce`.
    """
    return Tool([build("tracker"), "--peers", ",".join(peers), "--log", str(int(log))])


def announce_url(tracker: Tool) -> str:
    return f"http://{tracker.addresses[0]}/announce"
