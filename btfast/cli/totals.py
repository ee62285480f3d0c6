"""Sums over a run, kept from its events: for the displays, the last line and the exit code."""

from __future__ import annotations

from collections import Counter

from btfast.events import Complete, Event, Failed, Metadata, Progress, Summary


class Totals:
    """Where a run of `items` items stands."""

    def __init__(self, items: int) -> None:
        self.items = items
        self.complete = 0
        self.failed = 0
        self.names: dict[int, str] = {}
        self.active: dict[int, Progress] = {}  # the latest of each item under way
        self.limits: Counter[str] = Counter()  # seconds by what limited the items
        self._bytes = self._downloaded = self._uploaded = 0
        self._exit_code = 0

    def handle_event(self, event: Event) -> None:
        if isinstance(event, Progress):
            self.active[event.id] = event
        elif isinstance(event, Metadata):
            self.names[event.id] = event.name
        elif isinstance(event, Complete):
            self.complete += 1
            self._bytes += event.bytes
            self._downloaded += event.downloaded
            self._uploaded += event.uploaded
            self.limits[event.limited_by] += round(event.seconds * 1000) + 1
            self._forget(event.id)
        elif isinstance(event, Failed):
            self.failed += 1
            self._exit_code = max(self._exit_code, event.exit_code)
            self._forget(event.id)

    @property
    def limited_by(self) -> str:
        """What limited the items for most of their time."""
        return self.limits.most_common(1)[0][0] if self.limits else "nothing to do"

    def summary(self, seconds: float, exit_code: int) -> Summary:
        """The last event; its exit code is the highest of `exit_code` and every item's."""
        return Summary(
            items=self.items,
            complete=self.complete,
            failed=self.failed,
            bytes=self._bytes,
            downloaded=self._downloaded,
            uploaded=self._uploaded,
            seconds=seconds,
            exit_code=max(self._exit_code, exit_code),
        )

    def _forget(self, number: int) -> None:
        self.active.pop(number, None)
        self.names.pop(number, None)
