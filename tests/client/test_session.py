"""Sessions with the real network process, fetching from a libtorrent seeder."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest
import uvloop
from swarm_of_one import LOCAL, children, make_data, make_torrent, seeding

import btfast
from btfast.client.session import Session
from btfast.events import Added, Complete, Event, FileDone, Metadata, Progress

FILES = {"album/one.bin": 300_000, "album/sub/two.bin": 1, "album/sub/empty": 0, "album/three.bin": 700_001}


@pytest.fixture
def album(tmp_path: Path) -> bytes:
    make_data(tmp_path / "source", FILES)
    return make_torrent(tmp_path / "source", "album")


@pytest.fixture
def large(tmp_path: Path) -> bytes:
    """8 MiB, to be fetched slowly."""
    make_data(tmp_path / "source", {"large.bin": 8 << 20})
    return make_torrent(tmp_path / "source", "large.bin")


def same(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "source" / name).read_bytes()


async def fetch_album(tmp_path: Path, album: bytes) -> list[Event]:
    with seeding(album, tmp_path / "source") as seeder:
        async with Session(LOCAL) as session:
            download = await session.add(album, tmp_path / "out", peers=[seeder.address])
            events = [event async for event in download.events()]
            result = await download
    assert result.name == "album"
    assert result.bytes == sum(FILES.values())
    assert sorted(result.files) == sorted(tmp_path / "out" / name for name in FILES)
    same(tmp_path, list(FILES))
    return events


async def test_a_download_completes_and_tells_what_happened(tmp_path: Path, album: bytes) -> None:
    events = await fetch_album(tmp_path, album)
    kinds = [type(event) for event in events]
    assert kinds[:2] == [Added, Metadata]
    assert kinds[-1] is Complete
    assert kinds.count(Complete) == 1
    assert {event.path for event in events if isinstance(event, FileDone)} == set(FILES)
    assert all(getattr(event, "id", 0) == 0 for event in events)


def test_it_works_in_uvloops_loop(tmp_path: Path, album: bytes) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert isinstance(runner.run(fetch_album(tmp_path, album))[-1], Complete)


async def test_two_items_of_one_session_do_not_mix(tmp_path: Path, album: bytes, large: bytes) -> None:
    seen: list[Event] = []
    with seeding(album, tmp_path / "source") as one, seeding(large, tmp_path / "source") as two:
        async with Session(LOCAL, on_event=seen.append) as session:
            first = await session.add(album, tmp_path / "out", peers=[one.peer])
            second = await session.add(large, tmp_path / "out", peers=[two.peer])
            results = await asyncio.gather(first, second)
    assert [result.name for result in results] == ["album", "large.bin"]
    assert (first.id, second.id) == (0, 1)
    assert sorted(event.id for event in seen if isinstance(event, Complete)) == [0, 1]
    same(tmp_path, [*FILES, "large.bin"])


async def test_a_path_and_a_parsed_torrent_are_sources(tmp_path: Path, album: bytes, large: bytes) -> None:
    path = tmp_path / "album.torrent"
    path.write_bytes(album)
    with seeding(album, tmp_path / "source") as one, seeding(large, tmp_path / "source") as two:
        async with Session(LOCAL) as session:
            await (await session.add(path, tmp_path / "out", peers=[one.peer]))
            await (await session.add(btfast.Torrent.parse(large), str(tmp_path / "out"), peers=[two.peer]))
    same(tmp_path, [*FILES, "large.bin"])


async def test_a_bad_torrent_fails_alone(tmp_path: Path, album: bytes) -> None:
    with seeding(album, tmp_path / "source") as seeder:
        async with Session(LOCAL) as session:
            with pytest.raises(btfast.SourceNotFoundError):
                await session.add(tmp_path / "none.torrent")
            bad = await session.add(b"not a torrent", tmp_path / "out")
            good = await session.add(album, tmp_path / "out", peers=[seeder.peer])
            assert (bad.id, good.id) == (1, 2)
            with pytest.raises(btfast.InputError):
                await bad
            assert (await good).name == "album"


async def test_nobody_to_fetch_from_is_incomplete(tmp_path: Path, album: bytes) -> None:
    settings = btfast.Settings(bind="127.0.0.1", port=0, workers=1, memory="16MiB", trackers=False, peer_timeout=0.5)
    async with Session(settings) as session:
        with pytest.raises(btfast.IncompleteError):
            await (await session.add(album, tmp_path / "out"))


async def started(session: Session, source: bytes, tmp_path: Path, peer: tuple[str, int]) -> btfast.Download:
    """A download of which a part has arrived."""
    download = await session.add(source, tmp_path / "out", peers=[peer])
    async for event in download.events():
        if isinstance(event, Progress) and event.done:
            return download
    raise AssertionError("it ended before it was seen to be under way")


async def test_what_was_fetched_before_a_cancel_is_kept(tmp_path: Path, large: bytes) -> None:
    with seeding(large, tmp_path / "source", rate=2 << 20) as slow:
        async with Session(LOCAL) as session:
            download = await started(session, large, tmp_path, slow.peer)
            download.cancel()
            with pytest.raises(btfast.InterruptedError):
                await download
    assert (tmp_path / "out" / "large.bin.part").exists()
    assert not (tmp_path / "out" / "large.bin").exists()
    with seeding(large, tmp_path / "source") as seeder:
        async with Session(LOCAL) as session:
            result = await (await session.add(large, tmp_path / "out", peers=[seeder.peer]))
    assert 0 < result.downloaded < result.bytes
    same(tmp_path, ["large.bin"])


async def test_cancelling_the_waiting_task_stops_the_download(tmp_path: Path, large: bytes) -> None:
    with seeding(large, tmp_path / "source", rate=1 << 20) as slow:
        async with Session(LOCAL) as session:
            download = await started(session, large, tmp_path, slow.peer)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(download, 0.05)
            with pytest.raises(btfast.InterruptedError):
                await download
    assert (tmp_path / "out" / "large.bin.part").exists()


async def test_leaving_a_session_early_interrupts_what_is_active(tmp_path: Path, large: bytes) -> None:
    with seeding(large, tmp_path / "source", rate=1 << 20) as slow:
        async with Session(LOCAL) as session:
            download = await started(session, large, tmp_path, slow.peer)
        assert children() == []
    with pytest.raises(btfast.InterruptedError):
        await download


async def test_a_killed_network_process_is_an_internal_error(tmp_path: Path, large: bytes) -> None:
    with seeding(large, tmp_path / "source", rate=1 << 20) as slow:
        async with Session(LOCAL) as session:
            download = await started(session, large, tmp_path, slow.peer)
            engine = next(p for p in psutil.Process().children() if "btfast.engine" in p.cmdline())
            os.kill(engine.pid, signal.SIGKILL)
            with pytest.raises(btfast.InternalError, match="killed by signal 9"):
                await download
            with pytest.raises(btfast.InternalError, match="killed by signal 9"):
                await session.add(large, tmp_path / "out")


async def test_a_session_that_is_not_open_says_so() -> None:
    session = Session(LOCAL)
    with pytest.raises(btfast.InputError, match="not open"):
        await session.add(b"de")
    async with session:
        assert 0 < await session.port() < 65536
        with pytest.raises(btfast.InputError, match="a second time"):
            await session.__aenter__()
    with pytest.raises(btfast.InterruptedError, match="is stopping"):
        await session.add(b"de")


async def test_the_hosts_signals_and_policies_stay_as_they_were(tmp_path: Path, album: bytes) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE)
    before = [signal.getsignal(number) for number in numbers]
    policy = asyncio.get_event_loop_policy()
    await fetch_album(tmp_path, album)
    assert [signal.getsignal(number) for number in numbers] == before
    assert asyncio.get_event_loop_policy() is policy


async def test_a_seeding_session_serves_a_downloading_one(tmp_path: Path, album: bytes) -> None:
    async with Session(LOCAL) as seeder, Session(LOCAL) as leecher:
        await seeder.add(album, tmp_path / "source", seed=True)
        peer = ("127.0.0.1", await seeder.port())
        result = await (await leecher.add(album, tmp_path / "out", peers=[peer]))
    assert result.bytes == sum(FILES.values())
    same(tmp_path, list(FILES))


@pytest.mark.parametrize(
    "wrong", [{"jobs": 0}, {"port": -1}, {"workers": -2}, {"encryption": "x"}, {"peer_timeout": "soon"}, {"reuse": 5}]
)
def test_settings_out_of_range_are_the_callers_error(wrong: dict[str, object]) -> None:
    with pytest.raises(btfast.InputError, match=f"settings: .*{next(iter(wrong))}"):
        Session(btfast.Settings(**wrong))  # type: ignore[arg-type]


async def test_what_is_no_peer_or_no_text_costs_nobody_else_anything(tmp_path: Path, album: bytes) -> None:
    wrong = [("127.0.0.1", "80"), (None, 80), ("127.0.0.1", 70000), ("127.0.0.1", -5), ("a\0b", 80), ("x",), 7]
    with seeding(album, tmp_path / "source") as seeder:
        async with Session(LOCAL) as session:
            good = await session.add(album, tmp_path / "out", peers=[seeder.peer])
            for peer in wrong:
                with pytest.raises(btfast.InputError, match=r"peer|host:port"):
                    await session.add(album, tmp_path / "other", peers=[peer])  # type: ignore[list-item]
            with pytest.raises(btfast.InputError, match="not UTF-8"):
                await session.add(album, tmp_path / "other", select="\udcff*")
            await good


async def test_an_address_that_cannot_be_had_is_the_callers_error(tmp_path: Path, album: bytes) -> None:
    settings = btfast.Settings(bind="203.0.113.7", port=0, workers=1, memory="16MiB")
    async with Session(settings) as session:
        with pytest.raises(btfast.InputError, match=r"203\.0\.113\.7"):
            await (await session.add(album, tmp_path / "out"))
        with pytest.raises(btfast.InputError, match=r"203\.0\.113\.7"):
            await session.port()


async def test_seeding_for_a_time_ends_well(tmp_path: Path, album: bytes) -> None:
    settings = btfast.Settings(bind="127.0.0.1", port=0, workers=1, memory="16MiB", trackers=False, seed_time=0.2)
    async with Session(settings) as session:
        result = await (await session.add(album, tmp_path / "source", seed=True))
    assert result.downloaded == 0


async def test_seeding_data_that_is_not_there_is_refused(tmp_path: Path, album: bytes) -> None:
    async with Session(LOCAL) as session:
        with pytest.raises(btfast.VerificationError, match="only complete data can be served"):
            await (await session.add(album, tmp_path / "nowhere", seed=True))


async def test_a_network_process_that_does_not_answer_is_ended_by_force(tmp_path: Path, large: bytes) -> None:
    with seeding(large, tmp_path / "source", rate=1 << 20) as slow:
        async with Session(LOCAL) as session:
            download = await started(session, large, tmp_path, slow.peer)
            engine = next(p for p in psutil.Process().children() if "btfast.engine" in p.cmdline())
            engine.suspend()
        assert not engine.is_running()
    with pytest.raises(btfast.InterruptedError):
        await download
