from __future__ import annotations

import socket
from typing import Any

from engine_parts import Owner, connected, small_context, tcp_pair

from btfast.config import Settings
from btfast.engine.connection import PeerConnection
from btfast.engine.dialing import Wanting
from btfast.engine.peer_set import PATIENT, PER_HOST, USELESS, PeerSet
from btfast.engine.swarm_names import SwarmNames
from btfast.metainfo.addresses import PeerAddress
from btfast.swarm.peers import Source


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


class Dials:
    """A dialer that only notes whom it is to dial."""

    def __init__(self) -> None:
        self.dialed: list[PeerAddress] = []

    def want(self, who: Wanting) -> None:
        while who.dial_one():
            pass

    def dial(self, address: PeerAddress, done: Any) -> None:
        self.dialed.append(address)

    def answered(self, address: PeerAddress, seconds: float | None) -> None: ...


SEED = PeerAddress("8.8.9.9", 6881)


class Full(Swarm):
    """All places are taken by connections out; the swarm is known to have a seed besides."""

    def __init__(self, max_peers: int) -> None:
        super().__init__(max_peers)
        self.dials = Dials()
        self.set = PeerSet(self.context, self.dials, SwarmNames((b"h" * 20,), v2=False), lambda *_: None)  # type: ignore[arg-type]
        self.talk = self.set.talk = Talk(self.set)
        self.out = [self.goes(f"8.8.8.{number}") for number in range(max_peers)]
        self.dials.dialed.clear()
        self.set.add([SEED], Source.TRACKER)

    def goes(self, host: str) -> PeerConnection:
        address = PeerAddress(host, 5000)
        self.set.add([address], Source.TRACKER)
        ours, theirs = tcp_pair()
        self.set.handle_connected(address, ours, None)
        (peer,) = (peer for peer in self.set.connections.values() if peer.address == address)
        peer.peer_id = host.encode()
        assert self.set.greeted(peer) is None
        peer.greeted = True
        self.all.append((peer, theirs))
        return peer

    def tick(self, ahead: float) -> None:
        self.context.loop.ahead = ahead
        self.set.tick(self.context.loop.time())


async def test_connections_out_of_no_use_do_not_keep_out_who_was_never_dialed() -> None:
    with Full(max_peers=4) as swarm:
        giver, served, open_to_us, useless = swarm.out
        swarm.tick(USELESS - 10)
        assert swarm.staying() == swarm.out, "it may yet get something"
        swarm.context.loop.ahead = USELESS + 10
        giver.last_payload = served.last_served = swarm.context.loop.time()
        open_to_us.am_interested, open_to_us.peer_choking = True, False
        swarm.tick(USELESS + 10)
        assert swarm.staying() == [giver, served, open_to_us]
        assert swarm.dials.dialed == [SEED]
        swarm.tick(USELESS + 11)
        assert len(swarm.staying()) == 3, "nobody else is new"
        assert useless.address not in swarm.dials.dialed


async def test_one_that_was_set_aside_comes_behind_those_who_are_new() -> None:
    with Full(max_peers=2) as swarm:
        swarm.tick(USELESS + 10)
        others = [PeerAddress(f"8.8.10.{number}", 1) for number in range(3)]
        swarm.set.add(others, Source.TRACKER)
        swarm.context.loop.ahead = USELESS + 16
        swarm.set.known.failed(SEED, swarm.context.loop.time())
        swarm.tick(USELESS + 16)
        assert swarm.dials.dialed == [SEED, others[0]]


async def test_one_a_second_makes_room_and_not_many_for_who_may_not_answer() -> None:
    with Full(max_peers=8) as swarm:
        swarm.set.add([PeerAddress(f"8.8.10.{number}", 1) for number in range(20)], Source.PEX)
        for second, staying in enumerate((7, 6, 6, 6)):
            swarm.tick(USELESS + 1 + second)
            assert len(swarm.staying()) == staying


async def test_who_may_yet_let_us_ask_gets_more_time() -> None:
    with Full(max_peers=2) as swarm:
        choking, metadata = swarm.out
        choking.am_interested = True
        swarm.set.hopeful = {metadata.number}
        swarm.tick(PATIENT * USELESS - 1)
        assert swarm.staying() == swarm.out
        swarm.tick(PATIENT * USELESS + 1)
        assert len(swarm.staying()) == 1


async def test_who_wants_nothing_more_gives_nobody_up() -> None:
    with Full(max_peers=2) as swarm:
        swarm.set.known.seeds_wanted = False
        swarm.tick(USELESS + 10)
        assert swarm.staying() == swarm.out


async def test_all_torrents_together_take_so_many_places() -> None:
    with Full(max_peers=4) as swarm:
        places = swarm.context.places
        assert places.connected == 4
        places.most = 5
        swarm.context.settings = Settings(max_peers=200)
        assert not swarm.comes("8.8.8.8").closed
        assert swarm.comes("8.8.8.9").closed
        swarm.tick(1)
        assert swarm.dials.dialed == []
        swarm.out[0].close("over")
        assert places.connected == 4
        swarm.tick(2)
        assert swarm.dials.dialed == [SEED]


async def test_the_second_try_of_an_address_that_was_banned_meanwhile_is_forgotten() -> None:
    with Full(max_peers=2) as swarm:
        swarm.out[0].close("over")
        swarm.tick(1)
        assert swarm.dials.dialed == [SEED]
        swarm.set._connecting.failed(SEED, "it hung up", encrypted=False, silent=True)
        assert swarm.dials.dialed == [SEED, SEED]
        swarm.set.known.banned(SEED)
        ours, theirs = tcp_pair()
        theirs.close()
        swarm.set.handle_connected(SEED, ours, None)
        assert not swarm.set._connecting._kinds._second


async def test_a_connection_after_the_end_is_closed() -> None:
    with Swarm(max_peers=3) as swarm:
        swarm.set.close("over")
        assert swarm.comes("8.8.8.1").closed
