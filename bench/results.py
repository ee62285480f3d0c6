"""Samples, what they come to, and the goals they are held against."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from bench.metering import Reading


class Sample(msgspec.Struct, frozen=True):
    """One run of one client. `figures` are named in the load's columns; they are empty when the run failed."""

    client: str
    round: int
    failure: str | None
    figures: dict[str, float]
    reading: Reading
    steal: float  # share of the machine's CPU time that the host gave to others during the run
    load_average: float  # just before the run


class Column(NamedTuple):
    """A figure of a load: its key in Sample.figures, heading, digits after the point, and which way is better."""

    key: str
    title: str
    digits: int
    better: Literal["more", "less"]


class Spread(msgspec.Struct, frozen=True):
    median: float
    low: float
    high: float


class ClientSummary(msgspec.Struct, frozen=True):
    """One client's figures over all good rounds, and why the other rounds failed."""

    client: str
    good: int
    failures: list[str]
    figures: dict[str, Spread]


class Goal(msgspec.Struct, frozen=True):
    """One bar: `value` is None when something it needs was not measured."""

    text: str
    value: float | None
    bar: float
    at_least: bool

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.bar if self.at_least else self.value <= self.bar


class Summary:
    """All clients' medians of one load."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.clients: dict[str, ClientSummary] = {}
        for name in dict.fromkeys(sample.client for sample in samples):
            mine = [sample for sample in samples if sample.client == name]
            good = [sample.figures for sample in mine if sample.failure is None]
            keys = dict.fromkeys(key for figures in good for key in figures)
            spreads = {key: _spread([figures[key] for figures in good if key in figures]) for key in keys}
            failures = [sample.failure for sample in mine if sample.failure is not None]
            self.clients[name] = ClientSummary(name, len(good), failures, spreads)

    def median(self, client: str, key: str) -> float | None:
        summary = self.clients.get(client)
        spread = summary.figures.get(key) if summary else None
        return spread.median if spread else None

    def ratio(self, key: str, client: str, other: str) -> float | None:
        """Median of `client` over median of `other`."""
        mine, theirs = self.median(client, key), self.median(other, key)
        return mine / theirs if mine is not None and theirs else None

    def best(self, key: str, clients: Sequence[str]) -> str | None:
        """Which of the clients has the largest median."""
        measured = [(value, name) for name in clients if (value := self.median(name, key)) is not None]
        return max(measured)[1] if measured else None


def _spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


class LoadResult(msgspec.Struct, frozen=True):
    """Everything about one load, as it goes into the JSON file."""

    load: str
    about: str
    missing: dict[str, str]
    samples: list[Sample]
    clients: list[ClientSummary]
    goals: list[Goal]
