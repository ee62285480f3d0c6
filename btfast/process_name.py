"""The name of a process, as `top` shows it. A forked one has the command line of its parent."""

from __future__ import annotations

import contextlib


def name_process(name: str) -> None:
    """Calls this process `name`, 15 characters at most, where the system has such names."""
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as file:
        file.write(name)
