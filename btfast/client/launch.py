"""Starts the network process, as early as the caller can, and ends it. Imports no more than that needs.

For scripts a new interpreter by `subprocess`: never `fork` of a process with threads, never `multiprocessing`, so that it
works in an unguarded script, in a thread and in a notebook. The command line has neither threads nor a loop when it
begins: it forks, where the system allows it, and what both need is loaded once.
"""

from __future__ import annotations

import contextlib
import os
import site
import socket
import subprocess
import sys
import time
from collections.abc import Callable

from btfast.engine.forking import ForkedProcess, can_fork, fork
from btfast.errors import InternalError

TAIL = 8192  # bytes of its stderr that are kept for the error message


class NetworkProcess:
    """A running `python -m btfast.engine`: the process, our end of its control socket, its stderr."""

    __slots__ = ("_tail", "control", "errors", "process", "started")

    def __init__(self, process: subprocess.Popen[bytes] | ForkedProcess, control: socket.socket, errors: int) -> None:
        self.started = time.monotonic()
        self.process = process
        self.control = control
        self.errors = errors
        self._tail = b""

    def send(self, frame: bytes) -> None:
        """Writes a small frame before there is a loop: the socket's buffer takes it."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it is gone: whoever reads next finds out
            self.control.sendall(frame)

    def read_errors(self) -> bytes | None:
        """What it has written to stderr since the last call; None at its end."""
        try:
            data = os.read(self.errors, 65536)
        except BlockingIOError:
            return b""
        self._tail = (self._tail + data)[-TAIL:]
        return data or None

    @property
    def tail(self) -> str:
        """The last lines of its stderr."""
        return self._tail.decode("utf-8", "replace").strip()

    @property
    def status(self) -> str:
        """How it ended, in words."""
        code = self.process.poll()
        if code is None:
            return "still running"
        return f"exit status {code}" if code >= 0 else f"killed by signal {-code}"

    def close(self, patience: float = 0.0) -> None:
        """Closes our ends, so that it saves and leaves; ends it by force after `patience` seconds. Leaves no zombie."""
        self.control.close()
        if self.errors >= 0:
            os.close(self.errors)
            self.errors = -1
        if self.process.poll() is None:
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def launch() -> NetworkProcess:
    """Starts the network process; it waits for its Configure message. Raises InternalError."""
    if not sys.executable:
        raise InternalError("network process: cannot be started: this program does not say where its Python is")
    return _start(_open)


def launch_fork() -> NetworkProcess:
    """The same, as a fork of this process where that is safe. Raises InternalError."""
    if not can_fork():
        return launch()
    import btfast.client.link
    import btfast.client.sources  # noqa: F401 - most of what either will need

    return _start(_fork)


def _start(begin: Callable[[socket.socket, int], subprocess.Popen[bytes] | ForkedProcess]) -> NetworkProcess:
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    try:
        process = begin(theirs, writer)
    except OSError as error:
        ours.close()
        os.close(reader)
        raise InternalError(f"network process: cannot be started: {error}") from error
    finally:
        theirs.close()
        os.close(writer)
    return NetworkProcess(process, ours, reader)


def _open(control: socket.socket, errors: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "btfast.engine", str(control.fileno())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        pass_fds=(control.fileno(),),
        start_new_session=True,  # Ctrl-C in the terminal is for the caller, who then says Stop
        env=_environment(),
    )


def _fork(control: socket.socket, errors: int) -> ForkedProcess:
    def live() -> None:
        from btfast.engine.__main__ import serve

        os.setsid()
        serve(control.detach())

    return fork(live, control.fileno(), errors=errors)


def _environment() -> dict[str, str]:
    """Ours, and a PYTHONPATH under which the same btfast is found."""
    environment = dict(os.environ)
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    others = environment.get("PYTHONPATH")
    # A site directory on PYTHONPATH would stand before the standard library and could shadow it.
    if others or root not in (*site.getsitepackages(), site.getusersitepackages()):
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, others)))
    return environment
