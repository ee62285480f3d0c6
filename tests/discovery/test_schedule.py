from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btfast.discovery.announce import AnnounceResponse
from btfast.discovery.schedule import FIRST_REST, IMPATIENCE, LONGEST_REST, MIN_INTERVAL, TrackerSchedule
from btfast.errors import RemoteError

OK = AnnounceResponse(interval=1800.0)
A, B, C, D = "http://a/announce", "http://b/announce", "https://c/announce", "http://d/announce"
DOWN = RemoteError("tracker http://a: connection refused: try again later")


class Unshuffled(random.Random):
    """Keeps the order, so that a test can name who comes first; jitter is in the middle of its range."""

    def shuffle(self, x: object) -> None:  # type: ignore[override]
        pass

    def random(self) -> float:
        return 0.5


def schedule(*tiers: list[str], now: float = 0.0, complete: bool = False) -> TrackerSchedule:
    return TrackerSchedule(tiers, Unshuffled(), now, complete=complete)


def test_first_announce_is_started_at_once_then_periodic() -> None:
    s = schedule([A])
    assert s.next_deadline() == 0.0
    assert s.poll_announce(0.0) == (A, "started")
    assert s.poll_announce(0.0) is None
    assert s.next_deadline() is None
    s.handle_response(1.0, A, OK)
    assert s.next_deadline() == 1801.0
    assert s.poll_announce(1800.9) is None
    assert s.poll_announce(1801.0) == (A, None)


def test_who_answered_an_earlier_run_comes_first_in_its_tier() -> None:
    s = TrackerSchedule([[A, B], [C, D]], Unshuffled(), 0.0, first=[D, B])
    assert [tracker.url for tracker in s.trackers()] == [B, A, D, C]
    assert s.answered() == []
    assert s.poll_announce(0.0) == (B, "started")
    s.handle_response(1.0, B, OK)
    assert s.answered() == [B]


def test_a_slow_tracker_does_not_keep_us_from_the_next() -> None:
    s = schedule([A], [B], [C])
    assert s.poll_announce(0.0) == (A, "started")
    assert s.next_deadline() == IMPATIENCE
    assert s.poll_announce(2.9) is None
    assert s.poll_announce(3.0) == (B, "started")
    assert s.poll_announce(3.1) is None
    s.handle_failure(4.0, B, DOWN)
    assert s.poll_announce(4.0) == (C, "started")
    s.handle_response(5.0, C, OK)
    assert s.poll_announce(50.0) is None
    s.handle_response(51.0, A, OK)
    assert s.next_deadline() == 1851.0
    assert s.poll_stopped() == [A, C]


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("silence", [0.0, 15.0])
def test_dead_trackers_before_the_one_that_lives_cost_seconds(sequential: bool, silence: float) -> None:
    """Each has its first turn before those that have failed get their second."""
    dead = [f"http://{number}/announce" for number in range(20)]
    s = TrackerSchedule([[url] for url in [*dead, A]], Unshuffled(), 0.0, sequential=sequential)
    now, asked, failing = 0.0, [], []
    while A not in asked:
        while failing and failing[0][0] <= now:
            s.handle_failure(*failing.pop(0), DOWN)
        if (announce := s.poll_announce(now)) is not None:
            asked.append(announce.url)
            failing.append((now + silence, announce.url))
        else:
            times = [s.next_deadline(), failing[0][0] if failing else None]
            now = min(time for time in times if time is not None)
    assert now <= (0.0 if not silence else 20 * silence if sequential else 15.0)
    assert asked.count(A) == 1
    assert len(set(asked)) == 21
    assert sequential or len(asked) == 21


def test_an_announce_is_not_repeated_while_one_is_under_way() -> None:
    s = schedule([A])
    assert s.poll_announce(0.0) == (A, "started")
    s.handle_want_peers(1.0)
    s.handle_completed(1.0)
    assert s.poll_announce(1000.0) is None
    assert s.next_deadline() is None


def test_a_private_torrent_waits_for_its_slow_tracker() -> None:
    s = TrackerSchedule([[A], [B]], Unshuffled(), 0.0, sequential=True)
    assert s.poll_announce(0.0) == (A, "started")
    assert s.next_deadline() is None
    assert s.poll_announce(100.0) is None
    s.handle_failure(100.0, A, DOWN)
    assert s.poll_announce(100.0) == (B, "started")


def asked_in_turn(s: TrackerSchedule, answers_after: dict[str, float], until: float) -> list[tuple[float, str]]:
    """Who is asked when by a private torrent whose trackers answer after so many seconds, or never."""
    now, asked = 0.0, []
    while now < until:
        announce = s.poll_announce(now)
        if announce is None:
            deadline = s.next_deadline()
            assert deadline is not None
            assert deadline > now
            now = deadline
            continue
        asked.append((now, announce.url))
        assert s.poll_announce(now) is None, "two are asked at a time"
        patience = s.patience(announce.url) or 15.0
        seconds = answers_after.get(announce.url, math.inf)
        now += min(patience, seconds)
        if seconds > patience:
            s.handle_failure(now, announce.url, DOWN)
        else:
            s.handle_response(now, announce.url, OK)
            return asked
    return asked


def test_a_private_torrent_soon_reaches_the_tracker_that_lives_behind_silent_ones() -> None:
    urls = [f"http://tracker{number}.example/announce" for number in range(13)]
    s = TrackerSchedule([[url] for url in urls], Unshuffled(), 0.0, sequential=True)
    asked = asked_in_turn(s, {urls[-1]: 1.0}, 1000.0)
    assert [url for _, url in asked] == urls
    assert asked[-1][0] < 30.0
    assert s.patience(urls[-1]) is None, "it has answered"


def test_a_private_torrent_waits_longer_each_time_for_trackers_that_are_slow() -> None:
    s = TrackerSchedule([[A], [B], [C]], Unshuffled(), 0.0, sequential=True)
    asked = asked_in_turn(s, dict.fromkeys((A, B, C), 12.0), 1000.0)
    assert s.answered() == [asked[-1][1]]
    assert asked[-1][0] < 120.0


def test_a_tracker_without_others_is_waited_for_as_long_as_is_usual() -> None:
    assert TrackerSchedule([[A]], Unshuffled(), 0.0, sequential=True).patience(A) is None
    assert schedule([A], [B]).patience(A) is None


def test_the_tracker_that_answered_an_earlier_run_of_a_private_torrent_is_asked_before_other_tiers() -> None:
    s = TrackerSchedule([[A], [B], [C]], Unshuffled(), 0.0, sequential=True, first=[C])
    assert s.poll_announce(0.0) == (C, "started")
    s.handle_failure(5.0, C, DOWN)
    assert s.poll_announce(5.0) == (A, "started")


def test_completed_goes_to_another_while_one_is_slow() -> None:
    s = schedule([A], [B])
    s.poll_announce(0.0)
    s.poll_announce(3.0)
    s.handle_response(4.0, B, OK)
    s.handle_completed(4.5)
    assert not s.owes_completed(A)
    assert s.owes_completed(B)
    assert s.poll_announce(4.5) == (B, "completed")
    s.handle_response(7.0, B, OK)
    s.handle_response(7.0, A, OK)
    assert s.poll_announce(7.0) == (A, "completed"), "it was told that pieces are missing"


def test_trackers_of_other_schemes_and_repeats_are_left_out() -> None:
    s = schedule(["wss://x", A, " " + A, "udp://y:1"], [A, B, "i2p://z"], [])
    assert [t.url for t in s.trackers()] == [A, "udp://y:1", B]
    assert len(s) == 3
    assert s.ignored == ["wss://x", "i2p://z"]


def test_nothing_to_do_without_trackers() -> None:
    s = schedule(["wss://x"])
    assert s.poll_announce(5.0) is None
    assert s.next_deadline() is None
    assert not s.all_failing()
    assert s.poll_stopped() == []


def test_tiers_are_shuffled_inside_once_and_stay_in_order() -> None:
    tier = [f"http://{n}/announce" for n in range(20)]
    s = TrackerSchedule([tier, [A, B]], random.Random(1), 0.0)
    order = [t.url for t in s.trackers()]
    assert order[:20] != tier
    assert sorted(order[:20]) == sorted(tier)
    assert set(order[20:]) == {A, B}
    assert [t.url for t in s.trackers()] == order


def test_next_tier_only_after_all_of_a_tier_failed() -> None:
    s = schedule([A, B], [C])
    seen = []
    for now in (0.0, 1.0, 2.0):
        announce = s.poll_announce(now)
        assert announce is not None
        seen.append(announce.url)
        if announce.url != C:
            s.handle_failure(now, announce.url, DOWN)
    assert seen == [A, B, C]


def test_the_one_that_works_is_promoted_in_its_tier() -> None:
    s = schedule([A, B, C], [D])
    for url in (A, B):
        assert s.poll_announce(0.0) == (url, "started")
        s.handle_failure(0.0, url, DOWN)
    assert s.poll_announce(0.0) == (C, "started")
    s.handle_response(0.0, C, OK)
    assert [t.url for t in s.trackers()] == [C, A, B, D]
    assert s.poll_announce(1800.0) == (C, None)


def test_a_working_backup_tier_yields_to_the_first_when_that_is_back() -> None:
    s = schedule([A], [B])
    s.poll_announce(0.0)
    s.handle_failure(0.0, A, DOWN)
    assert s.poll_announce(0.0) == (B, "started")
    s.handle_response(0.0, B, OK)
    assert s.next_deadline() == 1800.0
    assert s.poll_announce(1800.0) == (A, "started")
    s.handle_response(1800.0, A, OK)
    assert s.poll_announce(3600.0) == (A, None)


def test_failures_rest_longer_each_time_up_to_a_limit() -> None:
    s = schedule([A])
    now = 0.0
    rests = []
    for _ in range(15):
        assert s.poll_announce(now) == (A, "started")
        s.handle_failure(now, A, DOWN)
        assert s.all_failing()
        deadline = s.next_deadline()
        assert deadline is not None
        assert s.poll_announce(deadline - 0.001) is None
        rests.append(deadline - now)
        now = deadline
    assert rests[0] == FIRST_REST
    assert rests[1] == 2 * FIRST_REST
    assert rests == sorted(rests)
    assert rests[-1] == LONGEST_REST


def test_rests_are_jittered() -> None:
    rests = set()
    for seed in range(20):
        s = TrackerSchedule([[A]], random.Random(seed), 0.0)
        s.poll_announce(0.0)
        s.handle_failure(0.0, A, DOWN)
        deadline = s.next_deadline()
        assert deadline is not None
        assert 0.75 * FIRST_REST <= deadline <= 1.25 * FIRST_REST
        rests.add(deadline)
    assert len(rests) > 10


def test_success_forgets_failures() -> None:
    s = schedule([A])
    s.poll_announce(0.0)
    s.handle_failure(0.0, A, DOWN)
    s.poll_announce(10.0)
    s.handle_response(10.0, A, OK)
    assert not s.all_failing()
    s.poll_announce(1810.0)
    s.handle_failure(1810.0, A, DOWN)
    assert s.next_deadline() == 1810.0 + FIRST_REST


def test_retry_in_is_obeyed() -> None:
    s = schedule([A])
    s.poll_announce(0.0)
    s.handle_response(0.0, A, AnnounceResponse(failure_reason="overloaded", retry_in=1200.0))
    assert s.next_deadline() == 1200.0
    s.handle_want_peers(10.0)
    assert s.poll_announce(1199.0) is None
    assert s.poll_announce(1200.0) == (A, "started")


def test_retry_after_of_http_is_obeyed() -> None:
    s = schedule([A])
    s.poll_announce(0.0)
    s.handle_failure(0.0, A, RemoteError("tracker: HTTP 503: try again later", status=503, retry_in=77.0))
    assert s.next_deadline() == 77.0


def test_retry_never_ends_a_tracker() -> None:
    s = schedule([A], [B])
    s.poll_announce(0.0)
    s.handle_response(0.0, A, AnnounceResponse(failure_reason="go away", retry_in=math.inf))
    assert s.poll_announce(0.0) == (B, "started")
    s.handle_response(0.0, B, AnnounceResponse(failure_reason="go away", retry_in=math.inf))
    assert s.next_deadline() is None
    assert s.poll_announce(1e9) is None
    assert s.all_failing()
    assert [t.last_error for t in s.trackers()] == ["go away", "go away"]


def test_wanting_peers_announces_early_but_not_before_min_interval() -> None:
    s = schedule([A], [B])
    s.poll_announce(0.0)
    s.handle_response(0.0, A, AnnounceResponse(interval=1800.0, min_interval=300.0))
    s.handle_want_peers(10.0)
    assert s.next_deadline() == 300.0
    assert s.poll_announce(299.0) is None  # and tier 2 is not asked instead
    assert s.poll_announce(300.0) == (A, None)


def test_a_tracker_without_min_interval_is_asked_once_a_minute_at_most() -> None:
    s = schedule([A])
    s.poll_announce(0.0)
    s.handle_response(0.0, A, OK)
    s.handle_want_peers(1.0)
    assert s.next_deadline() == MIN_INTERVAL


def test_completed_is_sent_at_once_and_once() -> None:
    s = schedule([A])
    s.poll_announce(0.0)
    s.handle_response(0.0, A, AnnounceResponse(interval=1800.0, min_interval=900.0))
    s.handle_completed(20.0)
    assert s.next_deadline() == 20.0
    assert s.poll_announce(20.0) == (A, "completed")
    s.handle_response(20.0, A, OK)
    s.handle_completed(21.0)
    assert s.next_deadline() == 1820.0
    assert s.poll_announce(1820.0) == (A, None)


def test_completed_while_started_is_under_way_follows_it() -> None:
    s = schedule([A])
    assert s.poll_announce(0.0) == (A, "started")
    s.handle_completed(1.0)
    s.handle_response(2.0, A, OK)
    assert s.poll_announce(2.0) == (A, "completed")
    s.handle_response(3.0, A, OK)
    assert s.poll_announce(1803.0) == (A, None)


def test_completed_while_a_periodic_announce_is_under_way_follows_it() -> None:
    s = schedule([A])
    s.poll_announce(0.0)
    s.handle_response(0.0, A, OK)
    assert s.poll_announce(1800.0) == (A, None)
    s.handle_completed(1800.5)
    s.handle_response(1801.0, A, OK)
    assert s.poll_announce(1801.0) == (A, "completed")


def test_a_lost_completed_is_sent_again_after_a_rest() -> None:
    s = schedule([A])
    s.poll_announce(0.0)
    s.handle_response(0.0, A, OK)
    s.handle_completed(1.0)
    assert s.poll_announce(1.0) == (A, "completed")
    s.handle_failure(1.0, A, DOWN)
    assert s.poll_announce(1.0) is None
    deadline = s.next_deadline()
    assert deadline == 1.0 + FIRST_REST
    assert s.poll_announce(deadline) == (A, "completed")


def test_a_seed_never_sends_completed() -> None:
    s = schedule([A], complete=True)
    assert s.poll_announce(0.0) == (A, "started")
    s.handle_completed(0.5)
    s.handle_response(1.0, A, OK)
    assert s.next_deadline() == 1801.0


def test_a_tracker_first_heard_of_us_as_complete_gets_no_completed() -> None:
    s = schedule([A], [B])
    s.poll_announce(0.0)
    s.handle_response(0.0, A, OK)
    s.poll_announce(1800.0)
    s.handle_failure(1800.0, A, DOWN)
    s.handle_completed(1801.0)
    assert s.poll_announce(1801.0) == (B, "started")
    s.handle_response(1801.0, B, OK)
    seen = Counter()
    now = 1801.0
    for _ in range(4):
        now = s.next_deadline() or now
        announce = s.poll_announce(now)
        assert announce is not None
        seen[announce] += 1
        s.handle_response(now, announce.url, OK)
    assert seen[(A, "completed")] == 1
    assert seen[(B, "completed")] == 0


def test_stopped_goes_to_those_who_heard_started_once() -> None:
    s = schedule([A], [B], [C])
    s.poll_announce(0.0)
    s.handle_failure(0.0, A, DOWN)
    s.poll_announce(0.0)
    s.handle_response(0.0, B, OK)
    assert s.poll_stopped() == [B]
    assert s.poll_stopped() == []
    assert s.poll_announce(1e6) is None
    assert s.next_deadline() is None


def test_stopped_goes_to_one_that_may_have_heard_started() -> None:
    s = schedule([A])
    s.poll_announce(0.0)
    assert s.poll_stopped() == [A]
    s.handle_response(1.0, A, OK)  # the answer comes too late to matter
    assert s.poll_announce(1e6) is None


def test_tracker_id_is_kept_until_a_new_one_comes() -> None:
    s = schedule([A])
    assert s.tracker_id(A) is None
    s.poll_announce(0.0)
    s.handle_response(0.0, A, AnnounceResponse(tracker_id=b"one"))
    s.poll_announce(1800.0)
    s.handle_response(1800.0, A, OK)
    assert s.tracker_id(A) == b"one"


@pytest.mark.parametrize("wanting", [False, True])
@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), finish=st.one_of(st.none(), st.floats(0, 20_000)))
def test_a_day_of_any_luck_keeps_the_rules(wanting: bool, seed: int, finish: float | None) -> None:
    """Drives a schedule on a virtual clock with trackers that fail, refuse and answer at random."""
    rng = random.Random(seed)
    s = TrackerSchedule([[A, B], [C, D]], rng, 0.0)
    now = 0.0
    answered: Counter[tuple[str, str | None]] = Counter()
    not_before: dict[str, float] = {}
    never: set[str] = set()
    for _ in range(300):
        deadline = s.next_deadline()
        if deadline is None:
            assert never == {A, B, C, D}
            break
        now = max(now, deadline)
        if finish is not None and now >= finish:
            s.handle_completed(now)
            finish = None
        announce = s.poll_announce(now)
        if announce is None:
            continue
        assert s.poll_announce(now) is None
        url, event = announce
        assert url not in never
        if event != "completed":
            assert now >= not_before.get(url, 0.0)
        now += rng.random() * 15
        luck = rng.random()
        if luck < 0.4:
            s.handle_failure(now, url, DOWN)
            not_before[url] = now + 0.75 * FIRST_REST
        elif luck < 0.45:
            s.handle_response(now, url, AnnounceResponse(failure_reason="never", retry_in=math.inf))
            never.add(url)
        elif luck < 0.6:
            s.handle_response(now, url, AnnounceResponse(failure_reason="no", retry_in=600.0))
            not_before[url] = now + 600.0
        else:
            s.handle_response(now, url, AnnounceResponse(interval=1800.0, min_interval=200.0))
            answered[announce] += 1
            not_before[url] = now + (200.0 if wanting else 1800.0)
        if wanting:
            s.handle_want_peers(now)
    for url in (A, B, C, D):
        assert answered[(url, "started")] <= 1
        assert answered[(url, "completed")] <= 1
        if answered[(url, None)] or answered[(url, "completed")]:
            assert answered[(url, "started")] == 1
    heard = {url for url in (A, B, C, D) if answered[(url, "started")]}
    assert set(s.poll_stopped()) == heard
