"""Progress on a terminal: a bar for each active torrent, as many as fit, and for a list an overall line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btfast.cli.report import PlainReporter, reads_only
from btfast.cli.text import duration, plural, printable, rate, size
from btfast.cli.totals import Totals
from btfast.events import Event, Progress

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

SHOWN = 8  # torrents with a bar of their own


class Bars:
    """Draws on stderr; results and warnings pass through `plain`, above the bars. Rich is loaded when first needed."""

    def __init__(self, totals: Totals, plain: PlainReporter) -> None:
        self._totals = totals
        self._plain = plain
        self._live: Live | None = None
        self._stale = False
        plain.before_output = self._clear

    @property
    def lost(self) -> bool:
        return self._plain.lost

    def handle_event(self, event: Event) -> None:
        self._stale = True
        self._plain.handle_event(event)

    def handle_log(self, text: str) -> None:
        self._plain.handle_log(text)

    def handle_note(self, text: str) -> None:
        self._plain.handle_note(text)

    def poll(self, now: float) -> None:
        if not self._stale or not self._totals.active:
            return
        self._stale = False
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                console=Console(stderr=True),
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,  # results go to stdout, wherever that leads
                redirect_stderr=False,
            )
            self._live.start()
        self._live.update(self._render(), refresh=True)

    def close(self) -> None:
        self._clear()
        self._plain.close()

    def abandon(self) -> None:
        self._clear()

    def _clear(self) -> None:
        """Takes the bars away; the next poll draws them again."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            self._stale = True

    def _render(self) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        totals = self._totals
        table = Table.grid(padding=(0, 1))
        table.add_column(max_width=40, no_wrap=True, overflow="ellipsis")
        table.add_column(width=24)
        for _ in range(4):
            table.add_column(justify="right", no_wrap=True)

        def row(name: str, done: int, total: int, *cells: str) -> None:
            bar = ProgressBar(total=max(total, 1), completed=done, width=24)
            table.add_row(Text(name), bar, *(Text(cell) for cell in cells))

        busy = sorted(totals.active.items(), key=lambda pair: (pair[1].state == "queued", pair[0]))
        for number, progress in busy[:SHOWN]:
            row(printable(totals.names.get(number, f"item {number}")), progress.done, progress.total, *_cells(progress))
        if totals.items > 1:
            ended = totals.complete + totals.failed
            active = totals.active.values()
            row(
                f"{ended} of {totals.items} items",
                ended,
                totals.items,
                rate(sum(p.rate_down for p in active)),
                plural(sum(p.peers for p in active), "peer"),
                f"{totals.failed} failed" if totals.failed else "",
                f"{len(busy) - SHOWN} more active" if len(busy) > SHOWN else "",
            )
        return table


def _cells(progress: Progress) -> tuple[str, str, str, str]:
    if progress.state == "seeding":
        return rate(progress.rate_up), plural(progress.peers, "peer"), f"{size(progress.uploaded)} served", "seeding"
    percent = f"{100 * progress.done / progress.total:.1f}%" if progress.total else ""
    left = duration(progress.eta) if progress.eta is not None else ""
    if reads_only(progress):
        return rate(progress.rate_down), "", percent, left
    state = left if progress.state == "downloading" else progress.state
    return rate(progress.rate_down), plural(progress.peers, "peer"), percent, state
