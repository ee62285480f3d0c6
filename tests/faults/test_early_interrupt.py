"""Signals from the first line of the command line on."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from support.commands import PROMISED, get, running
from support.torrents import make


@pytest.mark.parametrize("delay", range(12))
def test_an_interrupt_while_the_command_starts(tmp_path: Path, delay: int) -> None:
    with running(tmp_path, *get(make(100_000).save(tmp_path), "--peer-timeout", "600")) as command:
        command.until(lambda: command.family, "the network process is there")
        command.signal(signal.SIGINT)  # while msgspec builds its decoders: a KeyboardInterrupt there is a segfault
        done = command.end(PROMISED)
    assert done.code == 7
    assert "Traceback" not in done.err
