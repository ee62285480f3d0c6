from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from engine_parts import Owner, connected, small_context

from btfast._arena import Arena
from btfast._bitfield import Bitfield
from btfast.engine.connection import PeerConnection
from btfast.engine.conversation import Conversation
from btfast.engine.fetching import Fetching
from btfast.metainfo.selection import Selection
from btfast.metainfo.torrent import Torrent
from btfast.swarm.pieces import Pieces
from btfast.wire.extensions import encode_dont_have
from btfast.wire.messages import encode_cancel

sys.path.append(str(Path(__file__).resolve().parents[1]))
from support.torrents import make

PIECE = 65536


class Fetched:
    """A torrent of three pieces and peers that have these of them, in a small arena."""

    def __init__(self, arena: int, haves: tuple[list[int], ...]) -> None:
        self.waiting: list[object] = []
        context: Any = small_context()
        context.arena = Arena.create(arena)
        context.workers = SimpleNamespace(allocate=context.arena.allocate)
        context.starved = {}
        context.wait_for_room = lambda who, retry: self.waiting.append(who)
        torrent = Torrent.parse(make(3 * PIECE, piece_length=PIECE).torrent, what="test")
        self.peers: dict[int, PeerConnection] = {}
        pieces = Pieces(torrent.geometry)
        self.fetching = Fetching(context, 1, torrent, pieces, Owner(), self.peers, Selection(torrent))  # type: ignore[arg-type]
        self.now = context.loop.time
        self.ends = []
        for number, have in enumerate(haves):
            peer, theirs = connected(context, Owner())
            self.ends.append(theirs)
            peer.number, peer.peer_choking, peer.am_interested = number, False, True
            peer.have = Bitfield(3)
            for index in have:
                peer.have.set(index)
            self.peers[number] = peer
            self.fetching.picker.peer_joined(number, peer.have)

    def close(self) -> None:
        for peer, theirs in zip(self.peers.values(), self.ends, strict=True):
            peer.close("over")
            theirs.close()
        self.fetching.close()


@pytest.mark.parametrize("arena", [PIECE + 8192, 1 << 20], ids=["full", "roomy"])
async def test_only_a_full_arena_makes_a_peer_wait_for_room(arena: int) -> None:
    """Of three pieces two peers have the first, all of which is asked of one of them, and another has the second."""
    fetched = Fetched(arena, ([0], [0], [1]))
    peers = fetched.peers
    filled = [fetched.fetching.fill(peer, fetched.now()) for peer in peers.values()]
    assert peers[0].stream.outstanding == PIECE
    assert peers[1].stream.outstanding == 0
    assert filled == [True, True, arena > 2 * PIECE]
    assert fetched.waiting == ([] if arena > 2 * PIECE else [peers[2]])
    fetched.close()


async def test_what_a_peer_says_it_has_lost_is_taken_back_and_asked_of_another() -> None:
    fetched = Fetched(1 << 20, ([0, 1], [0]))
    first, second = fetched.peers.values()
    fetched.fetching.fill(first, fetched.now())
    fetched.fetching.fill(second, fetched.now())
    assert (first.stream.outstanding, second.stream.outstanding) == (2 * PIECE, 0)
    assert fetched.fetching.picker.availability(0) == 2
    conversation: Any = SimpleNamespace(_fetching=fetched.fetching)
    Conversation._dont_have(conversation, first, encode_dont_have(0), fetched.now())
    assert fetched.fetching.picker.availability(0) == 1
    assert (first.stream.outstanding, first.pipeline.outstanding) == (PIECE, PIECE // 16384)
    fetched.fetching.fill(second, fetched.now())
    assert [run[0] for run in second.stream.open_runs()] == [0]
    first.flush()
    said = fetched.ends[0].recv(1 << 16)
    assert [said.count(encode_cancel(0, begin, 16384)) for begin in range(0, PIECE, 16384)] == [1] * 4
    fetched.close()
