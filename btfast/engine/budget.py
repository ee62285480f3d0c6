"""How much memory and how many workers a network process takes where it was not told."""

from __future__ import annotations

import os

from btfast.config import ARENA_DEFAULT, ARENA_MINIMUM, parse_size
from btfast.errors import InputError


def arena_budget(memory: str | int) -> int:
    """Bytes of arena: what was asked for, or 256 MiB, or a quarter of what is available to this process group.

    Raises InputError when more was asked for than this machine has.
    """
    asked = parse_size(memory)
    if asked > _physical_memory():
        raise InputError(f"memory {memory}: more than this machine has, {_physical_memory() >> 20} MiB: give less")
    if asked:
        return asked
    return max(ARENA_MINIMUM, min(ARENA_DEFAULT, _available_memory() // 4))


def _physical_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _available_memory() -> int:
    limit = _physical_memory()
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path) as file:
                text = file.read().strip()
        except OSError:
            continue
        if text.isdigit():
            limit = min(limit, int(text))
    return limit


def worker_count(asked: int) -> int:
    """Workers to start: as asked, else one a usable core, 16 at most (one hashes more than any link brings)."""
    if asked:
        return asked
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(16, usable))
