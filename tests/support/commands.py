"""The real command line in processes of its own: run to its end, or watched and disturbed while it works."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

import btfast

ROOT = Path(btfast.__file__).resolve().parents[1]
LOCAL = ("--bind", "127.0.0.1", "--port", "0", "--memory", "32MiB")
PATIENCE = 60.0  # seconds for what takes a moment, unless the machine has much else to do
PROMISED = 20.0  # seconds for what the contract promises within 5, on a machine that has four times as much to do


def python_path() -> str:
    """This btfast, behind the fence that the tests have put up."""
    fence = str(Path(__file__).parent / "fence")
    return os.pathsep.join([fence, str(ROOT)])


def environment(home: Path) -> dict[str, str]:
    """Nothing of the developer's own settings reaches the command; its state is the test's, beside the home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BTFAST_", "XDG_"))}
    state = os.environ.get("XDG_STATE_HOME") or str(home / "state")  # a module's fixture may be the first to run
    return kept | {"PYTHONPATH": python_path(), "HOME": str(home), "XDG_STATE_HOME": state}


_PROGRESS = re.compile(r"btfast: .*B/s up, \d+ peers?\b.*\n")


def without_progress(err: str) -> str:
    """What a command has said but for how far it was each 30 seconds: it takes so long on a busy machine alone."""
    return _PROGRESS.sub("", err)


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]

    def one(self, kind: str) -> dict[str, Any]:
        (event,) = self.all(kind)
        return event

    @property
    def warnings(self) -> list[str]:
        return [event["message"] for event in self.all("warning")]

    def error(self, code: int) -> str:
        """Checks that it failed with this code and one clear line, and returns the line."""
        assert self.code == code, (self.code, self.err, self.out[-2000:])
        assert "Traceback" not in self.err
        errors = [line for line in self.err.splitlines() if not line.startswith("btfast: warning: ")]
        assert len(errors) == 1, self.err
        assert errors[0].startswith("btfast: error: ")
        assert errors[0].count(": ") >= 2
        return errors[0]


class Running:
    """A command at work. `family` holds the processes that it has started so far.

    `prefix`: words before it; `variables`: of its environment.
    """

    def __init__(
        self, home: Path, *words: str | Path, prefix: Sequence[str] = (), variables: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:  # fmt: skip
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "btfast", *map(str, words)],
            cwd=home, env=environment(home) | dict(variables or {}), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, **options,
        )  # fmt: skip
        self._seen: dict[int, psutil.Process] = {}

    @property
    def family(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.process.pid).children(recursive=True):
                self._seen.setdefault(process.pid, process)
        return [process for process in self._seen.values() if alive(process)]

    def named(self, name: str) -> list[psutil.Process]:
        """Those of the family that call themselves so."""
        found = []
        for process in self.family:
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.name() == name:
                    found.append(process)
        return found

    @property
    def engine(self) -> psutil.Process:
        (process,) = self.named("btfast-engine")
        return process

    @property
    def workers(self) -> list[psutil.Process]:
        return self.named("btfast-worker")

    def next_event(self, kind: str) -> dict[str, Any]:
        """Reads what it says with --json up to the next event of a kind."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event: dict[str, Any] = json.loads(line)
            if event["event"] == kind:
                return event
        raise AssertionError(f"it has ended before there was a {kind}: {self.process.communicate()}")

    def until_state(self, state: str) -> None:
        """Reads what it says with --json until it is in a state, such as `seeding`."""
        while self.next_event("progress")["state"] != state:
            pass

    def port(self) -> int:
        """Where its network process listens; 0 as long as it does not."""
        for process in self.named("btfast-engine"):
            with contextlib.suppress(psutil.NoSuchProcess):
                for one in process.net_connections("tcp"):
                    if one.status == psutil.CONN_LISTEN:
                        return int(one.laddr.port)
        return 0

    def until(self, condition: Callable[[], object], what: str, *, patience: float = PATIENCE) -> None:
        """Waits for a condition while the command works."""
        deadline = time.monotonic() + patience
        while not condition():
            assert self.process.poll() is None, (what, self.process.communicate())
            assert time.monotonic() < deadline, f"not so after {patience} s: {what}"
            time.sleep(0.005)
        self.family  # noqa: B018 - who is there now will be looked for at the end

    def end(self, patience: float = PATIENCE) -> Outcome:
        """Waits for its end, and for that of everything it has started."""
        family = self.family
        try:
            out, err = self.process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
            raise AssertionError(f"still running after {patience} s: {out[-1500:]} {err}") from None
        _, left = psutil.wait_procs(family, timeout=PROMISED)
        assert [process for process in left if alive(process)] == []
        return Outcome(self.process.returncode, out, without_progress(err))

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@contextlib.contextmanager
def running(home: Path, *words: str | Path, **options: Any) -> Iterator[Running]:
    """Started with the words; whatever of it is left when the block ends is killed."""
    command = Running(home, *words, **options)
    try:
        yield command
    finally:
        for process in [*command.family, command.process]:
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                process.kill()
        command.process.communicate()


def run(home: Path, *words: str | Path, patience: float = PATIENCE, **options: Any) -> Outcome:
    """Runs a command to its end, in `home`."""
    with running(home, *words, **options) as command:
        return command.end(patience)


def get(*words: str | Path, peers: tuple[str, ...] = (), trackers: bool = False, workers: int = 1) -> list[str | Path]:
    """The words of a `get --json` into `out`, on loopback alone."""
    named = [word for peer in peers for word in ("--peer", peer)]
    asked = [] if trackers else ["--no-trackers"]
    return ["get", "--json", *LOCAL, "--workers", str(workers), "-o", "out", *asked, *named, *words]


def engines() -> list[psutil.Process]:
    """The network processes that this process has started itself, as a Session does."""
    found = []
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "btfast.engine" in process.cmdline():
                found.append(process)
    return found


def alive(process: psutil.Process) -> bool:
    """Whether it runs: a zombie, which waits for its parent, does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
