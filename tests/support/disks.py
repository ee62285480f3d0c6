"""Disks that refuse: small file systems, and a process that permissions bind although root started it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_PR_CAPBSET_DROP = 24
_CAPABILITY_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
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


@contextlib.contextmanager
def permissions_bind() -> Iterator[None]:
    """This process's permissions bind it as long as the block lasts, also where root started it; else a visible skip."""
    if os.geteuid():
        yield
        return
    if not sys.platform.startswith("linux"):
        pytest.skip("root ignores permissions, and there are no capabilities to take from it here")
    # Capabilities are a thread's own: this one's effective set loses the overrides and gets them back.
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    before = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice 32 bits
    assert libc.capget(header, before) == 0, os.strerror(ctypes.get_errno())
    bound = (ctypes.c_uint32 * 6)(*before)
    for capability in _OVERRIDES:
        bound[0] &= ~(1 << capability)
    assert libc.capset(header, bound) == 0, os.strerror(ctypes.get_errno())
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0, os.strerror(ctypes.get_errno())


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


@contextlib.contextmanager
def folding_disk(where: Path) -> Iterator[Path]:
    """A directory at `where` that takes names which differ in case for one; a visible skip where there is no such disk."""
    where.mkdir(exist_ok=True)
    image = where.with_suffix(".img")
    image.write_bytes(b"")
    os.truncate(image, 16 << 20)
    made = subprocess.run(["mkfs.ext4", "-q", "-O", "casefold", image], capture_output=True, check=False)
    mounted = subprocess.run(["mount", "-o", "loop", image, where], capture_output=True, check=False)
    if made.returncode or mounted.returncode:
        pytest.skip(f"no disk that ignores case can be mounted here: {(made.stderr or mounted.stderr).decode().strip()}")
    try:
        folder = where / "folder"
        folder.mkdir()
        subprocess.run(["chattr", "+F", folder], check=True)
        yield folder
    finally:
        subprocess.run(["umount", "-l", where], check=True)


@contextlib.contextmanager
def sharing_disk(where: Path) -> Iterator[Path]:
    """A disk at `where` on which files may share their blocks; a visible skip where none can be made."""
    where.mkdir(exist_ok=True)
    image = where.with_suffix(".img")
    why = "neither mkfs.xfs nor mkfs.btrfs is installed"
    for kind, make in (("xfs", ["mkfs.xfs", "-q", "-f", "-m", "reflink=1"]), ("btrfs", ["mkfs.btrfs", "-q", "-f"])):
        if shutil.which(make[0]) is None:
            continue
        image.write_bytes(b"")
        os.truncate(image, 320 << 20)  # xfs takes no less than 300 MiB
        made = subprocess.run([*make, image], capture_output=True, check=False)
        mounted = subprocess.run(["mount", "-t", kind, "-o", "loop", image, where], capture_output=True, check=False)
        why = (made.stderr or mounted.stderr).decode().strip()
        if not made.returncode and not mounted.returncode:
            break
    else:
        pytest.skip(f"no disk that shares blocks can be mounted here: {why}")
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", where], check=True)
