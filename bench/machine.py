"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from bench.tools import ROOT, compiler

HASH_FEATURES = ("avx512f", "avx512bw", "avx2", "sha_ni", "sha1", "sha2")
MIB = 1 << 20
GROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
DEFAULT_ARENA = 256 * MIB


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _said(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    return (done.stdout.strip().splitlines() or [""])[0] if done.returncode == 0 else ""


def _cpu_fact(*names: str) -> str:
    for line in _lines("/proc/cpuinfo"):
        name, _, value = line.partition(":")
        if name.strip() in names:
            return value.strip()
    return ""


def file_system(folder: Path) -> str:
    """Type and device of the file system that holds `folder`."""
    best, found = "", "unknown"
    for line in _lines("/proc/mounts"):
        device, point, kind, *_ = line.split()
        if len(point) >= len(best) and folder.resolve().is_relative_to(point):
            best, found = point, f"{kind} on {device}"
    return found


def facts(destination: Path, source: Path, versions: dict[str, str]) -> dict[str, str]:
    """The machine, its software and the folders used, as text."""
    memory = next((line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal:")), "0")
    features = set(_cpu_fact("flags", "Features").split())
    commit = _said(["git", "rev-parse", "--short=12", "HEAD"])
    changed = _said(["git", "status", "--porcelain", "--untracked-files=no"])
    return {
        "cpu": _cpu_fact("model name", "CPU part") or platform.processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "hash instructions": " ".join(name for name in HASH_FEATURES if name in features),
        "memory MiB": str(int(memory) // 1024),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "compiler": _said([compiler(), "--version"]),
        "commit": commit + (" with local changes" if changed else ""),
        "destination": f"{destination} ({file_system(destination)})",
        "source": f"{source} ({file_system(source)})",
        **{f"version of {name}": version for name, version in versions.items() if version},
    }


def cpu_times() -> tuple[float, float]:
    """Ticks of the whole machine since boot: all, and stolen by the host."""
    first = _lines("/proc/stat")[:1]
    ticks = [float(word) for word in first[0].split()[1:9]] if first else []
    return sum(ticks), ticks[7] if len(ticks) > 7 else 0.0


def load_average() -> float:
    return os.getloadavg()[0]


def default_arena() -> int:
    """btfast's memory budget when none is given: 256 MiB, or a quarter of the cgroup's memory where that is less."""
    limits = [int(line) for path in GROUP_LIMITS for line in _lines(path)[:1] if line.isdigit()]
    return min([DEFAULT_ARENA, *(limit // 4 for limit in limits)])
