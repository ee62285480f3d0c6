"""What goes wrong: each test with real processes and real sockets, and nothing of it may stay behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

TESTS = Path(__file__).resolve().parents[1]
sys.path += [str(TESTS), str(TESTS / "client")]  # support, swarm_of_one

from swarm_of_one import children, until  # noqa: E402


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """No process, no zombie, no descriptor of ours outlives a test."""
    before = psutil.Process().num_fds()
    yield
    until(lambda: not children(), "every process of the test is gone", patience=8)
    until(lambda: psutil.Process().num_fds() <= before, "every descriptor of the test is closed", patience=5)
