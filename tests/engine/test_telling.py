"""HAVEs: who hears of a new piece at once, and who a little later of several."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest
from engine_parts import Owner, connected, small_context

from btfast._bitfield import Bitfield
from btfast.engine.connection import PeerConnection
from btfast.engine.telling import LATER, Telling
from btfast.wire import messages

COUNT = 10


class Swarm:
    """Some peers that have nothing, are choked, and have not said that they want something of us."""

    def __init__(self) -> None:
        self.peers: dict[int, PeerConnection] = {}
        self.theirs: list[socket.socket] = []
        context = small_context()
        for number in range(3):
            peer, other = connected(context, Owner(), port=5000 + number)
            peer.number, peer.greeted, peer.have, peer.peer_interested = number, True, Bitfield(COUNT), True
            self.peers[number] = peer
            self.theirs.append(other)
        self.telling = Telling(self.peers)
        self.verified(9, 100.0)  # nobody has been told later for long: nobody waits
        assert [self.heard(number) for number in range(3)] == [[9]] * 3
        for peer in self.peers.values():
            peer.peer_interested = False

    def heard(self, number: int) -> list[int]:
        """The pieces that a peer has been told of since."""
        self.theirs[number].setblocking(False)
        try:
            data = self.theirs[number].recv(4096)
        except BlockingIOError:
            return []
        found = [int.from_bytes(data[at + 5 : at + 9], "big") for at in range(0, len(data), 9)]
        assert data == messages.encode_haves(found)
        return found

    def verified(self, index: int, now: float) -> None:
        self.telling.add(index)
        self.telling.tell(now)


@pytest.fixture
async def swarm() -> AsyncIterator[Swarm]:
    swarm = Swarm()
    yield swarm
    for peer in swarm.peers.values():
        peer.close("the test is over")
    for sock in swarm.theirs:
        sock.close()


async def test_who_may_ask_or_has_nothing_to_ask_for_yet_hears_at_once(swarm: Swarm) -> None:
    swarm.peers[0].peer_interested = True
    swarm.peers[1].peer_interested, swarm.peers[1].am_choking = True, False
    swarm.verified(3, 100.1)
    swarm.verified(4, 100.2)
    assert [swarm.heard(number) for number in range(3)] == [[], [3, 4], [3, 4]]
    swarm.telling.tell(100.0 + LATER)
    assert [swarm.heard(number) for number in range(3)] == [[3, 4], [], []]
    assert not swarm.telling.waits


async def test_who_has_the_piece_hears_of_it_with_the_next_that_it_lacks(swarm: Swarm) -> None:
    assert swarm.peers[0].have is not None
    swarm.peers[0].have.set(3)
    swarm.verified(3, 100.1)
    assert swarm.heard(0) == []
    assert swarm.telling.waits
    swarm.verified(4, 100.2)
    assert swarm.heard(0) == [3, 4]


async def test_a_piece_that_has_gone_before_it_was_told_of_is_not_told_of(swarm: Swarm) -> None:
    swarm.peers[0].peer_interested = True
    swarm.verified(3, 100.1)
    swarm.verified(4, 100.2)
    swarm.telling.handle_lost(3)
    swarm.telling.tell(101.0)
    assert swarm.heard(0) == [4]


async def test_who_has_left_is_not_told(swarm: Swarm) -> None:
    swarm.peers[0].peer_interested = True
    swarm.verified(3, 100.1)
    swarm.peers.pop(0).close("it has left")
    swarm.telling.tell(101.0)
    assert swarm.heard(0) == []
    assert not swarm.telling.waits
