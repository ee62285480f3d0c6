"""A driver whose client is a program, in a process of its own."""

from __future__ import annotations

import shutil
import subprocess
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest
from drivers.base import USUAL, Driver, Habits
from drivers.ports import free_port
from support.commands import environment

LOG_SHOWN = 3000  # characters of a client's log in a failure message


class Program(Driver):
    """`home` is its own, with its log in it; `control` is a port for its remote control."""

    program: ClassVar[str]
    package: ClassVar[str]

    def __init__(
        self, home: Path, source: Path | str, folder: Path, habits: Habits = USUAL, *, prefix: Sequence[str] = ()
    ) -> None:
        super().__init__(home, source, folder, habits)
        self.prefix = prefix  # words before the command
        self.control = free_port()
        self.log = home / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def missing(cls) -> str | None:
        """Why it cannot run here, or None."""
        if shutil.which(cls.program):
            return None
        return f"missing peer: {cls.program} is not installed (Debian: apt-get install {cls.package})"

    @abstractmethod
    def command(self) -> list[str]:
        """The words to start it with; writes below `home` what it reads at its start."""

    def add(self) -> bool:
        """Hands it the torrent once it runs; False when it cannot take it yet."""
        return True

    def start(self) -> None:
        if (reason := self.missing()) is not None:
            pytest.skip(reason)
        self.home.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        words = self.command()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.prefix, *words], cwd=self.home, env=environment(self.home), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log,
            )  # fmt: skip
        self.until(self.add, "take the torrent")

    def ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def stop(self) -> None:
        """Kills it: nothing that it might still save or announce is of interest."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-LOG_SHOWN:] if self.log.exists() else ""
