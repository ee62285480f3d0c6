"""Whatever peers send for metadata: others bring it; alone they fail the item in one clear line; memory stays small.

All are tried at once, each with a magnet link of its own, in one session.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from support import metadata_peers as peers
from support.commands import Outcome, engines, get, run, running
from support.metadata_peers import THEIR_ID, MetadataPeer
from support.scripted_peer import Link, serving
from support.torrents import Made, assert_arrived, make, tree

from btfast import Error, Session, Settings, SourceNotFoundError, VerificationError
from btfast.events import Event, Metadata, Peer
from btfast.wire import ids, messages
from btfast.wire.extensions import ExtendedHandshake, decode_extended_handshake, encode_extended_handshake
from btfast.wire.ut_metadata import DATA, REJECT, REQUEST, MetadataMessage, decode_metadata

LIARS = [peers.WrongMetadata, peers.OneWrongByte, peers.WrongSize]
USELESS = [
    peers.FourGibibytes, peers.NeverDelivers, peers.RejectsMetadata, peers.WithoutMetadata, peers.ShortPieces,
    peers.LongPieces, peers.Unasked, peers.Garbled, peers.HangsUp, peers.HugeExtension, peers.AsksUs,
    peers.HaveBeyondEveryTorrent,
]  # fmt: skip
FIVE_PIECES = 70_000  # of metadata
ARENA = 96 << 20
MEMORY = ARENA + (150 << 20)  # resident bytes of the network process


class Ended(NamedTuple):
    """How it went with one peer, or with that and a good one."""

    made: Made
    folder: Path
    peer: MetadataPeer
    error: Error | None
    events: list[Event]

    def changes(self, change: str) -> set[str]:
        return {event.address for event in self.events if isinstance(event, Peer) and event.change == change}


Run = dict[type[MetadataPeer], Ended]


def named(peer: type[MetadataPeer]) -> str:
    return peer.__name__


def link(made: Made) -> str:
    return f"magnet:?xt=urn:btih:{made.info_hash.hex()}"


async def fetch_all(root: Path, bad: list[type[MetadataPeer]], *, good: bool, seconds: float) -> tuple[Run, int]:
    """A magnet link for each of the peers, all at once; also the most memory that the network process took."""
    made = [make(100_000, seed=number, info_bytes=FIVE_PIECES) for number in range(len(bad))]
    settings = Settings(
        bind="127.0.0.1", port=0, workers=1, memory=ARENA, trackers=False, peer_timeout=seconds, jobs=len(bad),
        state=str(root / "state"),
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        them = [stack.enter_context(kind(torrent)) for kind, torrent in zip(bad, made, strict=True)]
        others = [stack.enter_context(MetadataPeer(torrent)) for torrent in made] if good else []
        async with Session(settings) as session:
            downloads = [
                await session.add(link(torrent), root / kind.__name__, peers=[one.address for one in sources])
                for kind, torrent, *sources in zip(bad, made, them, *([others] if good else []), strict=True)
            ]
            outcomes = asyncio.gather(*downloads, return_exceptions=True)
            most = 0
            await session.port()
            (engine,) = engines()
            while not outcomes.done():
                most = max(most, engine.memory_info().rss)
                await asyncio.sleep(0.05)
            ended: Run = {}
            for kind, torrent, peer, download, outcome in zip(bad, made, them, downloads, await outcomes, strict=True):
                error = outcome if isinstance(outcome, Error) else None
                events = [event async for event in download.events()]
                ended[kind] = Ended(torrent, root / kind.__name__, peer, error, events)
    return ended, most


@pytest.fixture(scope="module")
def beside_a_good_one(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, int]:
    return asyncio.run(fetch_all(tmp_path_factory.mktemp("beside"), LIARS + USELESS, good=True, seconds=60))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, int]:
    return asyncio.run(fetch_all(tmp_path_factory.mktemp("alone"), LIARS + USELESS, good=False, seconds=5))


@pytest.mark.parametrize("bad", LIARS + USELESS, ids=named)
def test_a_good_peer_is_enough(beside_a_good_one: tuple[Run, int], bad: type[MetadataPeer]) -> None:
    ended = beside_a_good_one[0][bad]
    assert ended.error is None
    assert_arrived(ended.made, ended.folder)
    if bad not in LIARS:
        assert ended.changes("banned") == set()


@pytest.mark.parametrize("bad", LIARS, ids=named)
def test_a_lone_liar_is_banned(alone: tuple[Run, int], bad: type[MetadataPeer]) -> None:
    ended = alone[0][bad]
    assert isinstance(ended.error, VerificationError)
    assert "all sources are banned: 1 sent metadata of another hash" in str(ended.error)
    assert ended.changes("banned") == {ended.peer.address}
    assert len(ended.peer.links) == 1
    assert tree(ended.folder) == {}


@pytest.mark.parametrize("bad", USELESS, ids=named)
def test_alone_it_makes_a_dead_magnet(alone: tuple[Run, int], bad: type[MetadataPeer]) -> None:
    ended = alone[0][bad]
    assert isinstance(ended.error, SourceNotFoundError)
    assert ended.error.exit_code == 5
    assert "no metadata came within" in str(ended.error)
    assert f"peers: 1 named ({ended.peer.address})" in str(ended.error)
    assert not any(isinstance(event, Metadata) for event in ended.events)
    assert ended.changes("banned") == set()
    assert tree(ended.folder) == {}


def test_what_claims_4_gib_is_never_asked_for_it(alone: tuple[Run, int]) -> None:
    ended = alone[0][peers.FourGibibytes]
    assert ended.peer.asked == []
    assert "claims 4294967296 bytes of metadata, which is above the limit" in str(ended.error)


def test_they_do_not_fill_the_memory(beside_a_good_one: tuple[Run, int], alone: tuple[Run, int]) -> None:
    assert beside_a_good_one[1] < MEMORY
    assert alone[1] < MEMORY


def test_liars_in_the_majority_do_not_win(tmp_path: Path) -> None:
    made = make(100_000, info_bytes=FIVE_PIECES)
    liars = [kind(made) for kind in (*LIARS, *LIARS, *LIARS)]
    with serving(*liars, MetadataPeer(made)) as everybody:
        outcome = run(tmp_path, *get(link(made), peers=tuple(peer.address for peer in everybody)))
    assert outcome.code == 0, outcome
    assert_arrived(made, tmp_path / "out")
    banned = {event["address"] for event in outcome.all("peer") if event["change"] == "banned"}
    assert everybody[-1].address not in banned
    assert banned


def test_what_peers_had_before_the_metadata_counts_afterwards(tmp_path: Path) -> None:
    made = make({"a": 700_001, "b": 200_000}, name="early")
    with peers.HavesBeforeMetadata(made) as peer:
        outcome = run(tmp_path, *get(link(made), peers=(peer.address,)))
        assert outcome.code == 0, outcome
        assert len(peer.links) == 1
    assert_arrived(made, tmp_path / "out")


def test_a_piece_that_does_not_exist_ends_the_connection_once_that_is_known(tmp_path: Path) -> None:
    made = make({"a": 700_001, "b": 200_000}, name="early")
    with peers.HaveBeyondThis(made) as peer:
        outcome = run(tmp_path, *get(link(made), "--peer-timeout", "3", peers=(peer.address,)))
    outcome.error(3)
    reasons = [event["reason"] for event in outcome.all("peer") if event["change"] == "disconnected"]
    assert any("bitfield is wrong" in reason for reason in reasons), reasons


class Greedy(MetadataPeer):
    """Has nothing, and asks us for metadata `times` times."""

    times = 0
    told: ExtendedHandshake

    def on_greeted(self, link: Link) -> None:
        link.send(encode_extended_handshake(m={"ut_metadata": THEIR_ID}))
        link.send(messages.HAVE_NONE)

    def on_extended(self, link: Link, number: int, body: bytes) -> None:
        super().on_extended(link, number, body)
        if number == ids.EXT_HANDSHAKE:
            self.told = decode_extended_handshake(body)
            if "ut_metadata" in self.told.m:
                for index in range(self.times):
                    self.tell(link, MetadataMessage(REQUEST, index % 6))
        elif number == THEIR_ID and (answer := decode_metadata(body)) is not None:
            self.answers.append(answer)

    @property
    def answers(self) -> list[MetadataMessage]:
        found: list[MetadataMessage] = self.__dict__.setdefault("_answers", [])
        return found

    def count(self, kind: int) -> int:
        return sum(answer.kind == kind for answer in self.answers)


def seed(home: Path, made: Made, greedy: Greedy, enough: Callable[[], object]) -> Outcome:
    """We serve, until the peer has had enough."""
    made.lay_out(home / "source")
    words = ["seed", "--json", "--bind", "127.0.0.1", "--port", "0", "--memory", "32MiB", "--no-trackers"]
    with running(home, *words, "--data", "source", "--peer", greedy.address, made.save(home)) as command:
        command.until(enough, "the peer has had enough")
        command.signal(signal.SIGINT)
        outcome = command.end()
    assert outcome.code == 7, outcome
    return outcome


def test_who_asks_for_our_metadata_gets_it(tmp_path: Path) -> None:
    made = make(100_000, info_bytes=FIVE_PIECES)
    with Greedy(made) as greedy:
        greedy.times = 6
        seed(tmp_path, made, greedy, lambda: len(greedy.answers) == 6)
    assert greedy.told.metadata_size == len(greedy.info)
    assert b"".join(answer.data for answer in greedy.answers) == greedy.info
    assert [answer.total_size for answer in greedy.answers] == 5 * [len(greedy.info)] + [None]
    assert (greedy.count(DATA), greedy.count(REJECT)) == (5, 1), "there is no sixth piece"


def test_who_asks_again_and_again_gets_no_more(tmp_path: Path) -> None:
    made = make(100_000, info_bytes=FIVE_PIECES)
    with Greedy(made) as greedy:
        greedy.times = 300
        seed(tmp_path, made, greedy, lambda: len(greedy.answers) == 300)
    assert greedy.count(DATA) + greedy.count(REJECT) == 300
    assert greedy.count(DATA) <= 3 * 5 + 32


def test_who_floods_us_with_requests_for_metadata_is_dropped(tmp_path: Path) -> None:
    made = make(100_000, info_bytes=FIVE_PIECES)
    with Greedy(made) as greedy:
        greedy.times = 3000
        outcome = seed(tmp_path, made, greedy, lambda: greedy.links and greedy.links[0].closed.is_set())
    reasons = [event["reason"] for event in outcome.all("peer") if event["change"] == "disconnected"]
    assert "it floods us with requests for metadata" in reasons


def test_a_private_torrents_metadata_is_neither_told_nor_given(tmp_path: Path) -> None:
    made = make(100_000, info_bytes=FIVE_PIECES, private=True)
    with Greedy(made) as greedy:
        seed(tmp_path, made, greedy, lambda: hasattr(greedy, "told"))
    assert greedy.told.metadata_size is None
    assert "ut_metadata" not in greedy.told.m
