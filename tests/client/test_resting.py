"""A torrent that is served and of which nobody wants anything is left alone until somebody does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from swarm_of_one import LOCAL, make_data, make_torrent

import btfast
from btfast.client.session import Session
from btfast.events import Complete, Event, Progress
from btfast.metainfo.torrent import Torrent
from btfast.wire import messages
from btfast.wire.handshake import encode_handshake


async def connect(port: int, torrent: bytes) -> asyncio.StreamWriter:
    """A peer that has nothing and wants nothing, and stays."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(encode_handshake(Torrent.parse(torrent).info_hash, b"-XX0000-" + bytes(12)) + messages.HAVE_NONE)
    await reader.readexactly(68)
    return writer


async def test_a_torrent_at_rest_says_nothing_until_a_peer_comes(tmp_path: Path) -> None:
    make_data(tmp_path, {"one.bin": 100_000, "two.bin": 100_000})
    torrents = [make_torrent(tmp_path, name) for name in ("one.bin", "two.bin")]
    said: list[list[Progress]] = [[], []]
    changed = asyncio.Event()

    def note(event: Event) -> None:
        if isinstance(event, Progress):
            said[event.id].append(event)
            changed.set()

    async def until(number: int, count: int) -> None:
        while len(said[number]) < count:
            changed.clear()
            await changed.wait()

    async with asyncio.timeout(40), Session(LOCAL, on_event=note) as session:
        for torrent in torrents:
            await session.add(torrent, tmp_path, seed=True)
        while not all(events and events[-1].state == "seeding" for events in said):
            changed.clear()
            await changed.wait()
        visitor = await connect(await session.port(), torrents[1])
        await until(1, len(said[1]) + 3)  # the other one has come to rest by now
        before = len(said[0])
        await until(1, len(said[1]) + 3)
        assert len(said[0]) == before
        assert said[1][-1].peers == 1
        guest = await connect(await session.port(), torrents[0])
        while said[0][-1].peers == 0:
            await until(0, len(said[0]) + 1)
        guest.close()
        while said[0][-1].peers:
            await until(0, len(said[0]) + 1)
        visitor.close()


@pytest.mark.parametrize("limit", [{"seed_time": 2.5}, {"seed_ratio": 0.0}])
async def test_a_torrent_at_rest_ends_when_it_was_served_for_long_enough(tmp_path: Path, limit: dict[str, float]) -> None:
    make_data(tmp_path, {"one.bin": 100_000})
    settings = btfast.Settings(bind="127.0.0.1", port=0, workers=1, memory="16MiB", trackers=False, **limit)  # type: ignore[arg-type]
    async with asyncio.timeout(30), Session(settings) as session:
        download = await session.add(make_torrent(tmp_path, "one.bin"), tmp_path, seed=True)
        events = [event async for event in download.events()]
    assert isinstance(events[-1], Complete)
