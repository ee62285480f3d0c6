"""Trackers that take long to answer, beside others: who is asked meanwhile, and who hears of the end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from engine_parts import small_context, until

from btfast.discovery import schedule as schedules
from btfast.discovery.announce import AnnounceRequest, AnnounceResponse
from btfast.discovery.schedule import TrackerSchedule
from btfast.engine.announcing import Announcing
from btfast.metainfo.addresses import PeerAddress

SLOW, OTHER, THIRD = "http://127.0.0.1:1/slow", "http://127.0.0.1:2/other", "http://127.0.0.1:3/third"


class Trackers:
    """Answers at once, but for those named `slow`, which answer when they are let."""

    def __init__(self, slow: Iterable[str]) -> None:
        self.slow = set(slow)
        self.let = asyncio.Event()
        self.heard: list[tuple[str, str | None]] = []

    async def announce(self, url: str, request: AnnounceRequest, *, patience: float | None = None) -> AnnounceResponse:
        self.heard.append((url.rpartition("/")[2], request.event))
        if url in self.slow:
            await self.let.wait()
        return AnnounceResponse(peers=(PeerAddress("127.0.0.1", 1),))


class Torrent:
    """Who is announced."""

    def __init__(self) -> None:
        self.answers = 0

    def announce_request(self, event: str | None) -> AnnounceRequest:
        return AnnounceRequest(info_hash=bytes(20), peer_id=bytes(20), port=1, left=1, event=event)

    def handle_answered(self, url: str) -> None: ...

    def handle_peers(self, addresses: list[PeerAddress], tracker: str) -> None:
        self.answers += 1

    def handle_tracker_warning(self, message: str) -> None:
        raise AssertionError(message)


class InOrder:
    """No chance."""

    def random(self) -> float:
        return 0.5

    def shuffle(self, x: list[Any], /) -> None: ...


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "IMPATIENCE", 0.05)


def begin(trackers: Trackers, tiers: list[list[str]], *, private: bool = False) -> tuple[Announcing, Torrent]:
    context: Any = small_context()
    context.trackers = trackers
    schedule = TrackerSchedule(tiers, InOrder(), context.loop.time(), sequential=private)
    torrent = Torrent()
    return Announcing(context, schedule, torrent), torrent


async def test_others_are_asked_while_some_are_slow() -> None:
    trackers = Trackers([SLOW, OTHER])
    announcing, torrent = begin(trackers, [[SLOW], [OTHER], [THIRD]])
    await until(lambda: torrent.answers, "the third has answered")
    assert trackers.heard == [("slow", "started"), ("other", "started"), ("third", "started")]
    announcing.completed()
    await until(lambda: ("third", "completed") in trackers.heard, "who has heard of us hears that we are done")
    trackers.let.set()
    await until(lambda: len(trackers.heard) == 6, "the slow ones, too, once they have answered")
    assert sorted(trackers.heard[4:]) == [("other", "completed"), ("slow", "completed")]
    await announcing.stop()
    assert sorted(trackers.heard[6:]) == [("other", "stopped"), ("slow", "stopped"), ("third", "stopped")]


async def test_who_may_have_heard_of_us_hears_that_we_leave() -> None:
    trackers = Trackers([SLOW])
    announcing, torrent = begin(trackers, [[SLOW], [OTHER]])
    await until(lambda: torrent.answers, "the other has answered")
    trackers.let.set()
    await announcing.stop()
    assert sorted(trackers.heard[2:]) == [("other", "stopped"), ("slow", "stopped")]


async def test_a_private_torrent_has_one_tracker_at_a_time() -> None:
    trackers = Trackers([SLOW])
    announcing, torrent = begin(trackers, [[SLOW], [OTHER]], private=True)
    announcing.want_peers()
    await asyncio.sleep(0.2)
    assert trackers.heard == [("slow", "started")]
    trackers.let.set()
    await until(lambda: torrent.answers, "it has answered")
    await announcing.stop()
    assert trackers.heard == [("slow", "started"), ("slow", "stopped")]


async def test_a_completed_under_way_is_waited_for_and_not_repeated() -> None:
    trackers = Trackers([])
    announcing, torrent = begin(trackers, [[SLOW]])
    await until(lambda: torrent.answers, "it has heard of us")
    trackers.slow.add(SLOW)
    announcing.completed()
    await until(lambda: len(trackers.heard) == 2, "completed is on its way")
    stopping = asyncio.ensure_future(announcing.stop())
    await asyncio.sleep(0.05)
    assert trackers.heard[2:] == []
    trackers.let.set()
    await stopping
    assert [event for _, event in trackers.heard] == ["started", "completed", "stopped"]


async def test_completed_just_before_the_end_is_still_told() -> None:
    trackers = Trackers([])
    announcing, torrent = begin(trackers, [[SLOW], [OTHER]])
    await until(lambda: torrent.answers, "it has heard of us")
    announcing.completed()
    await announcing.stop()
    assert trackers.heard == [("slow", "started"), ("slow", "completed"), ("slow", "stopped")]


async def test_who_has_not_heard_of_us_does_not_hear_that_we_leave() -> None:
    trackers = Trackers([])
    announcing, _ = begin(trackers, [[SLOW]])
    await announcing.stop()
    assert trackers.heard == []


async def test_no_task_waits_between_announces() -> None:
    trackers = Trackers([])
    before = asyncio.all_tasks()
    announcing, torrent = begin(trackers, [[SLOW], [OTHER]])
    await until(lambda: torrent.answers, "the first has answered")
    await until(lambda: asyncio.all_tasks() == before, "its announce has ended")
    await announcing.stop()
    assert [event for _, event in trackers.heard] == ["started", "stopped"]
