"""Runs the real command line in a process of its own, as a user does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Command, Outcome, environment
from support.commands import PATIENCE, without_progress

sys.path.append(str(Path(__file__).resolve().parents[1] / "client"))  # swarm_of_one: torrents and a seeder


@pytest.fixture
def btfast_command(tmp_path: Path) -> Command:
    """`btfast_command("get", "x.torrent", env={...}, stdin="...")`, in tmp_path."""

    def run(*words: str | Path, env: dict[str, str] | None = None, stdin: str = "", timeout: float = PATIENCE) -> Outcome:
        done = subprocess.run(
            [sys.executable, "-m", "btfast", *map(str, words)],
            cwd=tmp_path,
            env=environment(tmp_path, env),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, without_progress(done.stderr))

    return run


@pytest.fixture
def torrent_file(tmp_path: Path) -> Path:
    """A small valid single-file .torrent; its data exists nowhere."""
    from btfast._bencode import encode

    info = {"length": 40000, "name": "data.bin", "piece length": 16384, "pieces": bytes(60)}
    path = tmp_path / "data.torrent"
    path.write_bytes(encode({"announce": "http://127.0.0.1:1/announce", "info": info}))
    return path
