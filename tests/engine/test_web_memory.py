"""What is kept of web seeds for later runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from btfast.config import Settings
from btfast.engine import web_memory
from btfast.engine.web_memory import WebMemory

KNOWN = {"http://x/": {0: b'"tag"'}}


def test_the_oldest_make_room_for_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_memory, "MOST_FILES", 10)
    settings = Settings(state=str(tmp_path))
    for number in range(25):
        memory = WebMemory(settings, bytes([number]) * 20)
        memory.save(KNOWN)
        assert memory.load() == KNOWN
        os.utime(tmp_path / "webseeds" / (bytes([number]) * 20).hex(), (number, number))
    kept = {name[:2] for name in os.listdir(tmp_path / "webseeds")}
    assert len(kept) <= 10
    assert kept == {f"{number:02x}" for number in range(25 - len(kept), 25)}
    memory.save({})
    assert memory.load() == {}
