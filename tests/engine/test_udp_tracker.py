"""UDP trackers over real sockets: what is sent, what is shared, what hostile and silent ones cost."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from support.scripted_udp_tracker import CONNECTION, Asked, ScriptedUdpTracker, peers

from btfast.config import Settings
from btfast.discovery import udp_exchange
from btfast.discovery.announce import AnnounceRequest
from btfast.engine import families
from btfast.engine.resolve import Address, Resolver
from btfast.engine.udp import UdpSockets
from btfast.engine.udp_tracker import UdpTrackers
from btfast.errors import InputError, RemoteError
from btfast.metainfo.addresses import PeerAddress

REQUEST = AnnounceRequest(info_hash=bytes(range(20)), peer_id=b"p" * 20, port=6881, left=10, event="started", key="0000002a")


@pytest_asyncio.fixture
async def sockets() -> AsyncIterator[UdpSockets]:
    context: Any = SimpleNamespace(loop=asyncio.get_running_loop(), settings=Settings(), port=0)
    found = UdpSockets(context)
    yield found
    found.close()


@pytest_asyncio.fixture
async def trackers(sockets: UdpSockets) -> AsyncIterator[UdpTrackers]:
    found = UdpTrackers(sockets, Resolver(asyncio.get_running_loop()))
    yield found
    found.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp_exchange, "FIRST_WAIT", 0.05)


def one_peer(asked: Asked) -> list[bytes]:
    return [asked.reply(peers("10.0.0.1:80"))]


async def test_an_announce(trackers: UdpTrackers) -> None:
    with ScriptedUdpTracker(one_peer) as tracker:
        answer = await trackers.announce(tracker.url, REQUEST)
        assert answer.peers == (PeerAddress("10.0.0.1", 80),)
        assert answer.interval == 1800.0
        connect, announce = tracker.asked
        assert (connect.connection, connect.action) == (bytes.fromhex("0000041727101980"), 0)
        assert (announce.connection, announce.event, announce.url) == (CONNECTION, "started", b"/announce")
        assert announce.source == connect.source


async def test_all_torrents_share_one_connection_id(trackers: UdpTrackers) -> None:
    with ScriptedUdpTracker(one_peer) as tracker:
        answers = await asyncio.gather(*[trackers.announce(tracker.url, REQUEST) for _ in range(500)])
        assert len(answers) == 500
        assert [asked.action for asked in tracker.asked] == [0] + [1] * 500
        assert len({asked.tid for asked in tracker.asked}) == 501


async def test_a_lost_datagram_is_sent_again(trackers: UdpTrackers, impatient: None) -> None:
    lost: list[Asked] = []

    def second(asked: Asked) -> list[bytes]:
        lost.append(asked)
        return one_peer(asked) if len(lost) == 2 else []

    with ScriptedUdpTracker(second) as tracker:
        assert (await trackers.announce(tracker.url, REQUEST)).peers
        assert lost[0].tid == lost[1].tid


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda asked: [asked.reply(b"")], "the answer is cut short"),
        (lambda asked: [asked.reply(bytes(11))], "the answer is cut short"),
        (lambda asked: [], "no answer over UDP"),
        (lambda asked: [asked.reply(peers(), tid=asked.tid ^ 1)], "no answer over UDP"),
        (lambda asked: [asked.reply(peers(), action=2)], "no answer over UDP"),
        (lambda asked: [b"", b"\0\0\0\1", b"d1:a1:be", b"\xff" * 2000], "no answer over UDP"),
    ],
    ids=["8 bytes", "19 bytes", "silent", "another transaction", "another action", "noise"],
)
async def test_hostile_answers(
    trackers: UdpTrackers, impatient: None, answer: Callable[[Asked], list[bytes]], words: str
) -> None:
    with ScriptedUdpTracker(answer) as tracker:
        with pytest.raises(RemoteError) as caught:
            await trackers.announce(tracker.url, REQUEST)
    message = str(caught.value)
    assert message.startswith(f"tracker udp://127.0.0.1:{tracker.port}: {words}")
    assert message.isprintable()


async def test_a_refusal_is_an_answer(trackers: UdpTrackers) -> None:
    with ScriptedUdpTracker(lambda asked: [asked.reply(b"not registered\n\x1b[31m", action=3)]) as tracker:
        assert (await trackers.announce(tracker.url, REQUEST)).failure_reason == "not registered [31m"


async def test_an_answer_from_another_address_does_not_count(
    trackers: UdpTrackers, sockets: UdpSockets, impatient: None
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.2", 0))

        def from_elsewhere(asked: Asked) -> list[bytes]:
            other.sendto(asked.reply(peers("10.0.0.1:80")), ("127.0.0.1", asked.source[1]))
            return []

        with ScriptedUdpTracker(from_elsewhere) as tracker:
            with pytest.raises(RemoteError, match="no answer"):
                await trackers.announce(tracker.url, REQUEST)
    assert sockets.received > 2


async def test_a_tracker_that_is_not_there(trackers: UdpTrackers, impatient: None) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"udp://127.0.0.1:{reserved.getsockname()[1]}"
        with pytest.raises(RemoteError, match=r"^tracker udp://127\.0\.0\.1:\d+: no answer over UDP"):
            await trackers.announce(url, REQUEST)


async def test_urls_that_cannot_be_used(trackers: UdpTrackers) -> None:
    with pytest.raises(InputError, match="not a usable udp address"):
        await trackers.announce("udp://tracker.example", REQUEST)
    with pytest.raises(RemoteError, match="cannot be resolved"):
        await trackers.announce("udp://no-such-name.invalid:6969", REQUEST)


async def test_a_scrape(trackers: UdpTrackers) -> None:
    hashes = [b"a" * 20, b"b" * 20]
    with ScriptedUdpTracker(lambda asked: [asked.reply(struct.pack("!IIIIII", 1, 2, 3, 4, 5, 6))]) as tracker:
        found = await trackers.scrape(tracker.url, hashes)
        assert tracker.asked[-1].body == b"".join(hashes)
    assert (found[hashes[1]].complete, found[hashes[1]].downloaded, found[hashes[1]].incomplete) == (4, 5, 6)
    with ScriptedUdpTracker(lambda asked: [asked.reply(b"no", action=3)]) as tracker:
        with pytest.raises(RemoteError, match="tracker says: no"):
            await trackers.scrape(tracker.url, hashes)


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error.strerror}")

    async def resolve(self: Resolver, host: str, what: str) -> tuple[Address, ...]:
        return (Address(socket.AF_INET6, "::1"), Address(socket.AF_INET, "127.0.0.1"))

    monkeypatch.setattr(Resolver, "resolve", resolve)
    monkeypatch.setattr(families, "OTHER_FAMILY_SECONDS", 0.2)


async def test_a_name_with_both_families_hears_of_us_over_both(trackers: UdpTrackers, both: None) -> None:
    def v6(asked: Asked) -> list[bytes]:
        return [asked.reply(struct.pack("!III", 600, 1, 1) + bytes(15) + b"\1\0\x51")]

    with ExitStack() as stack:
        six = stack.enter_context(ScriptedUdpTracker(v6, host="::1"))
        try:
            four = ScriptedUdpTracker(one_peer, port=six.port)
        except OSError:
            pytest.skip("the port is taken on the other family")
        stack.enter_context(four)
        answer = await trackers.announce(f"udp://both.invalid:{six.port}", REQUEST)
        assert set(answer.peers) == {PeerAddress("10.0.0.1", 80), PeerAddress("::1", 81)}
        keys = {tracker.asked[-1].body[72:76] for tracker in (six, four)}
        assert keys == {(42).to_bytes(4, "big")}


async def test_a_family_that_is_silent_is_left_alone(trackers: UdpTrackers, both: None) -> None:
    with ScriptedUdpTracker(lambda asked: [], host="::1") as silent:
        try:
            tracker = ScriptedUdpTracker(one_peer, port=silent.port)
        except OSError:
            pytest.skip("the port is taken on the other family")
        with tracker:
            for _ in range(3):
                found = await trackers.announce(f"udp://both.invalid:{silent.port}", REQUEST)
                assert found.peers == (PeerAddress("10.0.0.1", 80),)
            assert len(tracker.asked) == 4
            assert len(silent.asked) == 2


async def test_closing_ends_who_waits(trackers: UdpTrackers) -> None:
    with ScriptedUdpTracker(lambda asked: []) as tracker:
        waiting = asyncio.ensure_future(trackers.announce(tracker.url, REQUEST))
        while not tracker.asked:
            await asyncio.sleep(0.001)
        trackers.close()
        with pytest.raises(RemoteError, match="no answer"):
            await waiting
