"""Torrents take turns at connections out: one whose addresses do not answer must not keep the others waiting."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from engine_parts import small_context

from btfast.engine import dialing
from btfast.engine.dialing import Dialed, Dialer
from btfast.engine.patience import Patience
from btfast.engine.peer_set import PeerSet
from btfast.engine.swarm_names import SwarmNames
from btfast.metainfo.addresses import PeerAddress
from btfast.swarm.peers import Source

HALF_OPEN = 4


class Attempts(Dialer):
    """Attempts that end when the test says so, without a socket."""

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.dialed: list[PeerAddress] = []
        self._under_way: dict[socket.socket, tuple[PeerAddress, Dialed]] = {}
        self.most = 0

    def _connect(self, address: PeerAddress, done: Dialed) -> None:
        sock = socket.socket()
        self.dialed.append(address)
        self._open[sock] = self._context.loop.call_later(1000, print)
        self._under_way[sock] = address, done
        self.most = max(self.most, len(self._open))

    def time_out(self) -> None:
        """All that are under way."""
        for sock, (address, done) in list(self._under_way.items()):
            del self._under_way[sock]
            self._open.pop(sock).cancel()
            sock.close()
            self._failed(address, done, OSError(110, "timed out"))

    def close(self) -> None:
        for timer in self._open.values():
            timer.cancel()
        for sock in self._open:
            sock.close()
        self._open.clear()
        super().close()


class Crowd:
    def __init__(self) -> None:
        self.context = small_context()
        self.dialer = Attempts(self.context)

    def torrent(self, addresses: list[PeerAddress]) -> PeerSet:
        peers = PeerSet(self.context, self.dialer, SwarmNames((b"h" * 20,), v2=False), lambda *_: None)
        peers.add(addresses, Source.TRACKER)
        return peers


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Crowd]]:
    made: list[Crowd] = []

    class Made(Crowd):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    monkeypatch.setattr(dialing, "HALF_OPEN", HALF_OPEN)
    yield Made
    for one in made:
        one.dialer.close()


def dead(torrent: int, count: int) -> list[PeerAddress]:
    return [PeerAddress(f"8.{torrent >> 8}.{torrent & 255}.{number}", 1) for number in range(count)]


GOOD = PeerAddress("9.9.9.9", 1)


async def test_a_torrent_of_dead_addresses_does_not_keep_another_from_its_only_peer(crowd: type[Crowd]) -> None:
    here = crowd()
    first = here.torrent(dead(1, 200))
    second = here.torrent([GOOD])
    assert len(here.dialer.dialed) == HALF_OPEN
    assert second.held_up
    assert not first.held_up
    here.dialer.time_out()
    assert GOOD in here.dialer.dialed
    assert not second.held_up
    assert here.dialer.most == HALF_OPEN


async def test_many_torrents_take_turns(crowd: type[Crowd]) -> None:
    here = crowd()
    for torrent in range(10):
        here.torrent(dead(torrent, 50))
    idle = here.torrent([GOOD])
    rounds = 0
    while GOOD not in here.dialer.dialed:
        here.dialer.time_out()
        rounds += 1
    assert rounds <= 4
    here.dialer.time_out()
    assert idle.known.dialing == 0
    idle.tick(here.context.loop.time())
    assert not idle.held_up, "it has nothing to dial yet"
    assert {address.host.rpartition(".")[0] for address in here.dialer.dialed} == {f"8.0.{n}" for n in range(10)} | {"9.9.9"}


async def test_a_closed_torrent_dials_no_more(crowd: type[Crowd]) -> None:
    here = crowd()
    first = here.torrent(dead(1, 20))
    first.close("over")
    here.dialer.time_out()
    assert len(here.dialer.dialed) == HALF_OPEN


async def test_time_in_which_nothing_was_dialed_for_lack_of_room_is_no_ones_fault(crowd: type[Crowd]) -> None:
    here = crowd()
    here.torrent(dead(1, 200))
    second = here.torrent([GOOD])
    finding = SimpleNamespace(exhausted=False, last_error="", want_peers=lambda: None)
    patience = Patience(here.context, "x", second, finding)  # type: ignore[arg-type]
    begin, limit = here.context.loop.time(), here.context.settings.peer_timeout

    def verdict(at: float) -> object:
        return patience.verdict(begin + at, busy=False, done=0, total=1)

    for at in range(int(3 * limit)):
        assert verdict(at) is None
    here.dialer.time_out()
    for at in range(int(3 * limit), int(4 * limit) - 15):
        assert verdict(at) is None
    for at in range(int(4 * limit) - 15, int(4 * limit) + 15):
        verdict(at)
    assert verdict(4 * limit + 15) is not None
