"""Where the state directory is."""

from __future__ import annotations

from pathlib import Path

import pytest

from btfast.config import Settings
from btfast.engine.state import state_directory


def test_it_is_where_the_settings_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert state_directory(Settings(state="/var/lib/x")) == "/var/lib/x"
    assert state_directory(Settings(state="here")) == str(tmp_path / "here")
    assert state_directory(Settings(state="~/x")) == "/home/somebody/x"


def test_else_it_is_in_the_xdg_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert state_directory(Settings()) == "/state/btfast"
    for unusable in ("", "relative"):
        monkeypatch.setenv("XDG_STATE_HOME", unusable)
        assert state_directory(Settings()) == "/home/somebody/.local/state/btfast"
