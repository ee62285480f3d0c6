"""Small C libraries that stand between a program and the system, compiled by the test that needs them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def compile_library(name: str, folder: Path) -> Path:
    """tests/support/NAME.c as a library in `folder`, for LD_PRELOAD."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler for the layer below the programs")
    library = folder / f"{name}.so"
    source = Path(__file__).with_name(f"{name}.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"], check=True)
    return library
