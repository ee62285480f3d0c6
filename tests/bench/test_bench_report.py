"""From samples to medians, goals, tables and charts."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import chart, report
from bench.__main__ import parse_arguments
from bench.loads import LOADS
from bench.loads.base import CPU, SPEED, Scale, ratio_goal
from bench.metering import Reading
from bench.results import Goal, LoadResult, Sample, Summary

READING = Reading(0, 2, 0.5, 0.5, 0.9, 1e6, 2e6, 3, 0, 0, "", 0)


def sample(client: str, number: int, speed: float, cpu: float, failure: str | None = None) -> Sample:
    figures = {} if failure else {SPEED.key: speed, CPU.key: cpu}
    return Sample(client, number, failure, figures, READING, 0.0, 0.1)


SAMPLES = [
    *(sample("btfast", number, speed, 0.5) for number, speed in enumerate((1900, 2100, 1000))),
    *(sample("libtorrent-tuned", number, speed, 2.0) for number, speed in enumerate((700, 600, 650))),
    sample("aria2", 0, 0, 0, "exit code 1"),
]


def test_medians_ignore_failed_runs() -> None:
    summary = Summary(SAMPLES)
    assert summary.median("btfast", SPEED.key) == 1900
    assert summary.median("aria2", SPEED.key) is None
    assert summary.clients["aria2"].failures == ["exit code 1"]
    assert summary.ratio(SPEED.key, "btfast", "libtorrent-tuned") == pytest.approx(1900 / 650)
    assert summary.best(SPEED.key, ["libtorrent-tuned", "aria2"]) == "libtorrent-tuned"


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (Goal("speed", 2.5, 2.5, True), True),
        (Goal("speed", 2.4, 2.5, True), False),
        (Goal("cost", 0.35, 0.35, False), True),
        (Goal("cost", 0.36, 0.35, False), False),
        (Goal("cost", None, 0.35, False), None),
    ],
)
def test_goal_is_met_missed_or_not_measured(goal: Goal, met: bool | None) -> None:
    assert goal.met is met
    assert report.VERDICT[met] in report.goal_line(goal)


def test_ratio_goal_takes_its_direction_from_the_column() -> None:
    summary = Summary(SAMPLES)
    assert ratio_goal(summary, "speed", SPEED, "btfast", "libtorrent-tuned", 2.5).met
    assert ratio_goal(summary, "cost", CPU, "btfast", "libtorrent-tuned", 0.35).met
    assert ratio_goal(summary, "cost", CPU, "btfast", "floor", 1.8).met is None


def test_table_says_what_was_missing_and_what_failed(tmp_path: Path) -> None:
    load, summary = LOADS["flat"](Scale(), tmp_path), Summary(SAMPLES)
    missing = {"floor": "no C compiler"}
    result = LoadResult("flat", load.about, missing, SAMPLES, list(summary.clients.values()), load.goals(summary))
    text = report.table(load, result, summary)
    assert "1900 (1000-2100)" in text
    assert "floor was not measured: no C compiler" in text
    assert "aria2: 1 of 1 runs failed: exit code 1" in text
    assert "2.92x" in text


def test_chart_is_well_formed_and_names_every_client() -> None:
    drawn = chart.draw("flat <4 GiB>", list(Summary(SAMPLES).clients.values()), [SPEED, CPU])
    words = list(ElementTree.fromstring(drawn).itertext())
    assert {"btfast", "libtorrent-tuned", "aria2", "not measured", "flat <4 GiB>"} <= set(words)


def test_arguments_know_loads_clients_and_sizes() -> None:
    arguments = parse_arguments(["flat", "--size", "64M", "--only", "btfast,floor"])
    assert (arguments.loads, arguments.size, arguments.only) == (["flat"], 64 << 20, ["btfast", "floor"])


@pytest.mark.parametrize("words", [["flood"], ["--only", "utorrent"], ["--size", "3K"], ["--rounds", "0"]])
def test_unknown_names_and_sizes_are_usage_errors(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_arguments(words)
    assert ended.value.code == 2
    assert capsys.readouterr().err
