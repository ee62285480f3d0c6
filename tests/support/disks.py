"""Disks that refuse: small file systems, and a process that permissions bind although root started it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_PR_CAPBSET_DROP = 24
_OVERRIDES = (1, 2, 3)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER


@contextlib.contextmanager
def small_disk(where: Path, options: str) -> Iterator[Path]:
    """A tmpfs at `where`, such as with `size=8m`; a visible skip where that is not permitted."""
    where.mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", where], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mounting a small file system is not permitted here: {mounted.stderr.decode().strip()}")
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", where], check=True)


def bound_by_permissions() -> dict[str, object]:
    """Options of Popen for a process that may not override permissions; a visible skip where root cannot be bound."""
    if os.geteuid():
        return {}
    if not sys.platform.startswith("linux"):
        pytest.skip("root ignores permissions, and there are no capabilities to take from it here")
    libc = ctypes.CDLL(None, use_errno=True)

    def drop() -> None:
        for capability in _OVERRIDES:
            libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)

    return {"preexec_fn": drop}


def fill(path: Path) -> None:
    """Writes a file until the disk is full."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        with contextlib.suppress(OSError):
            while True:
                os.write(descriptor, bytes(4096))
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def unwritable(folder: Path) -> Iterator[Path]:
    """Nothing can be created in it as long as the block lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o555)
    try:
        yield folder
    finally:
        folder.chmod(0o755)
