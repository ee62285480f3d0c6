"""For every test: nothing may stay behind, and under CI no peer program may be missing.

Checked after each test: processes (orphans too), descriptors, asyncio tasks that were left running, errors that only
reached the loop's handler, names in /dev/shm, and multicast that was to leave this machine (support/fence).
"""

from __future__ import annotations

import asyncio.runners
import atexit
import gc
import itertools
import logging
import os
import runpy
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import uvloop
from leaks import Descriptors, Processes, SharedMemory, wait_until

MISSING_PEER = "missing peer"  # how the reason of a skip begins that continuous integration does not accept
UNDER_CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")


# A machine with other work to do is no bug; and what continuous integration runs is the same each time.
SLOW = [hypothesis.HealthCheck.too_slow]
hypothesis.settings.register_profile("house", deadline=None, derandomize=UNDER_CI, suppress_health_check=SLOW)
hypothesis.settings.load_profile("house")


class _LoopErrors(logging.Handler):
    """What an event loop could only log: exceptions nobody saw, tasks destroyed while they were pending."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


FENCE = Path(__file__).parent / "support/fence"
_states = tempfile.TemporaryDirectory(prefix="btfast-states-")
_tests = itertools.count()
_errors = _LoopErrors()
_tasks_left: list[str] = []
_left_machine: Path | None = None


def _watch_runners() -> None:
    """asyncio.Runner cancels in silence what is left in its loop when it closes; here it is written down first."""
    cancel_all: Callable[[asyncio.AbstractEventLoop], None] = asyncio.runners._cancel_all_tasks  # type: ignore[attr-defined]

    def note_and_cancel(loop: asyncio.AbstractEventLoop) -> None:
        _tasks_left.extend(repr(task) for task in asyncio.all_tasks(loop))
        cancel_all(loop)

    asyncio.runners._cancel_all_tasks = note_and_cancel  # type: ignore[attr-defined]


def _put_fence_up() -> Path:
    """Around this process and what it starts; the file in which it is noted who wanted to get through."""
    notes = Path(_states.name) / "fence"
    network = os.readlink("/proc/self/ns/net") if os.path.exists("/proc/self/ns/net") else ""
    os.environ["TESTS_FENCE"] = f"{notes}|{network}"
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != str(FENCE)]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(FENCE), *others])
    runpy.run_path(str(FENCE / "sitecustomize.py"))
    return notes


async def _nothing() -> None:
    """For a loop to run."""


def pytest_configure() -> None:
    global _left_machine
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in the background of a script; what tests start inherits it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["RES_OPTIONS"] = "timeout:1 attempts:1"  # where no name server answers, a name that is none is given up soon
    if FENCE.exists():
        _left_machine = _put_fence_up()
    _watch_runners()
    # libuv keeps one pipe of a process's first loop for ever: it must be there before the first test is measured.
    uvloop.run(_nothing())
    Processes.mark()
    atexit.register(_states.cleanup)  # pytest's own cleanup is left out in the processes that -n starts


@pytest.fixture(autouse=True)
def nothing_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails the test after it has ended when it has left something.

    Each test has a state directory of its own: what a run of the developer's keeps is no business of a test's.
    """
    os.environ["XDG_STATE_HOME"] = f"{_states.name}/{next(_tests)}"
    processes, descriptors, shared = Processes(), Descriptors(), SharedMemory()
    _tasks_left.clear()
    _errors.messages.clear()
    logging.getLogger("asyncio").addHandler(_errors)
    yield
    request.node.funcargs.clear()  # what a fixture returned would live on, with its descriptors, until the next test
    if asyncio.iscoroutinefunction(getattr(request.node, "obj", None)) or descriptors.left():
        gc.collect()  # an object in a cycle keeps its descriptors, and a task its exception, until then
    logging.getLogger("asyncio").removeHandler(_errors)
    left = [f"an asyncio task: {task}" for task in _tasks_left]
    left += [f"an error in a loop: {message}" for message in _errors.messages]
    if not wait_until(lambda: not processes.left(), patience=20):
        left += [f"a process: {process}" for process in processes.end_left()]
    if not wait_until(lambda: not descriptors.left(), patience=20):
        left += [f"a descriptor: {descriptor}" for descriptor in descriptors.left()]
    left += [f"shared memory: {name}" for name in shared.left()]
    if _left_machine is not None and _left_machine.exists():
        left += [f"multicast beyond this machine: {line}" for line in _left_machine.read_text().splitlines()]
        _left_machine.unlink()
    assert not left, "\n".join(["left behind:", *left])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A peer program that is missing is a visible skip on a developer's machine, and a failure under CI."""
    report = yield
    if UNDER_CI and report.skipped and call.excinfo is not None and MISSING_PEER in str(call.excinfo.value):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: {call.excinfo.value} (CI=true: no peer may be missing)"
    return report


@pytest.fixture
def repository() -> Path:
    """The folder of the checkout."""
    return Path(__file__).resolve().parents[1]
