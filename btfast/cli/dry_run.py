"""`btfast get --dry-run`: what would be downloaded, and where to."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

from btfast.cli.options import Options
from btfast.cli.report import JsonReporter, Reporter, failure_line
from btfast.cli.run import Item
from btfast.cli.text import file_line, plural, printable, size
from btfast.cli.totals import Totals
from btfast.client.download import failed_of
from btfast.client.sources import absolute_directory, is_url, magnet_uri, read_torrent, shown, stat_torrent
from btfast.engine.finished import metadata_of
from btfast.errors import Error
from btfast.events import Added, Metadata
from btfast.metainfo.selection import Selection, Wanted
from btfast.metainfo.torrent import Torrent


def dry_run(items: Sequence[Item], options: Options) -> int:
    """Reads every source and says what a run would do. Returns the highest exit code of those that cannot be used."""
    started = time.monotonic()
    totals = Totals(len(items))
    reporters: list[Reporter] = [JsonReporter(sys.stdout.buffer)] if options["json"] else []
    speak = not options["json"] and not options["quiet"]
    for number, item in enumerate(items):
        source = os.fspath(item.source) if isinstance(item.source, (str, os.PathLike)) else ""
        label = shown(source)
        try:
            where = absolute_directory(item.directory)
            if is_url(source) or magnet_uri(source):
                _tell(reporters, Added(id=number, source=label, directory=where))
                if speak:
                    print(f"{printable(label)}: would be fetched, its files into {printable(where)}")
                continue
            stat_torrent(source)
            torrent = Torrent.parse(read_torrent(source))
            selection = Selection(torrent, Wanted.of(**item.wanted))
        except Error as error:
            failed = failed_of(number, label, error)
            totals.handle_event(failed)
            _tell(reporters, failed)
            print(f"btfast: error: {failure_line(failed)}", file=sys.stderr)
            continue
        _tell(reporters, Added(id=number, source=label, directory=where))
        _tell(reporters, metadata_of(number, torrent, selection))
        if speak:
            _say(torrent, selection, where, every=bool(options["verbose"]))
    summary = totals.summary(time.monotonic() - started, 0)
    _tell(reporters, summary)
    return summary.exit_code


def _say(torrent: Torrent, selection: Selection, where: str, *, every: bool) -> None:
    """A line of what would be fetched; with `every` one more for each file."""
    files = torrent.files
    wanted = selection.files
    count = sum(not file.pad for file in files)
    total = sum(files[number].length for number in wanted)
    what = plural(count, "file") if len(wanted) == count else f"{len(wanted)} of {plural(count, 'file')}"
    print(f"{printable(torrent.name)}: {size(total)} in {what}, into {printable(os.path.join(where, torrent.name))}")
    if every:
        for number in wanted:
            print(file_line(number, files[number].length, str(torrent.file_path(number))))


def _tell(reporters: Sequence[Reporter], event: Added | Metadata | object) -> None:
    for reporter in reporters:
        reporter.handle_event(event)  # type: ignore[arg-type]
