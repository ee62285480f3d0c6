"""The embedded tracker over UDP, asked by our own client, by libtorrent, and by plain sockets that mean no good."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from btfast.config import Settings
from btfast.discovery.announce import AnnounceRequest, ScrapedSwarm
from btfast.discovery.udp_tracker import PROTOCOL_ID, announce_body
from btfast.engine.http_tracker import HttpTrackers
from btfast.engine.resolve import Resolver
from btfast.engine.udp import UdpSockets
from btfast.engine.udp_tracker import UdpTrackers
from btfast.errors import RemoteError
from btfast.metainfo.addresses import PeerAddress
from btfast.tracker.access import NO_KEY, NOT_LISTED, Access
from btfast.tracker.server import TrackerServer, serve
from btfast.tracker.store import Limits, TrackerStore
from btfast.tracker.udp import ID_SECONDS, UdpFace

HASH = b"\xff\x00+%&=\x80\xc3 #?/abcdefgh"


def request(n: int, **changes: object) -> AnnounceRequest:
    values: dict[str, object] = {"info_hash": HASH, "peer_id": b"-XX0001-%012d" % n, "port": 1000 + n, "left": 5}
    return AnnounceRequest(**(values | changes))  # type: ignore[arg-type]


@pytest_asyncio.fixture
async def tracker() -> AsyncIterator[TrackerServer]:
    tracker = await serve("127.0.0.1", interval=30)
    yield tracker
    await tracker.close()


@pytest_asyncio.fixture
async def client() -> AsyncIterator[UdpTrackers]:
    loop = asyncio.get_running_loop()
    context: Any = SimpleNamespace(loop=loop, settings=Settings(), port=0)
    sockets = UdpSockets(context)
    client = UdpTrackers(sockets, Resolver(loop))
    yield client
    client.close()
    sockets.close()


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        found.bind(("127.0.0.1", 0))
        found.setblocking(False)
        yield found


async def ask(sock: socket.socket, port: int, data: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_sendto(sock, data, ("127.0.0.1", port))
    async with asyncio.timeout(60):
        return await loop.sock_recv(sock, 4096)


async def silence(sock: socket.socket, port: int, data: bytes) -> None:
    """Asserts that it is not answered: the answer to a question that was asked later comes first."""
    await asyncio.get_running_loop().sock_sendto(sock, data, ("127.0.0.1", port))
    answer = await ask(sock, port, PROTOCOL_ID + struct.pack("!II", 0, 0xFEED))
    assert answer[:8] == struct.pack("!II", 0, 0xFEED)


async def test_clients_find_each_other(tracker: TrackerServer, client: UdpTrackers) -> None:
    url = f"udp://127.0.0.1:{tracker.port}/announce"
    first = await client.announce(url, request(1, event="started"))
    assert (first.peers, first.interval) == ((), 30.0)
    second = await client.announce(url, request(2, event="started", left=0))
    assert second.peers == (PeerAddress("127.0.0.1", 1001),)
    assert (second.complete, second.incomplete) == (1, 1)
    await client.announce(url, request(1, event="completed", left=0))
    assert await client.scrape(url, [HASH, b"u" * 20]) == {
        HASH: ScrapedSwarm(complete=2, downloaded=1, incomplete=0),
        b"u" * 20: ScrapedSwarm(complete=0, downloaded=0, incomplete=0),
    }
    await client.announce(url, request(1, event="stopped", numwant=0))
    assert tracker.store.peers == 1


async def test_both_faces_share_one_memory(tracker: TrackerServer, client: UdpTrackers) -> None:
    http = HttpTrackers()
    await client.announce(f"udp://127.0.0.1:{tracker.port}", request(1))
    found = await http.announce(f"http://127.0.0.1:{tracker.port}/announce", request(2))
    assert found.peers == (PeerAddress("127.0.0.1", 1001),)
    url = f"http://127.0.0.1:{tracker.port}/announce"
    assert await http.scrape(url, [HASH]) == {HASH: ScrapedSwarm(complete=0, downloaded=0, incomplete=2)}
    with pytest.raises(RemoteError, match="does not end in /announce"):
        await http.scrape(f"http://127.0.0.1:{tracker.port}/tracker", [HASH])
    await http.close()


async def test_ipv6_has_peers_of_its_own(client: UdpTrackers) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error.strerror}")
    tracker = await serve(None, interval=30)
    await client.announce(f"udp://127.0.0.1:{tracker.port}", request(1))
    await client.announce(f"udp://[::1]:{tracker.port}", request(2))
    found = await client.announce(f"udp://[::1]:{tracker.port}", request(3))
    assert found.peers == (PeerAddress("::1", 1002),)
    assert found.incomplete == 3
    await tracker.close()


async def test_500_torrents_at_once(tracker: TrackerServer, client: UdpTrackers) -> None:
    url = f"udp://127.0.0.1:{tracker.port}"
    hashes = [hashlib.sha1(b"%d" % n).digest() for n in range(500)]
    for peer in (1, 2):
        answers = await asyncio.gather(*[client.announce(url, request(peer, info_hash=h)) for h in hashes])
        assert all(len(answer.peers) == peer - 1 for answer in answers)
    assert tracker.store.swarms == 500


async def test_only_a_key_opens_a_tracker_with_keys(client: UdpTrackers) -> None:
    tracker = await serve("127.0.0.1", access=Access(keys=[b"s3cret"]))
    http = HttpTrackers()
    where = f"127.0.0.1:{tracker.port}"
    for path in ("/s3cret/announce", "/announce?passkey=s3cret"):
        assert (await client.announce(f"udp://{where}{path}", request(1))).failure_reason is None
        assert (await http.announce(f"http://{where}{path}", request(1))).failure_reason is None
    assert tracker.store.peers == 1
    for path in ("/announce", "/other/announce", "/announce?passkey=s3cre", "/s3cret2/announce", "/?key=s3cret"):
        assert (await client.announce(f"udp://{where}{path}", request(2))).failure_reason == NO_KEY
    assert (await http.announce(f"http://{where}/announce", request(2))).failure_reason == NO_KEY
    assert (await client.announce(f"udp://{where}", request(2))).failure_reason == NO_KEY
    assert tracker.store.peers == 1
    with pytest.raises(RemoteError, match="over HTTP"):
        await client.scrape(f"udp://{where}/s3cret/announce", [HASH])
    assert (await http.scrape(f"http://{where}/s3cret/announce", [HASH]))[HASH].incomplete == 1
    await http.close()
    await tracker.close()


async def test_only_listed_torrents_are_served(client: UdpTrackers) -> None:
    tracker = await serve("127.0.0.1", access=Access([HASH]))
    http = HttpTrackers()
    where = f"127.0.0.1:{tracker.port}/announce"
    other = b"o" * 20
    assert (await client.announce(f"udp://{where}", request(1))).failure_reason is None
    assert (await client.announce(f"udp://{where}", request(1, info_hash=other))).failure_reason == NOT_LISTED
    assert (await http.announce(f"http://{where}", request(1, info_hash=other))).failure_reason == NOT_LISTED
    assert tracker.store.swarms == 1
    with pytest.raises(RemoteError, match="does not list its torrents"):
        await http.scrape(f"http://{where}", [])
    tracker.access.replace(Access([other]))
    assert (await client.announce(f"udp://{where}", request(1))).failure_reason == NOT_LISTED
    assert (await http.announce(f"http://{where}", request(1, info_hash=other))).failure_reason is None
    await http.close()
    await tracker.close()


async def test_a_full_tracker_says_so(client: UdpTrackers) -> None:
    tracker = await serve("127.0.0.1", limits=Limits(peers=1))
    url = f"udp://127.0.0.1:{tracker.port}"
    await client.announce(url, request(1))
    assert "full" in ((await client.announce(url, request(2))).failure_reason or "")
    await tracker.close()


async def test_without_a_connection_id_nothing_is_done(tracker: TrackerServer, sock: socket.socket) -> None:
    body = announce_body(request(1))
    for connection in (bytes(8), PROTOCOL_ID, b"\xff" * 8):
        for question in (struct.pack("!8sII", connection, 1, 7) + body, struct.pack("!8sII", connection, 2, 7) + HASH):
            answer = await ask(sock, tracker.port, question)
            assert answer == struct.pack("!II", 3, 7) + b"wrong connection id"
            assert len(answer) <= len(question)
    assert tracker.store.swarms == 0


async def test_an_id_belongs_to_an_address(tracker: TrackerServer, sock: socket.socket) -> None:
    connection = (await ask(sock, tracker.port, PROTOCOL_ID + struct.pack("!II", 0, 1)))[8:]
    announce = struct.pack("!8sII", connection, 1, 7) + announce_body(request(1))
    assert (await ask(sock, tracker.port, announce))[:4] == bytes((0, 0, 0, 1))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as thief:
        thief.bind(("127.0.0.2", 0))
        thief.setblocking(False)
        assert (await ask(thief, tracker.port, announce))[:4] == bytes((0, 0, 0, 3))
    assert tracker.store.peers == 1


async def test_what_is_no_question_is_not_answered(tracker: TrackerServer, sock: socket.socket) -> None:
    connection = (await ask(sock, tracker.port, PROTOCOL_ID + struct.pack("!II", 0, 1)))[8:]
    short = struct.pack("!8sII", connection, 1, 7) + announce_body(request(1))[:-1]
    strange = struct.pack("!8sII", connection, 9, 7) + bytes(100)
    for data in (b"", b"x", PROTOCOL_ID + bytes(7), bytes(16), short, strange, struct.pack("!8sII", connection, 2, 7)):
        await silence(sock, tracker.port, data)
    assert tracker.store.swarms == 0


async def test_an_announce_of_port_0_is_refused(tracker: TrackerServer, client: UdpTrackers) -> None:
    assert (await client.announce(f"udp://127.0.0.1:{tracker.port}", request(1, port=0))).failure_reason == "port is out of range"


def answers_of(face: UdpFace, now: float, data: bytes, host: str = "192.0.2.1") -> bytes | None:
    face._renew_ids(now)
    return face.answer(now, data, host, socket.AF_INET)


async def test_an_id_is_good_for_two_minutes_and_not_for_ever() -> None:
    face = UdpFace(TrackerStore(random.Random(1)), Access(), 1800, lambda: 0.0)
    connect = PROTOCOL_ID + struct.pack("!II", 0, 1)
    for begin in (0.0, 1.0, ID_SECONDS - 0.5):
        connected = answers_of(face, begin, connect)
        assert connected is not None
        announce = struct.pack("!8sII", connected[8:], 1, 7) + announce_body(request(1))
        for later, good in ((0, True), (ID_SECONDS, True), (2 * ID_SECONDS, False)):
            answer = answers_of(face, begin + later, announce)
            assert answer is not None
            assert (answer[3] == 1) is good


async def test_no_address_can_be_guessed_into() -> None:
    """Ids of neighbours and of moments differ, and those of another tracker too."""
    faces = [UdpFace(TrackerStore(random.Random(1)), Access(), 1800, lambda: 0.0) for _ in range(2)]
    connect = PROTOCOL_ID + struct.pack("!II", 0, 1)
    ids = {answers_of(face, at, connect, f"192.0.2.{n}") for face in faces for at in (0.0, 500.0) for n in range(50)}
    assert len(ids) == 200


async def test_the_memory_for_ids_is_bounded() -> None:
    face = UdpFace(TrackerStore(random.Random(1)), Access(), 1800, lambda: 0.0)
    for n in range(20_000):
        answers_of(face, 1.0, PROTOCOL_ID + struct.pack("!II", 0, 1), f"10.0.{n >> 8}.{n & 255}")
    assert len(face._ids) < 5000


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=16, max_size=300), st.booleans())
def test_no_datagram_breaks_it_or_is_worth_sending_under_a_false_address(data: bytes, valid: bool) -> None:
    async def one() -> None:
        face = UdpFace(TrackerStore(random.Random(1)), Access(), 1800, lambda: 0.0)
        face._renew_ids(1.0)
        sent = face._make_ids("192.0.2.1")[0] + data[8:] if valid else data
        answer = face.answer(1.0, sent, "192.0.2.1", socket.AF_INET)
        assert answer is None or valid or len(answer) <= len(data)

    asyncio.run(one())


async def test_libtorrent_announces_over_udp(tracker: TrackerServer, client: UdpTrackers, tmp_path: Path) -> None:
    lt = pytest.importorskip("libtorrent", reason="missing peer: libtorrent")
    url = f"udp://127.0.0.1:{tracker.port}/announce"
    session = lt.session(
        {
            "listen_interfaces": "127.0.0.1:0", "enable_dht": False, "enable_lsd": False, "enable_upnp": False,
            "enable_natpmp": False, "ssrf_mitigation": False,
        }
    )  # fmt: skip
    parameters = lt.add_torrent_params()
    parameters.info_hashes = lt.info_hash_t(lt.sha1_hash(HASH))
    parameters.trackers = [url]
    parameters.save_path = str(tmp_path)
    parameters.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    handle = session.add_torrent(parameters)
    async with asyncio.timeout(60):
        while not tracker.store.peers:
            await asyncio.sleep(0.02)
    found = await client.announce(url, request(1, event="started"))
    assert found.peers == (PeerAddress("127.0.0.1", session.listen_port()),)
    session.remove_torrent(handle)
    async with asyncio.timeout(60):
        while tracker.store.peers > 1:
            await asyncio.sleep(0.02)
