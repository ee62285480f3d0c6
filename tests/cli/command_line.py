"""Runs the real command line in a process of its own, as a user does."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from support.commands import python_path

import btfast

ROOT = Path(btfast.__file__).resolve().parents[1]


def environment(home: Path, extra: dict[str, str] | None = None) -> dict[str, str]:
    """Nothing of the developer's own settings reaches the command."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BTFAST_", "XDG_"))}
    return kept | {"PYTHONPATH": python_path(), "HOME": str(home)} | (extra or {})


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


Command = Callable[..., Outcome]
