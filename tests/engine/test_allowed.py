"""What is asked for in spite of a choke (BEP 6): what a seed sends of it and what not, and when a leecher asks."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from engine_parts import Owner, connected, small_context

from btfast._arena import Arena
from btfast._bitfield import Bitfield
from btfast.engine.allowed import CHOKED_LONG, FEW_PIECES, MOST_ASKED, handle_allowed
from btfast.engine.asked_blocks import REJECT_PATIENCE
from btfast.engine.connection import PeerConnection
from btfast.engine.fetching import Fetching
from btfast.engine.served_files import ServedFiles
from btfast.engine.serving import Serving
from btfast.metainfo.geometry import BLOCK
from btfast.metainfo.selection import Selection
from btfast.metainfo.torrent import Torrent
from btfast.storage.layout import Layout
from btfast.storage.messages import OpenTorrent
from btfast.swarm.allowed_fast import REST, allowed_fast_set
from btfast.swarm.pieces import Pieces
from btfast.wire import ids, messages

sys.path.append(str(Path(__file__).resolve().parents[1]))
from support.torrents import make

COUNT = 40
PIECE = 2 * BLOCK
HASH = b"i" * 20
HOST = "192.0.2.7"
GRANTED = allowed_fast_set(HOST, HASH, COUNT, 10)
OTHER = next(index for index in range(COUNT) if index not in GRANTED)


class Talking(Owner):
    """Serves what is asked for again."""

    def __init__(self, serving: Serving) -> None:
        super().__init__()
        self.serving = serving

    def handle_events(self, peer: PeerConnection, events: list[tuple[Any, ...]], now: float) -> None:
        for _, index, begin, length in events:
            self.serving.handle_request(peer, index, begin, length)


class Seeding:
    """A complete torrent, and peers that it chokes."""

    def __init__(self, folder: Path, *, revealing: Any = None, suggesting: Any = None) -> None:
        (folder / "data").write_bytes(bytes(COUNT * PIECE))
        order = OpenTorrent(
            torrent=0, directory=str(folder), paths=["data"], lengths=[COUNT * PIECE], pads=[], piece_length=PIECE,
            in_place=True, io="auto",
        )  # fmt: skip
        self.context = small_context()
        self.context.served = ServedFiles()
        layout = Layout(order)
        pieces = Pieces(layout.geometry, Bitfield.full(COUNT))
        pieces.found(list(range(COUNT)))
        self.serving = Serving(
            self.context, layout, layout.geometry, pieces, revealing=revealing, suggesting=suggesting
        )
        self.ends: list[tuple[PeerConnection, socket.socket, bytearray]] = []  # and what it has read

    def joins(self, *have: int, host: str = HOST, fast: bool = True) -> PeerConnection:
        peer, theirs = connected(self.context, Talking(self.serving), host=host)
        self.ends.append((peer, theirs, bytearray()))
        peer.info_hash, peer.fast = HASH, fast
        field = Bitfield(COUNT)
        for index in have:
            field.set(index)
        self.serving.handle_bitfield(peer, field, self.context.loop.time())
        return peer

    def said(self, peer: PeerConnection) -> list[tuple[Any, ...]]:
        """What has come since; of blocks only which."""
        peer.flush()
        theirs, seen = next((end, seen) for other, end, seen in self.ends if other is peer)
        data = b""
        while len(data) < peer.stream.sent - len(seen):
            data += theirs.recv(1 << 20)
        seen += data
        bodies, _ = messages.split_messages(data)
        found = [messages.decode_message(body) for body in bodies]
        return [one[:3] if one[0] == ids.PIECE else one for one in found]

    def leaves(self, peer: PeerConnection) -> None:
        self.serving.peer_left(peer)

    def close(self) -> None:
        for peer, theirs, _ in self.ends:
            peer.close("over")
            theirs.close()


def allowed(found: list[tuple[Any, ...]]) -> list[int]:
    return [index for kind, index in found if kind == ids.ALLOWED_FAST]


async def test_a_newcomer_is_told_what_it_may_have_and_gets_it_twice(tmp_path: Path) -> None:
    seeding = Seeding(tmp_path)
    peer = seeding.joins()
    assert allowed(seeding.said(peer)) == GRANTED
    first = GRANTED[0]
    for _ in range(2):
        seeding.serving.handle_request(peer, first, BLOCK, BLOCK)
        assert seeding.said(peer) == [(ids.PIECE, first, BLOCK)]
    seeding.serving.handle_request(peer, first, BLOCK, BLOCK)
    assert seeding.said(peer) == [(ids.REJECT, first, BLOCK, BLOCK)]
    seeding.serving.handle_requests(peer, first, 0, PIECE)  # of the run one block has not been had
    assert sorted(seeding.said(peer)) == [(ids.PIECE, first, 0), (ids.REJECT, first, BLOCK, BLOCK)]
    seeding.serving.handle_requests(peer, OTHER, 0, PIECE)
    assert seeding.said(peer) == [(ids.REJECT, OTHER, 0, BLOCK), (ids.REJECT, OTHER, BLOCK, BLOCK)]
    seeding.serving.handle_request(peer, first, PIECE, BLOCK)
    assert peer.closed
    seeding.close()


async def test_who_has_something_gets_what_is_missing_of_the_set_and_who_has_enough_nothing(tmp_path: Path) -> None:
    seeding = Seeding(tmp_path)
    some = seeding.joins(*GRANTED[:3], OTHER)
    assert allowed(seeding.said(some)) == GRANTED[3:]
    enough = seeding.joins(*range(10), host="198.51.100.1")
    old = seeding.joins(host="198.51.100.2", fast=False)
    newer = seeding.joins(host="2001:db8::1")
    for peer in (enough, old, newer):
        assert peer.granted is None
        assert seeding.said(peer) == []
    seeding.close()


async def test_who_comes_again_is_given_nothing_for_a_while(tmp_path: Path) -> None:
    seeding = Seeding(tmp_path)
    peer = seeding.joins()
    assert seeding.joins().granted is None  # a second connection
    seeding.leaves(peer)
    again = seeding.joins()
    assert again.granted is None
    seeding.serving.handle_request(again, GRANTED[0], 0, BLOCK)
    assert seeding.said(again) == [(ids.REJECT, GRANTED[0], 0, BLOCK)]
    seeding.leaves(again)  # which had nothing to give back
    seeding.context.loop.ahead += REST + 1
    assert seeding.joins().granted is not None
    seeding.close()


async def test_who_pretends_to_have_nothing_allows_nothing(tmp_path: Path) -> None:
    plan = SimpleNamespace(active=True, handle_bitfield=lambda *_: None, peer_left=lambda _: None)
    seeding = Seeding(tmp_path, revealing=plan)
    assert seeding.joins().granted is None
    seeding.close()


async def test_a_seed_that_the_swarm_needs_gives_nothing_away(tmp_path: Path) -> None:
    plan = SimpleNamespace(needed=True, handle_bitfield=lambda *_: None, peer_left=lambda _: None)
    seeding = Seeding(tmp_path, suggesting=plan)
    assert seeding.joins().granted is None
    plan.needed = False
    assert seeding.joins().granted is not None
    seeding.close()


async def test_a_choke_drops_all_that_waits_but_what_is_allowed(tmp_path: Path) -> None:
    seeding = Seeding(tmp_path)
    peer = seeding.joins()
    peer.am_choking = False
    for index in (OTHER, GRANTED[0], GRANTED[1]):
        seeding.serving.handle_request(peer, index, 0, BLOCK)
    peer.choke()
    assert peer.stream.uploads == 2
    said = seeding.said(peer)
    assert said.index((ids.CHOKE,)) < said.index((ids.REJECT, OTHER, 0, BLOCK))
    assert [one for one in said if one[0] == ids.PIECE] == [(ids.PIECE, GRANTED[0], 0), (ids.PIECE, GRANTED[1], 0)]
    assert [one for one in said if one[0] == ids.REJECT] == [(ids.REJECT, OTHER, 0, BLOCK)]
    seeding.close()


class Fetched:
    """A torrent that is wanted, and a seed of it that chokes us and allows some pieces."""

    def __init__(self, *named: int) -> None:
        self.context: Any = small_context()
        self.context.arena = Arena.create(1 << 22)
        self.context.workers = SimpleNamespace(allocate=self.context.arena.allocate)
        self.context.starved = {}
        torrent = Torrent.parse(make(COUNT * PIECE, piece_length=PIECE).torrent, what="test")
        self.pieces = Pieces(torrent.geometry)
        self.peers: dict[int, PeerConnection] = {}
        self.fetching = Fetching(
            self.context, 1, torrent, self.pieces, Owner(), self.peers, Selection(torrent),  # type: ignore[arg-type]
        )  # fmt: skip
        self.peer, self.theirs = connected(self.context, Owner())
        self.peer.number, self.peer.am_interested, self.peer.fast, self.peer.greeted = 0, True, True, True
        self.peer.have = Bitfield.full(COUNT)
        self.peers[0] = self.peer
        other = Bitfield(COUNT)
        other.set(OTHER)
        self.fetching.picker.peer_joined(0, self.peer.have)
        self.fetching.picker.peer_joined(1, other)
        for index in named:
            handle_allowed(self.peer, index, self.pieces)

    def asked(self, *, later: float = 0.0) -> list[int]:
        """The pieces of which blocks are asked after a tick."""
        self.context.loop.ahead += later
        self.fetching.tick(self.context.loop.time())
        return [index for index, _, _ in self.peer.stream.open_runs()]

    def close(self) -> None:
        self.peer.close("over")
        self.theirs.close()
        self.fetching.close()


async def test_what_is_allowed_is_asked_for_once_the_choke_has_lasted() -> None:
    fetched = Fetched(COUNT, 1 << 31, *range(20, 20 + MOST_ASKED))
    assert fetched.peer.allowance is not None
    assert fetched.peer.allowance.pieces == list(range(20, 20 + MOST_ASKED))
    assert fetched.asked() == []
    assert fetched.asked(later=CHOKED_LONG) == [20, 21, 22, 23]
    assert fetched.peer.pipeline.outstanding == MOST_ASKED
    fetched.close()


async def test_nothing_is_asked_without_a_word_of_it_or_the_fast_extension() -> None:
    fetched = Fetched()
    fetched.peer.fast = False
    handle_allowed(fetched.peer, 3, fetched.pieces)
    assert fetched.asked(later=CHOKED_LONG) == []
    fetched.close()


async def test_a_piece_that_is_rejected_is_not_asked_for_again() -> None:
    fetched = Fetched(3, 9)
    assert fetched.asked(later=CHOKED_LONG) == [3, 9]
    fetched.fetching.asked.handle_reject(fetched.peer, 3, 0, BLOCK)
    fetched.fetching.asked.handle_reject(fetched.peer, 3, BLOCK, BLOCK)
    assert fetched.asked(later=1.0) == [9]
    fetched.close()


async def test_a_peer_that_does_not_keep_its_word_is_not_asked_again() -> None:
    fetched = Fetched(3, 9)
    assert fetched.asked(later=CHOKED_LONG) == [3, 9]
    assert fetched.asked(later=REJECT_PATIENCE - 1) == [3, 9]
    assert fetched.asked(later=2.0) == []
    assert fetched.asked(later=60.0) == []
    assert fetched.pieces.have.none()
    fetched.close()


async def test_who_has_pieces_waits_to_be_unchoked() -> None:
    fetched = Fetched(30, 31)
    fetched.pieces.found(list(range(FEW_PIECES)))
    assert fetched.asked(later=CHOKED_LONG) == []
    fetched.close()


async def test_once_unchoked_anything_is_asked_for() -> None:
    fetched = Fetched(3)
    assert fetched.asked(later=CHOKED_LONG) == [3]
    fetched.peer.peer_choking = False
    assert len(set(fetched.asked())) > 4
    fetched.close()
