"""A load's result as text: the table, the ratios to btfast, the goals and whether each is met."""

from __future__ import annotations

from collections.abc import Sequence

from bench.loads.base import Load
from bench.results import ClientSummary, Column, Goal, LoadResult, Sample, Summary

VERDICT = {True: "met", False: "MISSED", None: "not measured"}
OURS = "btfast"


def cell(summary: ClientSummary, column: Column) -> str:
    """`median (low-high)`, or just the median when there was one good run."""
    spread = summary.figures.get(column.key)
    if spread is None:
        return "-"
    median = f"{spread.median:.{column.digits}f}"
    if summary.good < 2:
        return median
    return f"{median} ({spread.low:.{column.digits}f}-{spread.high:.{column.digits}f})"


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of text as lines with columns of equal width, the first one flush left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return lines


def ratio_rows(load: Load, summary: Summary) -> list[list[str]]:
    """btfast's median over each peer's, for the columns that are charted."""
    columns = [column for column in load.columns if column.key in load.charted]
    rows = [["btfast over", *(column.title for column in columns)]]
    for name in summary.clients:
        ratios = [summary.ratio(column.key, OURS, name) for column in columns]
        if name != OURS and any(ratio is not None for ratio in ratios):
            rows.append([name, *("-" if ratio is None else f"{ratio:.2f}x" for ratio in ratios)])
    return rows


def goal_line(goal: Goal) -> str:
    value = "-" if goal.value is None else f"{goal.value:.3g}" if goal.value < 100 else f"{goal.value:.0f}"
    sign = ">=" if goal.at_least else "<="
    return f"  {VERDICT[goal.met]:<12} {goal.text}: {value} (goal {sign} {goal.bar:g})"


def sample_line(load: Load, sample: Sample) -> str:
    """One line of progress, printed as each run ends."""
    shown = [column for column in load.columns if column.key in sample.figures]
    said = ", ".join(f"{column.title} {sample.figures[column.key]:.{column.digits}f}" for column in shown)
    steal = f" [{sample.steal:.0%} stolen]" if sample.steal >= 0.02 else ""
    return f"  round {sample.round + 1} {sample.client}: {sample.failure or said}{steal}"


def table(load: Load, result: LoadResult, summary: Summary) -> str:
    """The whole report of one load."""
    rounds = max((sample.round for sample in result.samples), default=-1) + 1
    lines = [f"{load.name}: {result.about}; medians of {rounds} rounds (low-high)"]
    rows = [["", *(column.title for column in load.columns)]]
    good = [client for client in result.clients if client.good]
    rows += [[client.client, *(cell(client, column) for column in load.columns)] for client in good]
    if len(rows) > 1:
        lines += align(rows)
    for client in result.clients:
        if client.failures:
            failed, runs = len(client.failures), len(client.failures) + client.good
            lines.append(f"  {client.client}: {failed} of {runs} runs failed: {client.failures[0]}")
    lines += [f"  {name} was not measured: {reason}" for name, reason in result.missing.items()]
    ratios = ratio_rows(load, summary)
    if len(ratios) > 1:
        lines += ["", *align(ratios)]
    doubt = "" if load.full_size else " (they are meant for the load's own size)"
    lines += ["", f"goals{doubt}", *map(goal_line, result.goals)]
    return "\n".join(lines)
