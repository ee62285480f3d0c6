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
from btfast.engine.fetching import Fetching
from btfast.metainfo.selection import Selection
from btfast.metainfo.torrent import Torrent
from btfast.swarm.pieces import Pieces

sys.path.append(str(Path(__file__).resolve().parents[1]))
from support.torrents import make

PIECE = 65536


@pytest.mark.parametrize("arena", [PIECE + 8192, 1 << 20], ids=["full", "roomy"])
async def test_only_a_full_arena_makes_a_peer_wait_for_room(arena: int) -> None:
    """Of three pieces two peers have the first, all of which is asked of one of them, and another has the second."""
    waiting: list[object] = []
    context: Any = small_context()
    context.arena = Arena.create(arena)
    context.workers = SimpleNamespace(allocate=context.arena.allocate)
    context.starved = {}
    context.wait_for_room = lambda who, retry: waiting.append(who)
    torrent = Torrent.parse(make(3 * PIECE, piece_length=PIECE).torrent, what="test")
    peers: dict[int, PeerConnection] = {}
    fetching = Fetching(context, 1, torrent, Pieces(torrent.geometry), Owner(), peers, Selection(torrent))  # type: ignore[arg-type]
    ends = []
    for number, have in enumerate(([0], [0], [1])):
        peer, theirs = connected(context, Owner())
        ends.append(theirs)
        peer.number, peer.peer_choking, peer.am_interested = number, False, True
        peer.have = Bitfield(3)
        for index in have:
            peer.have.set(index)
        peers[number] = peer
        fetching.picker.peer_joined(number, peer.have)
    filled = [fetching.fill(peer, context.loop.time()) for peer in peers.values()]
    assert peers[0].stream.outstanding == PIECE
    assert peers[1].stream.outstanding == 0
    assert filled == [True, True, arena > 2 * PIECE]
    assert waiting == ([] if arena > 2 * PIECE else [peers[2]])
    for peer, theirs in zip(peers.values(), ends, strict=True):
        peer.close("over")
        theirs.close()
    fetching.close()
