"""What a test may leave behind by mistake, seen from outside: processes, descriptors, shared memory."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil

_MARK = "LEAK_CHECK_OF"  # in the environment of all that a test starts: an orphan still carries it
_PROC = Path("/proc")
_FDS = Path("/proc/self/fd")


def wait_until(condition: Callable[[], object], *, patience: float, pause: float = 0.01) -> bool:
    """Whether the condition came true within `patience` seconds; looks at once and then every `pause` seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


class Processes:
    """Processes that were started, by whichever generation, since this object was made."""

    def __init__(self) -> None:
        self._before = self._pids()

    @staticmethod
    def mark() -> None:
        """Once a test process, before it starts others."""
        os.environ[_MARK] = str(os.getpid())

    @staticmethod
    def _pids() -> set[int]:
        if _PROC.is_dir():
            return {int(name) for name in os.listdir(_PROC) if name.isdigit()}
        return set(psutil.pids())

    def left(self) -> list[psutil.Process]:
        """Those that are still there, zombies of ours included."""
        return [process for pid in self._pids() - self._before if (process := self._ours(pid)) is not None]

    @staticmethod
    def _ours(pid: int) -> psutil.Process | None:
        with contextlib.suppress(psutil.Error, OSError):
            process = psutil.Process(pid)
            if process.ppid() == os.getpid() or process.environ().get(_MARK) == str(os.getpid()):
                return process
        return None

    def end_left(self) -> list[str]:
        """Kills what is left, so that the next test begins clean; says what it was."""
        found = []
        for process in self.left():
            words = ""
            with contextlib.suppress(psutil.Error):  # a zombie has no command line
                words = " ".join(process.cmdline())[:200]
            with contextlib.suppress(psutil.Error):
                found.append(f"{process.pid} {process.status()} {words}")
                process.kill()
            with contextlib.suppress(ChildProcessError):  # an orphan is not ours to wait for
                os.waitpid(process.pid, 0)
        return found


class Descriptors:
    """Descriptors of this process that were opened since this object was made."""

    def __init__(self) -> None:
        self._before = self._open()

    @staticmethod
    def _open() -> set[tuple[str, str]]:
        found = set()
        if _FDS.is_dir():
            for name in os.listdir(_FDS):
                with contextlib.suppress(OSError):  # the one that lists them is gone by now
                    found.add((name, os.readlink(_FDS / name)))
        return found

    def left(self) -> list[str]:
        """Those that are still open, with what they lead to."""
        return sorted(f"{name} -> {target}" for name, target in self._open() - self._before if "/proc/" not in target)


class SharedMemory:
    """Names in /dev/shm, where nothing of btfast has any business."""

    def __init__(self) -> None:
        self._before = self._names()

    @staticmethod
    def _names() -> set[str]:
        try:
            names = os.listdir("/dev/shm")
        except FileNotFoundError:
            return set()
        # A benchmark may be running beside the tests; it keeps its data there.
        return {name for name in names if name.startswith(("btfast", "psm_")) and "bench" not in name}

    def left(self) -> list[str]:
        return sorted(self._names() - self._before)
