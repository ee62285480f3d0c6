"""Nothing of a test may stay behind: no process, no zombie."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.commands import PROMISED
from swarm_of_one import children, until


@pytest.fixture(autouse=True)
def no_process_stays() -> Iterator[None]:
    yield
    until(lambda: not children(), "every process of the session is gone", patience=PROMISED)
