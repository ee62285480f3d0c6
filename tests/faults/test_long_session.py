"""A session that lives long: whatever its downloads come to, it holds no more than before, and nor do we."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
from support import hostile_peers as hostile
from support.commands import alive, engines
from support.scripted_peer import ScriptedPeer, serving
from support.torrents import assert_arrived, make

from btfast import Error, InterruptedError, Session, Settings, StorageError, VerificationError

ROUNDS = 5  # of four downloads
SETTINGS = Settings(bind="127.0.0.1", port=0, workers=2, memory="32MiB", trackers=False, peer_timeout=20)


def descriptors(engine: psutil.Process) -> list[int]:
    return [process.num_fds() for process in (engine, *engine.children())]


async def settled(engine: psutil.Process, limits: list[int]) -> list[int]:
    """The descriptors once they are within the limits again, or as they are after a minute: connections close in their time."""
    for _ in range(6000):
        found = descriptors(engine)
        if all(count <= limit for count, limit in zip(found, limits, strict=True)):
            break
        await asyncio.sleep(0.01)
    return found


async def test_twenty_downloads_good_and_bad_leave_nothing_in_the_session(tmp_path: Path) -> None:
    made = [make({"a.bin": 100_000 + n, "sub/b.bin": 30_000}, name=f"tree{n}") for n in range(ROUNDS)]
    stale = [make(200_000, name=f"stale{n}") for n in range(ROUNDS)]
    forbidden = tmp_path / "file"
    forbidden.write_text("in the way")
    async with Session(SETTINGS) as session:
        limits = [0] * 3
        for number, (torrent, wrong) in enumerate(zip(made, stale, strict=True)):
            with serving(ScriptedPeer(torrent), hostile.WrongData(wrong), hostile.UnchokesThenSilent(wrong)) as peers:
                good = await session.add(torrent.torrent, tmp_path / "good", peers=[peers[0].address])
                bad = await session.add(wrong.torrent, tmp_path / "bad", peers=[peers[1].address])
                outcomes = await asyncio.gather(good, bad, return_exceptions=True)
                assert [type(outcome) for outcome in outcomes[1:]] == [VerificationError]
                stopped = await session.add(wrong.torrent, tmp_path / "stopped", peers=[peers[2].address])
                while number % 2 and not peers[2].links:  # else at once, before it has taken a step
                    await asyncio.sleep(0.005)
                stopped.cancel()
                refused = await session.add(torrent.torrent, forbidden, peers=[peers[0].address])
                outcomes = await asyncio.gather(stopped, refused, return_exceptions=True)
                assert [type(outcome) for outcome in outcomes] == [InterruptedError, StorageError]
            (engine,) = engines()
            if number == 1:  # everything has been used once
                limits = descriptors(engine)
        assert await settled(engine, limits) <= limits
        assert all(alive(process) for process in engine.children())
    for torrent in made:
        for name, content in torrent.contents().items():
            assert (tmp_path / "good" / name).read_bytes() == content
    assert {path.suffix for path in (tmp_path / "stopped").glob("*")} <= {".part"}
    assert {path.suffix for path in (tmp_path / "bad").iterdir()} <= {".part"}


async def test_a_failed_download_can_be_added_again(tmp_path: Path) -> None:
    torrent = make(300_000)
    async with Session(SETTINGS) as session:
        with hostile.WrongData(torrent) as liar:
            failed = await session.add(torrent.torrent, tmp_path / "out", peers=[liar.address])
            outcome = (await asyncio.gather(failed, return_exceptions=True))[0]
            assert isinstance(outcome, Error)
        with ScriptedPeer(torrent) as peer:
            result = await (await session.add(torrent.torrent, tmp_path / "out", peers=[peer.address]))
    assert result.bytes == result.downloaded == 300_000
    assert_arrived(torrent, tmp_path / "out")


async def test_cancelling_over_and_over_keeps_what_is_verified(tmp_path: Path) -> None:
    torrent = make(3_000_000)
    async with Session(SETTINGS) as session:
        with ScriptedPeer(torrent) as peer:
            for _ in range(5):
                peer.holds = peer.blocks_sent + 30
                download = await session.add(torrent.torrent, tmp_path / "out", peers=[peer.address])
                while peer.blocks_sent < peer.holds:
                    await asyncio.sleep(0.002)
                download.cancel()
                assert isinstance((await asyncio.gather(download, return_exceptions=True))[0], InterruptedError)
            peer.go_on()
            result = await (await session.add(torrent.torrent, tmp_path / "out", peers=[peer.address]))
    assert result.downloaded < 2_500_000
    assert_arrived(torrent, tmp_path / "out")
