"""The leak check itself: it finds what it is there for, and CI accepts no missing peer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from leaks import Descriptors, Processes, wait_until

pytest_plugins = ["pytester"]
HERE = Path(__file__).resolve().parent


def run(pytester: pytest.Pytester, test: str, ci: str = "") -> pytest.RunResult:
    """Runs one test under this directory's conftest, in a process of its own."""
    pytester.makeconftest((HERE / "conftest.py").read_text().replace("patience=20", "patience=0.5"))
    pytester.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makepyfile(test)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CI", ci)
        patch.setenv("PYTHONPATH", str(HERE))
        return pytester.runpytest_subprocess("-p", "no:cacheprovider")


LEAKS = """
import asyncio, os, subprocess, sys

def test_descriptor():
    os.open("/dev/null", os.O_RDONLY)

def test_zombie():
    subprocess.Popen([sys.executable, "-c", "pass"]).returncode = 0

async def test_task():
    asyncio.create_task(asyncio.sleep(60))

async def fail():
    raise ValueError("lost")

async def test_error():
    asyncio.create_task(fail())
    await asyncio.sleep(0)

async def test_tidy():
    await asyncio.create_task(asyncio.sleep(0))
"""

LEAVES = """
import contextlib, socket

def test_leaves():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        with contextlib.suppress(OSError):
            sock.connect(("239.192.152.143", 6771))

def test_stays():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", 6771))
"""

SKIPS = """
import pytest

def test_peer():
    pytest.skip("missing peer: aria2c")

def test_other():
    pytest.skip("no IPv6 here")
"""


def test_what_is_left_behind_is_found(pytester: pytest.Pytester) -> None:
    result = run(pytester, LEAKS)
    result.assert_outcomes(passed=5, errors=4)
    said = [
        "a descriptor: * -> /dev/null",
        "a process: *",
        "an asyncio task: *sleep*",
        "an error in a loop: Task exception *",
    ]
    result.stdout.fnmatch_lines([f"*{line}" for line in said])


def test_what_was_to_leave_this_machine_is_found(pytester: pytest.Pytester) -> None:
    fence = pytester.mkdir("support") / "fence"
    fence.mkdir()
    (fence / "sitecustomize.py").write_text((HERE / "support/fence/sitecustomize.py").read_text())
    result = run(pytester, LEAVES)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*multicast beyond this machine: *socket.connect ('239.192.152.143', 6771)"])


@pytest.mark.parametrize(("ci", "outcome"), [("", {"skipped": 2}), ("true", {"skipped": 1, "failed": 1})])
def test_a_missing_peer_is_a_skip_and_under_ci_a_failure(
    pytester: pytest.Pytester, ci: str, outcome: dict[str, int]
) -> None:
    run(pytester, SKIPS, ci).assert_outcomes(**outcome)


def test_a_child_and_an_orphan_are_seen_until_they_are_gone() -> None:
    processes = Processes()
    orphan = f"import subprocess, sys; subprocess.Popen([{sys.executable!r}, '-c', 'input()'], stdin=0)"
    reader, writer = os.pipe()
    child = subprocess.Popen([sys.executable, "-c", f"{orphan}; input()"], stdin=reader)
    try:
        assert wait_until(lambda: len(processes.left()) == 2, patience=60)
        child.kill()
        assert wait_until(lambda: len(processes.left()) == 2, patience=60), "a zombie counts, and so does the orphan"
        child.wait()
        assert wait_until(lambda: len(processes.left()) == 1, patience=60)
    finally:
        os.close(reader)
        os.close(writer)
        child.wait()
    assert wait_until(lambda: not processes.left(), patience=60)


def test_a_descriptor_is_seen_until_it_is_closed() -> None:
    descriptors = Descriptors()
    fd = os.open(os.devnull, os.O_RDONLY)
    assert descriptors.left() == [f"{fd} -> {os.devnull}"]
    os.close(fd)
    assert descriptors.left() == []
