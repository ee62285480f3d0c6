"""Children that are forks of this process: what it has loaded they need not load again. Imports no more than that needs.

Only where that is safe: on Linux, and of a process that has one thread and no running loop. A child never returns into
the code of its parent.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

_POLL = 0.001  # seconds
_DESCRIPTORS = "/proc/self/fd"


class ForkedProcess:
    """A child of ours, with as much of subprocess.Popen as is used of one."""

    __slots__ = ("pid", "returncode")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self._look(os.WNOHANG)

    def wait(self, timeout: float | None = None) -> int | None:
        """Raises subprocess.TimeoutExpired."""
        if timeout is None:
            return self._look(0)
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(_POLL)
        return self.returncode

    def _look(self, options: int) -> int | None:
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, options)
            except ChildProcessError:  # SIGCHLD is ignored, as whoever started us left it: how it ended nobody knows
                pid, status = self.pid, 0
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        if self.poll() is None:  # until then the number is its own
            os.kill(self.pid, number)


def can_fork() -> bool:
    """Elsewhere the system's own libraries may have begun threads, and nothing tells of them."""
    return sys.platform == "linux" and threading.active_count() == 1 and os.path.isdir(_DESCRIPTORS)


def fork(live: Callable[[], object], *kept: int, errors: int = 2) -> ForkedProcess:
    """A child that does `live` and ends.

    `kept`: the descriptors that it has besides the standard ones; `errors`: what its stderr is. Raises OSError.
    """
    pid = os.fork()
    if pid:
        return ForkedProcess(pid)
    code = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(errors, 2)
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        _close_all_but(*kept)
        live()
        code = 0
    except Exception:  # noqa: BLE001 - told as the interpreter tells of one that nobody took
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _close_all_but(*kept: int) -> None:
    """Whoever held somebody else's end of a stream would keep its peer from seeing that one go."""
    for name in os.listdir(_DESCRIPTORS):  # the limit on their number may be a thousand million
        fd = int(name)
        if fd > 2 and fd not in kept:
            with contextlib.suppress(OSError):  # that of the listing is closed already
                os.close(fd)
