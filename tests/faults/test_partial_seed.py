"""Who has all that it wants, and not all there is: what peers and trackers hear of it, and what it serves (BEP 21)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from support.commands import PATIENCE, get, run
from support.scripted_peer import Link, ScriptedPeer
from support.scripted_tracker import Exchange, ScriptedTracker
from support.torrents import PIECE, make, tree

from btfast.client.session import Session
from btfast.config import Settings
from btfast.events import Progress
from btfast.wire import ids
from btfast.wire.extensions import decode_extended_handshake

# Pieces: 0 a, 1 a|b, 2 b|c, 3 c
LENGTHS = {"a": PIECE + 1000, "b": PIECE, "c": PIECE + 5000}


def answer(exchange: Exchange) -> None:
    exchange.peers()


async def until(condition: Callable[[], object], patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def received(link: Link, kind: int) -> list[tuple[object, ...]]:
    return [message for message in list(link.received) if message and message[0] == kind]


async def test_a_partial_seed_says_so_and_serves_what_it_has(tmp_path: Path) -> None:
    with ScriptedTracker(answer) as tracker:
        made = make(LENGTHS, name="part", announce=[[tracker.url]])
        settings = Settings(
            bind="127.0.0.1", port=0, dht=False, lsd=False, workers=1, seed_time=600, state=str(tmp_path / "state")
        )
        with ScriptedPeer(made) as seed, ScriptedPeer(made, have=set()) as leecher:
            async with Session(settings) as session:
                states: list[Progress] = []
                download = await session.add(made.torrent, tmp_path / "out", peers=[seed.address], select="b")

                async def follow() -> None:
                    async for event in download.events():
                        if isinstance(event, Progress):
                            states.append(event)

                following = asyncio.create_task(follow())
                await until(lambda: states and states[-1].state == "seeding")
                assert (states[-1].done, states[-1].total) == (PIECE, PIECE)
                leecher.dial(await session.port())
                await until(lambda: leecher.links and received(leecher.links[0], ids.BITFIELD))
                words = get(made.save(tmp_path), "--select", "b", peers=(f"127.0.0.1:{await session.port()}",))
                done = await asyncio.to_thread(run, tmp_path, *words, "-o", "other")
                assert done.code == 0
                download.cancel()
                await following
            link = leecher.links[0]
            said = [decode_extended_handshake(m[2]) for m in received(link, ids.EXTENDED) if m[1] == 0]  # type: ignore[arg-type]
            assert said[0].upload_only
            assert received(link, ids.BITFIELD)[0][1] == bytes([0b01100000])
        assert "completed" not in tracker.events()
        assert tracker.events()[0] == "started"
    for folder in ("out", "other"):
        found = {name: data for name, data in tree(tmp_path / folder).items() if not name.startswith(".")}
        assert found == {"part/b": made.contents()["part/b"]}
