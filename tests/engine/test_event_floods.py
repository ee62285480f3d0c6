from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from engine_parts import connected, small_context, tcp_pair, until

from btfast._bitfield import Bitfield
from btfast._peer_stream import PeerStream
from btfast.engine.connection import PeerConnection
from btfast.engine.conversation import Conversation
from btfast.engine.extended import USUAL_REQQ, Extended
from btfast.engine.greeting import FLOOD, FLOOD_TICKS, floods
from btfast.engine.swarm_names import SwarmNames
from btfast.metainfo.torrent import Torrent
from btfast.swarm.pieces import Pieces
from btfast.wire import ids, messages
from btfast.wire.extensions import encode_extended_handshake
from btfast.wire.handshake import encode_handshake

sys.path.append(str(Path(__file__).resolve().parents[1]))
from support.torrents import make

LOUD = FLOOD + 1000


def test_a_wake_up_ends_after_some_thousands_of_events_and_loses_none() -> None:
    ours, theirs = tcp_pair()
    with ours, theirs:
        ours.setblocking(False)
        stream = PeerStream(ours.fileno())
        theirs.sendall(bytes(68))
        count = 30_000
        data = b"".join(struct.pack("!IBI", 5, ids.HAVE, index) for index in range(count))
        theirs.setblocking(False)
        events: list[tuple[Any, ...]] = []
        most = 0
        while len(events) < count + 2:
            while data:
                try:
                    data = data[theirs.send(data) :]
                except BlockingIOError:
                    break
            found = stream.handle_readable()
            most = max(most, len(found))
            events += found
        assert [event[1] for event in events[2:]] == list(range(count))
        assert most < 4096 + 65536 // 9 + 1  # what one read brings comes on top


class Said:
    """A conversation with one peer that has greeted us, about `pieces` pieces of 64 bytes."""

    def __init__(self, pieces: int) -> None:
        made = make(64 * pieces, piece_length=64)
        torrent = Torrent.parse(made.torrent, what="test")
        self.context = small_context()
        nothing = SimpleNamespace(
            offered=Bitfield(pieces), handle_bitfield=lambda *_: None, handle_have=lambda *_: None,
            fill=lambda *_: None, peer_left=lambda *_: None, greeted=lambda *_: None, dropped=lambda *_: None,
            handle_interested=lambda *_: None, introduced=lambda *_: None,
            picker=SimpleNamespace(
                peer_joined=lambda *_: None, peer_has=self._has, interesting=lambda *_: False
            ),
        )  # fmt: skip
        extended = Extended(self.context, lambda: False)
        self.talk = Conversation(
            self.context, torrent, Pieces(torrent.geometry), nothing, nothing, extended,  # type: ignore[arg-type]
            SwarmNames(torrent.swarm_hashes, v2=False), nothing,  # type: ignore[arg-type]
        )  # fmt: skip
        self.peer, self._theirs = connected(self.context, self.talk)
        self.ticks = 0
        self._theirs.sendall(encode_handshake(made.info_hash, b"-XX0001-themthemthem"))

    def _has(self, number: int, index: int) -> bool:
        assert self.peer.have is not None
        self.peer.have.set(index)
        return False

    async def says(self, data: bytes, count: int) -> None:
        """It sends so many messages, and all have been heard."""
        heard = self.peer.stream.messages + count
        while data:
            data = data[self._theirs.send(data[:50_000]) :]
            await until(lambda: self.peer.closed or self.peer.stream.messages > heard - count, "it is heard")
        await until(lambda: self.peer.closed or self.peer.stream.messages == heard, "all of it is heard")

    def tick(self) -> None:
        self.ticks += 1
        self.talk.tick([self.peer], self.context.loop.time() + self.ticks)

    def end(self) -> None:
        self.peer.close("over")
        self._theirs.close()


@contextmanager
def said(pieces: int = 1) -> Iterator[Said]:
    conversation = Said(pieces)
    try:
        yield conversation
    finally:
        conversation.end()


async def test_a_peer_that_floods_us_for_seconds_is_dropped() -> None:
    with said() as it:
        for _ in range(FLOOD_TICKS):
            assert not it.peer.closed
            await it.says(messages.INTERESTED * LOUD, LOUD)
            it.tick()
        assert it.peer.closed


async def test_a_burst_is_borne() -> None:
    with said() as it:
        for _ in range(FLOOD_TICKS):
            await it.says(messages.INTERESTED * LOUD, LOUD)
            it.tick()
            it.tick()
        assert not it.peer.closed


async def test_news_of_pieces_are_no_flood() -> None:
    """A peer that gets many small pieces a second says so each time."""
    with said(FLOOD_TICKS * LOUD) as it:
        for turn in range(FLOOD_TICKS):
            await it.says(messages.encode_haves(list(range(turn * LOUD, (turn + 1) * LOUD))), LOUD)
            it.tick()
        assert not it.peer.closed


async def test_blocks_are_no_flood() -> None:
    """Here by their counters: a stream that got and gave so much has exchanged that many messages."""
    with said() as it:
        stream = SimpleNamespace(messages=0, payload=0, payload_sent=0)
        peer: Any = SimpleNamespace(stream=stream, have=Bitfield(1), excess=0, flooding=0)
        for _ in range(2 * FLOOD_TICKS):
            stream.messages += 3 * LOUD
            stream.payload += 64 * LOUD
            stream.payload_sent += 64 * LOUD
            assert not floods(peer, it.talk._explained(peer), 1.0)
        for _ in range(FLOOD_TICKS):
            stream.messages += 3 * LOUD
            flooding = floods(peer, it.talk._explained(peer), 1.0)
        assert flooding


def limit(peer: PeerConnection) -> float:
    """How many requests the peer is sent at most."""
    peer.pipeline.handle_received(0.0, 10_000)  # as if it were fast
    return peer.pipeline.room(0.0) + peer.pipeline.outstanding


async def test_what_a_peer_does_not_say_again_stays() -> None:
    with said() as it:
        await it.says(encode_extended_handshake(m={}, reqq=61), 1)
        assert limit(it.peer) == 60
        await it.says(encode_extended_handshake(m={"ut_pex": 1}, reqq=None), 1)
        assert it.peer.extensions == {"ut_pex": 1}
        assert limit(it.peer) == 60
        await it.says(encode_extended_handshake(m={}, reqq=31), 1)
        assert limit(it.peer) == 30


async def test_a_peer_that_never_says_how_much_it_queues_gets_the_usual() -> None:
    with said() as it:
        await it.says(encode_extended_handshake(m={}, reqq=None), 1)
        assert limit(it.peer) == USUAL_REQQ - 1
