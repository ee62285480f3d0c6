"""Hash a torrent's data and say which files and pieces are good, bad or missing. Nothing is written unless asked for."""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from btfast.cli.command import INTERRUPTED
from btfast.cli.options import NETWORK, OUTPUT, Options
from btfast.cli.text import plural
from btfast.errors import Error, InputError, InterruptedError, StorageError, VerificationError

if TYPE_CHECKING:
    from btfast.events import Event
    from btfast.metainfo.torrent import Torrent
    from btfast.storage.verify import Verdict

OPTIONS = ("sums", "sums-file", "repair", "force", "peer", *NETWORK, *OUTPUT)
PROGRESS_INTERVAL = 0.25  # seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("torrent", metavar="TORRENT", help="a .torrent file")
    parser.add_argument("directory", metavar="DIR", nargs="?", default=".", help="where its data is (default .)")


def run(parsed: argparse.Namespace, options: Options) -> int:
    """Exit code 0 when all is good, 4 when something is not, 6 when something cannot be read."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    from btfast.cli.reporters import reporters_of
    from btfast.cli.totals import Totals

    workers = options["workers"]
    if isinstance(workers, int) and not 0 <= workers <= 256:
        raise InputError(f"{options.spelled('workers')}: {workers}: give 1 to 256, or 0 for one a core")
    totals = Totals(1)
    reporters = reporters_of(options, totals)
    try:
        job = _Job(parsed.torrent, parsed.directory, options, [totals.handle_event, *(r.handle_event for r in reporters)])
        job.poll = [reporter.poll for reporter in reporters]
        repair = job.run()
        if not repair:
            summary = totals.summary(time.monotonic() - job.started, INTERRUPTED if job.interrupted else 0)
            for reporter in reporters:
                reporter.handle_event(summary)
            return summary.exit_code
    finally:
        for reporter in reporters:
            reporter.close()
    return _repair(parsed.torrent, parsed.directory, options)


def _interrupt(number: int, frame: object) -> NoReturn:
    """The first one ends the check in an orderly way, a second one at once."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: os._exit(INTERRUPTED))
    raise KeyboardInterrupt


class _Job:
    """One torrent's check, told as events."""

    def __init__(
        self, source: str, directory: str, options: Options, listeners: list[Callable[[Event], object]]
    ) -> None:
        self.source = source
        self.directory = directory
        self.options = options
        self.listeners = listeners
        self.poll: list[Callable[[float], object]] = []
        self.started = time.monotonic()
        self.interrupted = False
        self._next_progress = 0.0

    def run(self) -> bool:
        """Whether there is something to repair and that is wanted; all other ends were told."""
        from btfast.events import Failed

        done = total = 0
        error: Error
        try:
            verdict = self._check()
            if verdict is None:
                return False
            if self.options["repair"]:
                return True
            total = sum(file.size for file in verdict.files)
            done = sum(file.size for file in verdict.files if file.state == "good")
            error = _complaint(self.source, verdict)
        except KeyboardInterrupt:
            self.interrupted = True
            error = InterruptedError(f"{self.source}: interrupted: run it again to check it")
        except Error as raised:
            error = raised
        from btfast.client.sources import shown

        failed = Failed(
            id=0, source=shown(self.source), error=str(error), kind=type(error).__name__, exit_code=error.exit_code,
            done=done, total=total,
        )  # fmt: skip
        self._tell(failed)
        return False

    def _check(self) -> Verdict | None:
        """None when all is good, which has been told."""
        from btfast.client.checking import examine, load
        from btfast.client.sources import absolute_directory, shown
        from btfast.events import Added, Complete, Metadata

        directory = absolute_directory(self.directory)
        self._tell(Added(id=0, source=shown(self.source), directory=directory))
        torrent = load(self.source)
        size = sum(file.length for file in torrent.files if not file.pad)
        sums = self.options.text("sums") == "sha256"
        target = self._sums_file(torrent, directory) if sums else ""
        self._tell(
            Metadata(
                id=0, name=torrent.name, info_hash=torrent.info_hash.hex(), size=size,
                files=sum(not file.pad for file in torrent.files), pieces=torrent.piece_count,
                piece_length=torrent.piece_length, private=torrent.private,
            )
        )  # fmt: skip
        workers = self.options["workers"]
        verdict = examine(torrent, directory, self._progress, workers if isinstance(workers, int) else 0, sums)
        self._tell_files(verdict)
        if target:
            from btfast.cli.sums import write_sums

            write_sums(target, verdict)
        if any(file.state != "good" for file in verdict.files):
            return verdict
        seconds = time.monotonic() - self.started
        self._tell(
            Complete(
                id=0, source=shown(self.source), name=torrent.name, info_hash=torrent.info_hash.hex(),
                directory=directory, files=[file.path for file in verdict.files], bytes=size, downloaded=0, uploaded=0,
                wasted=0, seconds=seconds, rate=0.0, limited_by="disk" if verdict.cold else "hashing",
            )
        )  # fmt: skip
        return None

    def _sums_file(self, torrent: Torrent, directory: str) -> str:
        """Where the sums go; never over a file that is there, but for one that was asked for."""
        path = self.options.text("sums-file") or os.path.join(directory, "SHA256SUMS")
        if path != "-" and os.path.lexists(path) and not self.options["force"]:
            raise InputError(f"{path}: exists: give another with --sums-file FILE, or --force to replace it")
        return path

    def _tell(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)

    def _progress(self, done: int, total: int) -> None:
        from btfast.events import Progress

        now = time.monotonic()
        if now < self._next_progress:
            return
        self._next_progress = now + PROGRESS_INTERVAL
        rate = done / max(now - self.started, 0.001)
        self._tell(
            Progress(
                id=0, state="hashing", done=done, total=total, rate_down=rate, rate_up=0.0, peers=0, seeds=0,
                eta=(total - done) / rate if rate else None,
            )
        )  # fmt: skip
        for poll in self.poll:
            poll(now)

    def _tell_files(self, verdict: Verdict) -> None:
        from btfast.client.sources import shown
        from btfast.events import Checked

        for file in verdict.files:
            self._tell(
                Checked(
                    id=0, path=file.path, size=file.size, found=file.found, state=file.state, bad=file.bad,
                    missing=file.missing, reason=file.reason, sha256=file.sha256.hex() if file.sha256 else None,
                )
            )  # fmt: skip
        for path in verdict.extra:
            self._tell(Checked(id=0, path=shown(path), size=0, found=None, state="extra"))


def _complaint(source: str, verdict: Verdict) -> Error:
    wrong = [file for file in verdict.files if file.state != "good"]
    count = plural(len(wrong), "file")
    what = f"{source}: {count} of {len(verdict.files)} not good: "
    if any(file.state == "unreadable" for file in wrong):
        return StorageError(f"{what}some cannot be read: check the disk")
    pieces = sum(last - first + 1 for first, last in (*verdict.bad, *verdict.missing))
    return VerificationError(f"{what}{plural(pieces, 'piece')} bad or missing: --repair fetches them")


def _repair(source: str, directory: str, options: Options) -> int:
    """A download over what is there: every piece is looked at, and the wrong ones are fetched."""
    import msgspec

    from btfast.cli.run import Item, run_items
    from btfast.cli.settings import settings_of
    from btfast.metainfo.addresses import parse_host_port

    settings = msgspec.structs.replace(settings_of(options), check=True)
    peers = [parse_host_port(peer) for peer in options.texts("peer")]
    return run_items(settings, [Item(source, directory, peers)], options)
