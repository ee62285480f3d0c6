"""When to announce, to which tracker, and with which event (BEP 3, 12, 31). No clock, no socket: `now` comes in, in
seconds.

How it decides. Trackers stand in tiers, shuffled once inside a tier. Each announce walks them in order and takes the
first that is not resting after a failure: the next tier is reached only when all of a tier have failed. One that works
moves to the front of its tier. One announce is under way at a time; but a tracker that has not answered within
IMPATIENCE counts as failing until it does, and the more are silent, the less the next one is waited for: a list of dead
ones must not keep a download from its peers for minutes. Until one works, those that failed less often come first. A
private torrent (`sequential`) uses one tracker at a time whatever happens (BEP 27): there `patience` says how soon one
that was never heard is given up for the next, and those that answered an earlier run come first, whatever their tier.

Three times rule over the next announce:
- `_due`: the interval since the last success, or at once when something is to be said;
- a tracker's `rests_until`: after a failure, growing with each (BEP 31 `retry in` overrides it; "never" is infinite);
- a tracker's `least`: its `min interval`, which wanting more peers never undercuts. Events are sent without regard to
  it.

Events, per tracker: `started` until one announce succeeded; `completed` once, only to a tracker that heard `started`
before the torrent was complete; `stopped` to those that heard `started` or may have heard it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple, Protocol

from btfast.discovery.announce import AnnounceResponse
from btfast.errors import Error

FIRST_REST = 5.0
REFUSED_REST = 60.0
LONGEST_REST = 1800.0
MIN_INTERVAL = 60.0
"""Used where a tracker names no `min interval`."""
IMPATIENCE = 3.0
IMPATIENCE_AT_LEAST = 0.5
PATIENCE = 5.0
PATIENCE_AT_LEAST = 2.0
PATIENCE_AT_MOST = 15.0
SCHEMES = ("http", "https", "udp")


class Rng(Protocol):
    """What is needed of a random source."""

    def random(self) -> float: ...
    def shuffle(self, x: list[Tracker], /) -> None: ...


class Announce(NamedTuple):
    """One announce to make now; `event` as in BEP 3, None for a periodic one."""

    url: str
    event: str | None


class _Flight(NamedTuple):
    """An announce under way: since when, and whether it said that pieces are missing."""

    since: float
    said_missing: bool


class Tracker:
    """What is known of one tracker of one torrent. Read it; only the schedule writes."""

    __slots__ = (
        "completed",
        "failures",
        "heard",
        "last_error",
        "least",
        "owes_completed",
        "rests_until",
        "tracker_id",
        "url",
        "working",
    )

    def __init__(self, url: str) -> None:
        self.url = url
        self.heard = False  # it answered an announce, so it heard `started`
        self.owes_completed = False  # it heard `started` while pieces were missing
        self.completed = False
        self.working = False
        self.failures = 0
        self.rests_until = -math.inf
        self.least = -math.inf
        self.tracker_id: bytes | None = None
        self.last_error: str | None = None


class TrackerSchedule:
    """The announces of one torrent.

    `tiers` are the torrent's `announce-list`; repeated URLs are left out, and those of other schemes than `schemes`
    too, see `ignored`. `complete` says that nothing is missing at the start, so that `completed` is never sent. Of a tier,
    those in `first` come first: they answered an earlier run.
    """

    def __init__(
        self,
        tiers: Sequence[Sequence[str]],
        rng: Rng,
        now: float,
        *,
        complete: bool = False,
        sequential: bool = False,
        schemes: tuple[str, ...] = SCHEMES,
        first: Collection[str] = (),
    ) -> None:
        self._rng = rng
        self._sequential = sequential
        self._first = frozenset(first) if sequential else frozenset()
        self.ignored: list[str] = []
        self._tiers: list[list[Tracker]] = []
        self._by_url: dict[str, Tracker] = {}
        for urls in tiers:
            tier = []
            for text in urls:
                url = text.strip()
                if url in self._by_url:
                    continue
                if url.partition("://")[0].lower() not in schemes:
                    self.ignored.append(url)
                else:
                    tracker = self._by_url[url] = Tracker(url)
                    tier.append(tracker)
            if tier:
                rng.shuffle(tier)
                tier.sort(key=lambda tracker: tracker.url not in first)
                self._tiers.append(tier)
        self._complete = complete
        self._completed_at = now
        self._due = now
        self._flying: dict[Tracker, _Flight] = {}  # who is being asked
        self._stopped = False

    def __len__(self) -> int:
        return len(self._by_url)

    def trackers(self) -> Iterator[Tracker]:
        """All trackers in the order in which they are tried."""
        for tier in self._tiers:
            yield from tier

    def answered(self) -> list[str]:
        """URLs of those that have answered."""
        return [tracker.url for tracker in self._by_url.values() if tracker.heard]

    def tracker_id(self, url: str) -> bytes | None:
        """What the tracker wants to see as `trackerid`."""
        return self._by_url[url].tracker_id

    def patience(self, url: str) -> float | None:
        """Seconds that an answer is waited for where no other tracker may be asked meanwhile; None: for as long as is usual.

        The more have failed, the fewer; twice as many each time that this one has.
        """
        tracker = self._by_url[url]
        if not self._sequential or len(self._by_url) == 1 or tracker.heard:
            return None
        failing = sum(other.failures > 0 for other in self._by_url.values() if other is not tracker)
        seconds = max(PATIENCE / (1 + failing), PATIENCE_AT_LEAST) * 2.0 ** min(tracker.failures, 9)
        return seconds if seconds < PATIENCE_AT_MOST else None

    def all_failing(self) -> bool:
        """Whether every tracker failed its last announce and none is being asked: no peers will come soon."""
        return bool(self._by_url) and not self._flying and all(t.failures for t in self._by_url.values())

    def poll_announce(self, now: float) -> Announce | None:
        """The announce to make now, or None. Its outcome must be given to `handle_response` or `handle_failure`."""
        tracker, at = self._next(now)
        if tracker is None or at > now:
            return None
        self._flying[tracker] = _Flight(now, not self._complete)
        return Announce(tracker.url, self._event(tracker))

    def next_deadline(self) -> float | None:
        """When to poll again; None when there is nothing to wait for but an answer."""
        at = self._next(-math.inf)[1]
        return None if at == math.inf else at

    def handle_response(self, now: float, url: str, response: AnnounceResponse) -> None:
        """A tracker answered; an answer with a failure reason counts as a failure."""
        tracker, sent_missing = self._landed(url)
        if response.failure_reason is not None:
            self._failed(tracker, now, response.failure_reason, REFUSED_REST, response.retry_in)
            return
        if self._event(tracker) == "completed" and not sent_missing:
            tracker.completed = True
        if not tracker.heard:
            tracker.heard = True
            tracker.owes_completed = sent_missing
        tracker.working = True
        tracker.failures = 0
        tracker.last_error = None
        tracker.rests_until = -math.inf
        least = response.min_interval if response.min_interval is not None else min(MIN_INTERVAL, response.interval)
        tracker.least = now + least
        if response.tracker_id is not None:
            tracker.tracker_id = response.tracker_id
        self._promote(tracker)
        self._due = now + max(response.interval, least)

    def handle_failure(self, now: float, url: str, error: Error) -> None:
        """An announce failed: no answer, or none that can be read. The error's fact `retry_in`, seconds, is obeyed
        (HTTP Retry-After).
        """
        retry_in = error.facts.get("retry_in")
        self._failed(self._landed(url)[0], now, str(error), FIRST_REST, retry_in if isinstance(retry_in, float) else None)

    def handle_unsent(self, url: str) -> None:
        """An announce was given up before anything of it was sent."""
        self._landed(url)

    def handle_completed(self, now: float) -> None:
        """The last piece was verified in this session: those who heard `started` before hear `completed` at once."""
        if not self._complete:
            self._complete = True
            self._completed_at = now

    def handle_found_complete(self) -> None:
        """Nothing was missing after all: nobody is to hear `completed`."""
        self._complete = True
        self._flying = {tracker: flight._replace(said_missing=False) for tracker, flight in self._flying.items()}
        for tracker in self._by_url.values():
            tracker.owes_completed = False

    def handle_want_peers(self, now: float) -> None:
        """More peers are wanted than are known: announce as early as the tracker allows."""
        self._due = min(self._due, now)

    def poll_stopped(self) -> list[str]:
        """The trackers to tell `stopped`, once; no announce comes after."""
        if self._stopped:
            return []
        self._stopped = True
        flying, self._flying = self._flying, {}
        return [t.url for t in self._by_url.values() if t.heard or t in flying]

    def owes_completed(self, url: str) -> bool:
        """Whether this tracker is to hear `completed` before the end: not one that has just refused or missed it."""
        tracker = self._by_url[url]
        return self._event(tracker) == "completed" and not tracker.failures

    def _next(self, now: float) -> tuple[Tracker | None, float]:
        """The tracker whose turn is next, and when, not before `now`; (None, inf) when there is none."""
        if self._stopped or len(self._flying) == len(self._by_url) or (self._flying and self._sequential):
            return None, math.inf
        free = [tracker for tier in self._tiers for tracker in tier if tracker not in self._flying]
        if self._flying:
            patience = max(IMPATIENCE / len(self._flying), IMPATIENCE_AT_LEAST)
            now = max(now, patience + max(flight.since for flight in self._flying.values()))
        owing = [tracker for tracker in free if self._event(tracker) == "completed"] if self._complete else []
        first = min(owing, key=lambda tracker: tracker.rests_until) if owing else None
        at_first = max(now, self._completed_at, first.rests_until) if first is not None else math.inf
        at = max(now, self._due, min([tracker.rests_until for tracker in free]))
        if first is not None and at_first <= at:
            return first, at_first
        if at == math.inf:
            return None, math.inf
        ready = [tracker for tracker in free if tracker.rests_until <= at]
        if any(tracker.working for tracker in self._by_url.values()):
            tracker = ready[0]
        else:  # whoever was not asked yet comes before those that have failed, however often these are ready again
            tracker = min(ready, key=lambda tracker: (tracker.failures, tracker.url not in self._first))
        at = max(at, tracker.least)
        return (first, at_first) if at_first <= at else (tracker, at)

    def _event(self, tracker: Tracker) -> str | None:
        if not tracker.heard:
            return "started"
        if self._complete and tracker.owes_completed and not tracker.completed:
            return "completed"
        return None

    def _landed(self, url: str) -> tuple[Tracker, bool]:
        """Its announce has ended; also whether it said that pieces are missing."""
        tracker = self._by_url[url]
        flight = self._flying.pop(tracker, None)
        return tracker, flight is not None and flight.said_missing

    def _failed(self, tracker: Tracker, now: float, why: str, first_rest: float, retry_in: float | None) -> None:
        tracker.working = False
        tracker.failures += 1
        tracker.last_error = why
        if retry_in is None:
            rest = min(first_rest * 2.0 ** min(tracker.failures - 1, 20), LONGEST_REST)
            retry_in = rest * (0.75 + 0.5 * self._rng.random())
        tracker.rests_until = now + retry_in

    def _promote(self, tracker: Tracker) -> None:
        for tier in self._tiers:
            if tracker in tier:
                tier.remove(tracker)
                tier.insert(0, tracker)
                return
