"""A Download fed with events by hand: what its caller sees."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from btfast import errors
from btfast.client import download as module
from btfast.client.download import Download
from btfast.events import Added, Complete, Event, Failed, FileDone, Metadata, Progress

ADDED = Added(id=0, source="a.torrent", directory="/d")
METADATA = Metadata(id=0, name="a", info_hash="00" * 20, size=8, files=2, pieces=1, piece_length=8, private=False)
COMPLETE = Complete(
    id=0, source="a.torrent", name="a", info_hash="00" * 20, directory="/d", files=["a/x", "a/y"], bytes=8,
    downloaded=8, uploaded=0, wasted=0, seconds=2.0, rate=4.0, limited_by="peers",
)  # fmt: skip


def failed(kind: str) -> Failed:
    return Failed(id=0, source="a.torrent", error="a.torrent: why: what", kind=kind, exit_code=3, done=1, total=8)


def progress(done: int) -> Progress:
    return Progress(
        id=0, state="downloading", done=done, total=8, rate_down=1.0, rate_up=0.0, peers=1, seeds=1, eta=None
    )


def handle(events: list[Event], removed: list[int] | None = None) -> Download:
    download = Download(0, "a.torrent", "/d", (removed if removed is not None else []).append)
    for event in events:
        download.handle_event(event)
    return download


async def test_awaiting_gives_the_result_any_number_of_times() -> None:
    download = handle([ADDED, METADATA, progress(4), COMPLETE])
    for _ in range(2):
        result = await download
        assert result.files == (Path("/d/a/x"), Path("/d/a/y"))
        assert (result.bytes, result.seconds, result.limited_by) == (8, 2.0, "peers")
    assert download.done()
    assert download.metadata is METADATA
    assert download.progress is not None
    assert download.progress.done == 4


@pytest.mark.parametrize(
    "kind", [name for name, cls in vars(errors).items() if isinstance(cls, type) and cls is not errors.Error]
)
async def test_a_failure_raises_the_class_that_it_names(kind: str) -> None:
    download = handle([ADDED, failed(kind)])
    with pytest.raises(errors.Error, match=r"a\.torrent: why: what") as caught:
        await download
    assert type(caught.value).__name__ == kind
    assert (caught.value.done, caught.value.total, caught.value.source) == (1, 8, "a.torrent")


@pytest.mark.parametrize("kind", ["", "Nonsense", "annotations", "_rebuild"])
async def test_a_failure_of_an_unknown_kind_is_ours(kind: str) -> None:
    with pytest.raises(errors.InternalError):
        await handle([failed(kind)])


async def test_a_failure_that_nobody_awaits_makes_no_noise() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    handle([failed("RemoteError")])
    await asyncio.sleep(0)
    assert complaints == []


async def test_events_come_in_order_and_end_with_the_last() -> None:
    download = handle([ADDED, METADATA])
    reader = download.events()
    assert [await anext(reader), await anext(reader)] == [ADDED, METADATA]
    waiting = asyncio.ensure_future(anext(reader))
    await asyncio.sleep(0)
    assert not waiting.done()
    download.handle_event(progress(1))
    assert await waiting == progress(1)
    download.handle_event(COMPLETE)
    assert [event async for event in reader] == [COMPLETE]
    assert [event async for event in download.events()] == []


async def test_unread_progress_becomes_the_latest() -> None:
    done = FileDone(id=0, path="a/x", size=4)
    download = handle([ADDED, progress(1), progress(2), done, progress(3), COMPLETE])
    assert [event async for event in download.events()] == [ADDED, progress(3), done, COMPLETE]


async def test_unread_events_are_bounded_and_the_loss_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVENT_LIMIT", 4)
    files: list[Event] = [FileDone(id=0, path=str(n), size=1) for n in range(9)]
    first, *rest = [event async for event in handle([progress(1), *files, COMPLETE]).events()]
    assert "7 events were dropped" in getattr(first, "message", "")
    assert rest == [*files[-3:], COMPLETE]


async def test_cancelling_the_waiting_task_stops_the_download() -> None:
    removed: list[int] = []
    download = handle([ADDED], removed)
    task = asyncio.ensure_future(download)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert removed == [0]
    assert not download.done()
    download.handle_event(failed("InterruptedError"))
    with pytest.raises(errors.InterruptedError):
        await download


async def test_cancel_after_the_end_does_nothing() -> None:
    removed: list[int] = []
    download = handle([COMPLETE], removed)
    download.cancel()
    download.handle_event(failed("RemoteError"))
    assert removed == []
    assert (await download).name == "a"
