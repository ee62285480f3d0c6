from __future__ import annotations

import socket
from typing import Any

from engine_parts import Owner, connected, small_context

from btfast.engine.connection import PeerConnection
from btfast.engine.peer_set import PER_HOST, USELESS, PeerSet
from btfast.engine.swarm_names import SwarmNames


class Talk(Owner):
    """Hands what has ended back to the peer set, as a conversation does."""

    def __init__(self, peers: PeerSet) -> None:
        super().__init__()
        self.peers = peers

    def handle_closed(self, peer: PeerConnection, reason: str) -> None:
        super().handle_closed(peer, reason)
        self.peers.dropped(peer, reason)


class Swarm:
    """A peer set without a dialer, and connections to it from any address."""

    def __init__(self, max_peers: int) -> None:
        self.context = small_context(max_peers=max_peers)
        self.set = PeerSet(self.context, None, SwarmNames((b"h" * 20,), v2=False), lambda *_: None)  # type: ignore[arg-type]
        self.talk = self.set.talk = Talk(self.set)
        self.all: list[tuple[PeerConnection, socket.socket]] = []

    def __enter__(self) -> Swarm:
        return self

    def __exit__(self, *_: Any) -> None:
        self.set.close("over")
        for peer, theirs in self.all:
            peer.close("over")
            theirs.close()

    def comes(self, host: str) -> PeerConnection:
        peer, theirs = connected(self.context, self.talk, host=host)
        self.all.append((peer, theirs))
        self.set.handle_incoming(peer, [], self.context.loop.time())
        return peer

    def staying(self) -> list[PeerConnection]:
        return [peer for peer, _ in self.all if not peer.closed]


async def test_a_third_of_the_places_is_kept_for_connections_out() -> None:
    with Swarm(max_peers=9) as swarm:
        for number in range(12):
            swarm.comes(f"8.8.8.{number}")
        assert [peer.address.host for peer in swarm.staying()] == [f"8.8.8.{number}" for number in range(6)]
        assert swarm.talk.closed == ["too many peers"] * 6


async def test_a_single_place_is_not_kept_for_anybody() -> None:
    with Swarm(max_peers=1) as swarm:
        assert not swarm.comes("8.8.8.8").closed


async def test_one_host_gets_only_so_many_places() -> None:
    with Swarm(max_peers=200) as swarm:
        for _ in range(PER_HOST + 1):
            swarm.comes("8.8.8.8")
        assert len(swarm.staying()) == PER_HOST
        for number in range(PER_HOST + 1):  # one household
            swarm.comes(f"2a01:4f8:1:2::{number:x}")
        assert len(swarm.staying()) == 2 * PER_HOST
        assert not swarm.comes("8.8.8.9").closed


async def test_the_loopback_is_many_hosts() -> None:
    with Swarm(max_peers=200) as swarm:
        for host in ("127.0.0.1", "::1"):
            for _ in range(PER_HOST + 1):
                assert not swarm.comes(host).closed


async def test_whoever_was_useless_for_longest_makes_room() -> None:
    with Swarm(max_peers=4) as swarm:
        giver, taker, useless = (swarm.comes(f"8.8.8.{number}") for number in range(3))
        swarm.context.loop.ahead = USELESS + 10
        now = swarm.context.loop.time()
        giver.last_payload = taker.last_served = now
        newcomer = swarm.comes("8.8.8.4")
        assert swarm.staying() == [giver, taker, newcomer]
        assert useless.closed
        assert swarm.comes("8.8.8.5").closed
        assert list(swarm.set.connections.values()) == [giver, taker, newcomer]


async def test_who_wants_nothing_goes_before_who_waits_for_a_turn() -> None:
    with Swarm(max_peers=3) as swarm:
        waiting, idle = swarm.comes("8.8.8.1"), swarm.comes("8.8.8.2")
        waiting.peer_interested = True
        swarm.context.loop.ahead = USELESS + 10
        newcomer = swarm.comes("8.8.8.3")
        assert swarm.staying() == [waiting, newcomer]
        assert idle.closed


async def test_who_says_another_port_over_and_over_is_connected_at_one_place_only() -> None:
    with Swarm(max_peers=3) as swarm:
        peer = swarm.comes("8.8.8.8")
        for port in (50001, 50002, 50003):
            peer.listen_port = port
            swarm.set.introduced(peer)
            assert swarm.set.known.connected_count == 1
        peer.close("over")
        assert swarm.set.known.connected_count == 0


async def test_a_connection_after_the_end_is_closed() -> None:
    with Swarm(max_peers=3) as swarm:
        swarm.set.close("over")
        assert swarm.comes("8.8.8.1").closed
