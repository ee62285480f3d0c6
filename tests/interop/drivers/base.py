"""What every driver of a real client is: a client with one torrent, on loopback, that finds nobody by itself."""

from __future__ import annotations

import contextlib
import http.client
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import ClassVar, NamedTuple, Self

from drivers.ports import free_port, listens
from leaks import wait_until
from support.torrents import Made, tree

PATIENCE = 120.0  # seconds for what a client is to do; Transmission unchokes in rounds of 10 s
PAUSE = 0.05  # seconds between two questions to a client


class Habits(NamedTuple):
    """How a client is to behave."""

    encrypted: bool = False  # RC4 or nothing; else plain TCP only, where it can be told
    dht: str = ""  # the node, host:port, that it starts from; empty: no DHT
    pex: bool = False


USUAL = Habits()


class Driver(ABC):
    """A client with one torrent: a seed where `folder` holds everything, else it fetches what is missing.

    Its peers come from the torrent's tracker, or connect to `address`. Used as a context.
    """

    name: ClassVar[str]
    must_be_dialed: ClassVar[bool] = False  # it takes no loopback address from a tracker
    skips_empty_files: ClassVar[bool] = False
    notes: ClassVar[str] = ""  # suffix of a file that it keeps beside the data

    def __init__(self, home: Path, source: Path | str, folder: Path, habits: Habits = USUAL) -> None:
        self.home = home
        self.source = source  # the path of a .torrent, or a magnet
        self.folder = folder
        self.habits = habits
        self.port = free_port()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @abstractmethod
    def start(self) -> None:
        """Starts it; it has the torrent when this returns. Skips the test where the client is missing."""

    @abstractmethod
    def stop(self) -> None:
        """Ends it at once; may be called again."""

    @abstractmethod
    def complete(self) -> bool:
        """Whether it says that it has everything. May raise OSError, ValueError, LookupError while it starts."""

    @abstractmethod
    def last_words(self) -> str:
        """What it said last, for messages."""

    def ended(self) -> bool:
        """Whether it has gone by itself."""
        return False

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Waits for what it is to do; fails with its log."""

        def true() -> bool:
            assert not self.ended(), f"{self.name} has ended: {self.last_words()}"
            with contextlib.suppress(OSError, ValueError, LookupError, http.client.HTTPException):
                return condition()
            return False

        assert wait_until(true, patience=PATIENCE, pause=PAUSE), f"{self.name} did not {what}: {self.last_words()}"

    def serves(self) -> None:
        """Waits until it has everything and takes connections."""
        self.until(lambda: self.complete() and listens(self.port), "serve what it has")

    def delivers(self, made: Made) -> None:
        """Waits until it says that it has everything, then until that is on disk byte by byte: it may still write."""
        self.until(self.complete, "fetch everything")
        expected = {name: data for name, data in made.contents().items() if data or not self.skips_empty_files}

        def found() -> dict[str, bytes]:
            return {name: data for name, data in tree(self.folder).items() if not self.notes or not name.endswith(self.notes)}

        wait_until(lambda: found() == expected, patience=60, pause=PAUSE)
        assert sorted(found()) == sorted(expected), (self.name, set(found()) ^ set(expected))
        assert [name for name, data in found().items() if data != expected[name]] == [], self.name

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
