"""Other people's trackers, each on one port of the loopback for HTTP and UDP."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote
from urllib.request import urlopen

import pytest
from drivers.ports import free_port, listens
from drivers.webtorrent import HERE, modules
from support.commands import environment

PATIENCE = 60.0


class OtherTracker(ABC):
    """Runs while its `with` block lasts; takes only the torrents with these info-hashes."""

    name: str

    def __init__(self, home: Path, info_hashes: Sequence[bytes]) -> None:
        self.home = home
        self.info_hashes = [info_hash.hex() for info_hash in info_hashes]
        self.port = free_port()
        self.log = home / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, scheme: str) -> str:
        return f"{scheme}://127.0.0.1:{self.port}/announce"

    @abstractmethod
    def missing(self) -> str | None:
        """Why it cannot run here, or None."""

    @abstractmethod
    def command(self) -> list[str]: ...

    def ready(self) -> bool:
        """Whether it can be asked."""
        return listens(self.port)

    def __enter__(self) -> Self:
        if (reason := self.missing()) is not None:
            pytest.skip(reason)
        self.home.mkdir(parents=True)
        words = self.command()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                words, cwd=self.home, env=environment(self.home), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + PATIENCE
        while not self.ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__(None, None, None)
                pytest.fail(f"{self.name} does not listen: {self.log.read_text(errors='replace')}")
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()


class OpenTracker(OtherTracker):
    """Debian's is built to take listed torrents only."""

    name = "opentracker"

    def missing(self) -> str | None:
        if shutil.which("opentracker"):
            return None
        return "missing peer: opentracker is not installed (Debian: apt-get install opentracker)"

    def command(self) -> list[str]:
        (self.home / "list").write_text("".join(f"{info_hash}\n" for info_hash in self.info_hashes))
        # As root it changes its root to the folder that -d names, and then its user.
        root = os.geteuid() == 0
        self.home.chmod(0o755)
        where = ["-i", "127.0.0.1", "-p", str(self.port), "-P", str(self.port), "-d", str(self.home)]
        return ["opentracker", *where, "-w", "/list" if root else str(self.home / "list"), *(["-u", "nobody"] if root else [])]

    def ready(self) -> bool:
        """It listens before another thread has read the list."""
        if not listens(self.port):
            return False
        query = f"info_hash={quote(bytes.fromhex(self.info_hashes[-1]))}&peer_id={'-' * 20}&port=1&left=1&event=stopped"
        with urlopen(f"{self.url('http')}?{query}", timeout=PATIENCE) as answer:
            return b"not authorized" not in answer.read()


class BittorrentTracker(OtherTracker):
    """WebTorrent's tracker, in Node."""

    name = "bittorrent-tracker"

    def missing(self) -> str | None:
        if not shutil.which("node"):
            return "missing peer: node is not installed (Debian: apt-get install nodejs npm)"
        if not (modules() / "bittorrent-tracker").is_dir():
            return f"missing peer: bittorrent-tracker is not installed in {modules()} (.ci/peers does it)"
        return None

    def command(self) -> list[str]:
        module = str(modules() / "bittorrent-tracker" / "index.js")
        options = {"module": module, "port": self.port, "allowed": self.info_hashes}
        return ["node", str(HERE / "tracker.mjs"), json.dumps(options)]

    def events(self) -> list[str]:
        """What it heard, in order: start, update, complete, stop."""
        lines = [line.split() for line in self.log.read_text().splitlines()]
        return [words[0] for words in lines if words and words[0] in ("start", "update", "complete", "stop")]
