"""A clock that is set hours forward or back changes nothing: what waits or expires follows the monotonic clock alone."""

from __future__ import annotations

import ast
from pathlib import Path

import btfast

ROOT = Path(btfast.__file__).parent
WALL = {"time.time", "time.time_ns", "time.localtime", "time.gmtime", "datetime.now", "datetime.utcnow", "date.today"}
# The date of a row in the resume store: by it the rows that were used last are kept where there are too many.
ALLOWED = {"engine/resuming.py"}


def test_only_the_date_of_a_record_comes_from_the_wall_clock() -> None:
    found = set()
    for room in ("engine", "tracker", "client", "swarm", "discovery", "storage", "wire"):
        for path in (ROOT / room).rglob("*.py"):
            calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
            if any(ast.unparse(call).removeprefix("datetime.") in WALL for call in calls):
                found.add(str(path.relative_to(ROOT)))
    assert found == ALLOWED
