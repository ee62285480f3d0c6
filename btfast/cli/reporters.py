"""Which ways of showing a run are chosen."""

from __future__ import annotations

import os
import sys

from btfast.cli.bars import Bars
from btfast.cli.options import Options
from btfast.cli.report import JsonReporter, LogReporter, PlainReporter, Reporter
from btfast.cli.totals import Totals


def reporters_of(options: Options, totals: Totals) -> list[Reporter]:
    """How this run shows itself: JSON or lines on stdout, bars or lines on stderr, a log."""
    chosen: list[Reporter] = []
    quiet, verbose = bool(options["quiet"]), bool(options["verbose"])
    if options["json"]:
        chosen.append(JsonReporter(sys.stdout.buffer))
    bars = sys.stderr.isatty() and not quiet and os.environ.get("TERM") != "dumb"
    bars = bars and not (options["json"] and sys.stdout.isatty())
    plain = PlainReporter(totals, quiet=quiet, verbose=verbose, results=not options["json"], progress=not bars)
    if bars:
        chosen.append(Bars(totals, plain))
    else:
        chosen.append(plain)
    if path := options.text("log"):
        chosen.append(LogReporter(path, verbose=verbose))
    return chosen
