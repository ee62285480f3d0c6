"""Whatever a peer does: others finish the download; alone it fails it in one clear line; memory stays small.

All the peers are tried at once, each with a download of its own, in one session: what one does must not hurt the others.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import NamedTuple

import pytest
from support import hostile_peers as hostile
from support.commands import engines, get, run
from support.scripted_peer import Later, ScriptedPeer
from support.torrents import Made, assert_arrived, make, tree

from btfast import Error, IncompleteError, Session, Settings, VerificationError
from btfast.events import Event, FileDone, Peer, PieceFailed

SIZE = 900_001
LIARS = [hostile.WrongData, hostile.RandomData, hostile.OneBadByte]
USELESS = [
    hostile.Garbage, hostile.WebServer, hostile.NoiseAfterHandshake, hostile.OtherTorrent, hostile.HungUp, hostile.Reset,
    hostile.HugePrefix, hostile.HugeBitfield, hostile.HugeExtended, hostile.Mute, hostile.HandshakeOnly,
    hostile.SlowHandshake, hostile.Drip, hostile.ClosesMidBlock, hostile.ClosesMidHeader, hostile.Unrequested,
    hostile.WrongLengths, hostile.LongBlocks, hostile.RequestFlood, hostile.RequestsBeyondTheEnd, hostile.HaveFlood,
    hostile.HasTooMuch, hostile.ChokeFlood, hostile.NeverUnchokes, hostile.UnchokesThenSilent, hostile.RejectsAll,
    hostile.ShortBitfield, hostile.LongBitfield, hostile.SpareBits, hostile.TwoBitfields, hostile.FastUnasked,
]  # fmt: skip
ODD = [
    hostile.UnrequestedFirst, hostile.Repeats, hostile.RejectsUnasked, hostile.UnknownMessage,
    hostile.BadExtendedHandshake, hostile.OneRequestAtATime, hostile.Shuffles, hostile.ChokesInBetween,
    hostile.ChokesInBetweenWithoutFast, hostile.HavesBetweenBlocks, hostile.OneByteAtATime,
]  # fmt: skip
ARENA = 96 << 20
MEMORY = ARENA + (150 << 20)  # resident bytes of the network process


class Ended(NamedTuple):
    """How the download from one peer, or from that and a good one, went."""

    made: Made
    folder: Path
    peer: ScriptedPeer
    error: Error | None
    events: list[Event]

    def changes(self, change: str) -> set[str]:
        return {event.address for event in self.events if isinstance(event, Peer) and event.change == change}


Run = dict[type[ScriptedPeer], Ended]


def named(peer: type[ScriptedPeer]) -> str:
    return peer.__name__


def after(bad: ScriptedPeer) -> ScriptedPeer:
    """A good one, which comes when the bad one has been met, and if it lies has done so."""
    blocks = 4 if type(bad) in LIARS else 0
    return Later(bad.made, lambda: bad.links and bad.blocks_sent >= blocks)


async def download_all(root: Path, bad: list[type[ScriptedPeer]], *, good: bool, seconds: float) -> tuple[Run, int]:
    """A download for each of the peers, all at once; also the most memory that the network process took."""
    made = [make(SIZE, seed=number) for number in range(len(bad))]
    settings = Settings(
        bind="127.0.0.1", port=0, workers=1, memory=ARENA, trackers=False, peer_timeout=seconds, jobs=len(bad)
    )
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(kind(torrent)) for kind, torrent in zip(bad, made, strict=True)]
        others = [stack.enter_context(after(peer)) for peer in peers] if good else []
        async with Session(settings) as session:
            downloads = [
                await session.add(torrent.torrent, root / kind.__name__, peers=[one.address for one in sources])
                for kind, torrent, *sources in zip(bad, made, peers, *([others] if good else []), strict=True)
            ]
            outcomes = asyncio.gather(*downloads, return_exceptions=True)
            most = 0
            (engine,) = engines()
            while not outcomes.done():
                most = max(most, engine.memory_info().rss)
                await asyncio.sleep(0.05)
            ended: Run = {}
            for kind, torrent, peer, download, outcome in zip(bad, made, peers, downloads, await outcomes, strict=True):
                error = outcome if isinstance(outcome, Error) else None
                events = [event async for event in download.events()]
                ended[kind] = Ended(torrent, root / kind.__name__, peer, error, events)
    return ended, most


@pytest.fixture(scope="module")
def beside_a_good_one(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, int]:
    kinds = LIARS + USELESS + ODD
    return asyncio.run(download_all(tmp_path_factory.mktemp("beside"), kinds, good=True, seconds=60))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, int]:
    kinds = LIARS + USELESS + ODD
    return asyncio.run(download_all(tmp_path_factory.mktemp("alone"), kinds, good=False, seconds=3))


@pytest.mark.parametrize("bad", LIARS + USELESS + ODD, ids=named)
def test_others_finish_the_download(beside_a_good_one: tuple[Run, int], bad: type[ScriptedPeer]) -> None:
    ended = beside_a_good_one[0][bad]
    assert ended.error is None
    assert ended.peer.links
    assert_arrived(ended.made, ended.folder)
    assert ended.changes("banned") == ({ended.peer.address} if bad in LIARS else set())


@pytest.mark.parametrize("bad", USELESS, ids=named)
def test_alone_it_fails_the_download(alone: tuple[Run, int], bad: type[ScriptedPeer]) -> None:
    ended = alone[0][bad]
    assert isinstance(ended.error, IncompleteError)
    assert "no peers: 1 known, " in str(ended.error)
    assert ended.error.exit_code == 3
    assert not any(isinstance(event, FileDone | PieceFailed) for event in ended.events)
    assert set(tree(ended.folder)) <= {"data.bin.part"}
    assert 1 <= len(ended.peer.links) <= 3


@pytest.mark.parametrize("bad", LIARS, ids=named)
def test_a_lone_liar_is_banned_and_named(alone: tuple[Run, int], bad: type[ScriptedPeer]) -> None:
    ended = alone[0][bad]
    assert isinstance(ended.error, VerificationError)
    assert "all sources are banned: 1 sent wrong data" in str(ended.error)
    assert ended.error.exit_code == 4
    assert ended.changes("banned") == {ended.peer.address}
    failed = [event for event in ended.events if isinstance(event, PieceFailed)]
    assert {tuple(event.peers) for event in failed} == {(ended.peer.address,)}
    assert len(ended.peer.links) == 1


@pytest.mark.parametrize("odd", ODD, ids=named)
def test_an_odd_peer_is_enough(alone: tuple[Run, int], odd: type[ScriptedPeer]) -> None:
    ended = alone[0][odd]
    assert ended.error is None
    assert_arrived(ended.made, ended.folder)
    assert not any(isinstance(event, PieceFailed) for event in ended.events)


def test_all_of_them_together_do_not_fill_the_memory(
    beside_a_good_one: tuple[Run, int], alone: tuple[Run, int]
) -> None:
    assert beside_a_good_one[1] < MEMORY
    assert alone[1] < MEMORY


@pytest.mark.parametrize(("bad", "code"), [(hostile.Mute, 3), (hostile.HugePrefix, 3), (hostile.WrongData, 4)])
def test_the_command_says_it_in_one_line(tmp_path: Path, bad: type[ScriptedPeer], code: int) -> None:
    made = make(SIZE)
    with bad(made) as peer:
        done = run(tmp_path, *get(made.save(tmp_path), "--peer-timeout", "1", peers=(peer.address,)))
    assert "data.bin" in done.error(code)
    assert done.one("failed")["exit_code"] == done.one("summary")["exit_code"] == code
