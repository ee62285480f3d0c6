"""Ways to show a run: JSON lines, plain lines, a log file. Results go to stdout, the rest to stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import BinaryIO, Protocol

import msgspec

from btfast.cli.streams import silence_stdout
from btfast.cli.text import duration, plural, printable, rate, size
from btfast.cli.totals import Totals
from btfast.errors import StorageError
from btfast.events import Checked, Complete, Event, Failed, Metadata, Peer, PieceFailed, Progress, Summary, Warning

LINK_SHOWN = 80  # characters of a magnet link
RANGES_SHOWN = 20  # of pieces, on one line
PLAIN_INTERVAL = 30.0  # seconds between lines of progress


class Reporter(Protocol):
    """Shows a run. Never raises. `lost`: results could not be written, and somebody may still wait for them."""

    @property
    def lost(self) -> bool: ...
    def handle_event(self, event: Event) -> None: ...
    def handle_log(self, text: str) -> None: ...
    def handle_note(self, text: str) -> None: ...
    def poll(self, now: float) -> None: ...
    def close(self) -> None: ...
    def abandon(self) -> None: ...


class Silent:
    """What most reporters do not do."""

    lost = False

    def handle_log(self, text: str) -> None:
        """Text from the network process's stderr."""

    def handle_note(self, text: str) -> None:
        """A line for whoever watches."""

    def poll(self, now: float) -> None:
        """Called a few times a second."""

    def close(self) -> None:
        """The run is over."""

    def abandon(self) -> None:
        """The process ends at once: leave the terminal as it was."""


class JsonReporter(Silent):
    """One object a line."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream: BinaryIO | None = stream
        self._encoder = msgspec.json.Encoder()

    def handle_event(self, event: Event) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(self._encoder.encode(event) + b"\n")
            self._stream.flush()
        except OSError as error:  # the download goes on, and the exit code still tells
            self._stream = None
            self.lost = silence_stdout(error)


class PlainReporter(Silent):
    """Lines for people."""

    def __init__(self, totals: Totals, *, quiet: bool, verbose: bool, results: bool, progress: bool) -> None:
        self._totals = totals
        self._quiet = quiet
        self._verbose = verbose
        self._results = results and not quiet
        self._progress = progress and not quiet
        self._next_line = time.monotonic() + PLAIN_INTERVAL
        self._interrupted: list[Failed] = []
        self.before_output: Callable[[], None] = lambda: None  # clears what is drawn where the line will stand

    def handle_event(self, event: Event) -> None:
        if isinstance(event, Failed):
            if event.kind == "InterruptedError":
                self._interrupted.append(event)  # one line for all of them, at the end
            else:
                self._note(f"btfast: error: {failure_line(event)}")
        elif isinstance(event, Complete) and self._results:
            self._result(complete_line(event))
        elif isinstance(event, Checked) and self._results:
            if event.state != "good" or self._verbose:
                self._result(checked_line(event))
        elif isinstance(event, Summary):
            if len(self._interrupted) == 1:
                self._note(f"btfast: error: {failure_line(self._interrupted[0])}")
            elif self._interrupted:
                self._note(f"btfast: error: {len(self._interrupted)} items: interrupted: run it again to go on")
            if self._results and event.items != 1:
                self._result(summary_line(event, self._totals))
        elif isinstance(event, Warning) and not self._quiet:
            self._note(f"btfast: warning: {printable(event.message)}")
        elif self._verbose and (line := detail_line(event)):
            self._note(f"btfast: {line}")

    def handle_log(self, text: str) -> None:
        if self._verbose:
            for line in text.splitlines():
                self._note(f"btfast: network process: {printable(line)}")

    def handle_note(self, text: str) -> None:
        if not self._quiet:
            self._note(f"btfast: {text}")

    def poll(self, now: float) -> None:
        if self._progress and now >= self._next_line:
            self._next_line = now + PLAIN_INTERVAL
            self._note(f"btfast: {progress_line(self._totals)}")

    def _result(self, line: str) -> None:
        self.before_output()
        try:
            print(line, flush=True)
        except OSError as error:
            self._results = False
            self.lost = silence_stdout(error)

    def _note(self, line: str) -> None:
        self.before_output()
        try:
            print(line, file=sys.stderr, flush=True)
        except OSError:
            self._quiet, self._verbose, self._progress = True, False, False


class LogReporter(Silent):
    """Appends what happens to a file. Raises StorageError when it cannot be opened."""

    def __init__(self, path: str, *, verbose: bool) -> None:
        self._verbose = verbose
        self._failed = False
        try:
            self._file = open(path, "a", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115
        except OSError as error:
            raise StorageError(f"{path}: log cannot be written: {error.strerror}: choose another file") from error

    def handle_event(self, event: Event) -> None:
        if isinstance(event, Failed):
            self._line("error", failure_line(event))
        elif isinstance(event, Complete):
            self._line("complete", complete_line(event))
        elif isinstance(event, Warning):
            self._line("warning", printable(event.message))
        elif isinstance(event, Summary):
            self._line("summary", f"{event.complete} of {event.items} complete, exit code {event.exit_code}")
        elif line := detail_line(event):
            self._line("detail", line)

    def handle_log(self, text: str) -> None:
        for line in text.splitlines():
            self._line("network", printable(line))

    def handle_note(self, text: str) -> None:
        self._line("note", text)

    def close(self) -> None:
        self._file.close()

    def _line(self, kind: str, text: str) -> None:
        try:
            self._file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {kind}: {text}\n")
        except OSError as error:
            if not self._failed:
                self._failed = True
                print(f"btfast: warning: log: cannot be written: {error.strerror}: the run goes on", file=sys.stderr)


LIMITS = {
    "peers": "limited by the peers",
    "web seeds": "limited by the web seeds",
    "disk": "limited by the disk",
    "hashing": "limited by hashing",
    "network process": "limited by the network process",
    "limit": "limited by a cap",
    "nothing to do": "nothing was left to fetch",
}


def complete_line(event: Complete) -> str:
    """`name: 4.00 GiB in 3.2 s, 1.25 GiB/s, limited by the disk`"""
    name = printable(event.name)
    served = f", {size(event.uploaded)} served" if event.uploaded else ""
    if not event.downloaded:
        if event.limited_by in ("hashing", "disk"):  # what is on disk was read and hashed, and no more than that
            pace = rate(event.bytes / event.seconds) if event.seconds else "at once"
            return f"{name}: {size(event.bytes)}, all good: checked in {duration(event.seconds)}, {pace}"
        return f"{name}: {size(event.bytes)}, complete{served}"
    limit = LIMITS.get(event.limited_by, f"limited by {event.limited_by}")
    return f"{name}: {size(event.bytes)} in {duration(event.seconds)}, {rate(event.rate)}, {limit}{served}"


STATES = {
    "wrong_size": "wrong size",
    "not_a_file": "not a file",
    "unverified": "cannot be verified",
    "unfinished": "unfinished, still .part",
}


def checked_line(event: Checked) -> str:
    """`path: bad: pieces 3, 17-20`"""
    parts = [printable(event.path), STATES.get(event.state, event.state)]
    if event.reason:
        parts.append(printable(event.reason))
    if event.bad:
        parts.append(f"bad pieces {piece_ranges(event.bad)}")
    if event.missing and event.state != "missing":
        parts.append(f"pieces not all there {piece_ranges(event.missing)}")
    return ": ".join(parts)


def piece_ranges(runs: Sequence[tuple[int, int]]) -> str:
    """`3, 17-20`, of many the first ones."""
    shown = [str(first) if first == last else f"{first}-{last}" for first, last in runs[:RANGES_SHOWN]]
    more = len(runs) - len(shown)
    return ", ".join(shown) + (f" and {more} more runs" if more else "")


def failure_line(event: Failed) -> str:
    """The error, with the source in front where it does not name it; a long magnet link is cut."""
    source, error = printable(event.source), printable(event.error)
    if source[:7].lower() == "magnet:":
        short = f"{source[:LINK_SHOWN]}..." if len(source) > LINK_SHOWN else source
        return error if error.startswith("magnet ") else f"{short}: {error.removeprefix(f'{source}: ')}"
    return error if source in error else f"{source}: {error}"


def summary_line(event: Summary, totals: Totals) -> str:
    done = f"{event.complete} of {plural(event.items, 'item')} complete"
    failed = f", {event.failed} failed" if event.failed else ""
    if not event.downloaded:
        return f"{done}{failed}"
    pace = rate(event.downloaded / event.seconds) if event.seconds else "at once"
    limit = LIMITS.get(totals.limited_by, f"limited by {totals.limited_by}")
    return f"{done}{failed}: {size(event.downloaded)} in {duration(event.seconds)}, {pace}, {limit}"


def reads_only(progress: Progress) -> bool:
    """Whether data on disk is read and hashed, and no peer has a part in it; its rate is that of reading."""
    return progress.state == "hashing"


def progress_line(totals: Totals) -> str:
    """Where the run stands, on one line."""
    active = totals.active.values()
    parts = []
    if totals.items > 1:
        parts.append(f"{totals.complete + totals.failed} of {totals.items} items ended")
    done, total = sum(p.done for p in active), sum(p.total for p in active)
    if total:
        parts.append(f"{100 * done / total:.1f}% of {size(total)}")
    if active and all(reads_only(p) for p in active):
        parts.append(rate(sum(p.rate_down for p in active)))
    else:
        parts.append(f"{rate(sum(p.rate_down for p in active))} down, {rate(sum(p.rate_up for p in active))} up")
        web_seeds = sum(p.web_seeds for p in active)
        seeds = f", {plural(web_seeds, 'web seed')}" if web_seeds else ""
        parts.append(plural(sum(p.peers for p in active), "peer") + seeds)
    etas = [p.eta for p in active if p.eta is not None]
    if etas and totals.items == 1:
        parts.append(f"{duration(max(etas))} left")
    return ", ".join(parts)


def detail_line(event: Event) -> str:
    """For -v and the log: one line about an event, empty for those that have none."""
    if isinstance(event, Metadata):
        files = plural(event.files, "file")
        return f"{printable(event.name)}: {files}, {size(event.size)}, info-hash {event.info_hash}"
    if isinstance(event, Peer):
        client = f" {printable(event.client)}" if event.client else ""
        return f"peer {event.address}{client}: {event.change}: {printable(event.reason)}".removesuffix(": ")
    if isinstance(event, PieceFailed):
        return f"piece {event.index}: wrong data from {', '.join(event.peers) or 'nobody known'}: fetched again"
    return ""
