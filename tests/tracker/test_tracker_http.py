"""The embedded tracker, asked over real HTTP by our own client, by a plain socket, and by libtorrent."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import libtorrent as lt
import pytest
import pytest_asyncio

from btfast._bencode import decode, encode
from btfast.discovery.announce import AnnounceRequest, quote
from btfast.engine.http_tracker import HttpTrackers
from btfast.engine.resolve import Address, Resolver
from btfast.errors import InputError
from btfast.metainfo.addresses import PeerAddress
from btfast.tracker.server import TrackerServer, serve
from btfast.tracker.store import Limits

# Bytes that a text-minded query parser would mangle: not UTF-8, "+", "%", "&", "=", NUL.
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
async def client() -> AsyncIterator[HttpTrackers]:
    client = HttpTrackers()
    yield client
    await client.close()


async def get(port: int, target: str, *, host: str = "127.0.0.1", method: str = "GET") -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"{method} {target} HTTP/1.0\r\n\r\n".encode("latin-1"))
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return int(head.split(b" ")[1]), body


async def answer(port: int, target: str, *, host: str = "127.0.0.1") -> dict[bytes, object]:
    status, body = await get(port, target, host=host)
    assert status == 200
    value = decode(body)
    assert isinstance(value, dict)
    return value


def target(n: int, *, left: int = 5, more: str = "") -> str:
    return (
        f"/announce?info_hash={quote(HASH)}&peer_id=-XX0001-{n:012d}&port={1000 + n}&uploaded=0&downloaded=0"
        f"&left={left}{more}"
    )


async def test_clients_find_each_other(tracker: TrackerServer, client: HttpTrackers) -> None:
    url = f"http://127.0.0.1:{tracker.port}/announce"
    first = await client.announce(url, request(1, event="started"))
    assert first.peers == ()
    assert first.interval == 30.0
    assert first.min_interval == 15.0
    assert first.external_ip == "127.0.0.1"
    second = await client.announce(url, request(2, event="started", left=0))
    assert second.peers == (PeerAddress("127.0.0.1", 1001),)
    assert (second.complete, second.incomplete) == (1, 1)
    await client.announce(url, request(1, event="stopped", numwant=0))
    assert (await client.announce(url, request(2, left=0))).peers == ()


async def test_list_of_dictionaries_when_compact_is_refused(tracker: TrackerServer) -> None:
    await answer(tracker.port, target(1))
    full = await answer(tracker.port, target(2, more="&compact=0"))
    assert full[b"peers"] == [{b"ip": b"127.0.0.1", b"port": 1001, b"peer id": b"-XX0001-000000000001"}]
    short = await answer(tracker.port, target(2, more="&compact=0&no_peer_id=1"))
    assert short[b"peers"] == [{b"ip": b"127.0.0.1", b"port": 1001}]


async def test_a_peers_claim_to_another_address_is_not_believed(tracker: TrackerServer) -> None:
    await answer(tracker.port, target(1, more="&ip=192.0.2.99&ipv4=192.0.2.98"))
    assert (await answer(tracker.port, target(2)))[b"peers"] == bytes([127, 0, 0, 1]) + (1001).to_bytes(2, "big")


async def test_ipv6_peers_come_as_peers6(client: HttpTrackers) -> None:
    if not has_ipv6():
        pytest.skip("no IPv6 loopback here")
    tracker = await serve("::", interval=30)
    await answer(tracker.port, target(1), host="::1")
    await answer(tracker.port, target(2), host="127.0.0.1")
    loopback = bytes(15) + b"\x01"
    third = await answer(tracker.port, target(3), host="::1")
    assert third[b"peers6"] == loopback + (1001).to_bytes(2, "big")
    assert third[b"peers"] == bytes([127, 0, 0, 1]) + (1002).to_bytes(2, "big")
    assert third[b"external ip"] == loopback
    found = await client.announce(f"http://[::1]:{tracker.port}/announce", request(4))
    assert set(found.peers) == {PeerAddress("::1", 1001), PeerAddress("127.0.0.1", 1002), PeerAddress("::1", 1003)}
    await tracker.close()


async def test_a_name_with_both_families_hears_of_us_over_both(
    client: HttpTrackers, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_ipv6():
        pytest.skip("no IPv6 loopback here")

    async def both(self: Resolver, host: str, what: str) -> tuple[Address, ...]:
        return (Address(socket.AF_INET6, "::1"), Address(socket.AF_INET, "127.0.0.1"))

    monkeypatch.setattr(Resolver, "resolve", both)
    tracker = await serve(None, interval=30)
    url = f"http://both.invalid:{tracker.port}/announce"
    await client.announce(url, request(1))
    full = await answer(tracker.port, target(2))
    assert full[b"incomplete"] == 3
    assert full[b"peers"] == bytes([127, 0, 0, 1]) + (1001).to_bytes(2, "big")
    assert full[b"peers6"] == bytes(15) + b"\x01" + (1001).to_bytes(2, "big")
    merged = await client.announce(url, request(3))
    assert set(merged.peers) == {
        PeerAddress("127.0.0.1", 1001),
        PeerAddress("::1", 1001),
        PeerAddress("127.0.0.1", 1002),
    }
    await tracker.close()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", b"port"),
        ("?port=1", b"info_hash"),
        ("?port=1&info_hash=short", b"info_hash"),
        (f"?port=1&info_hash={'h' * 20}", b"peer_id"),
        (f"?port=0&info_hash={'h' * 20}&peer_id={'p' * 20}", b"port"),
        (f"?port=65536&info_hash={'h' * 20}&peer_id={'p' * 20}", b"port"),
        (f"?port=x&info_hash={'h' * 20}&peer_id={'p' * 20}", b"port"),
        (f"?port=-1&info_hash={'h' * 20}&peer_id={'p' * 20}", b"port"),
        (f"?port=1&info_hash={'h' * 20}&peer_id={'p' * 20}&left=many", b"left"),
        ("?" + "&".join("a=1" for _ in range(2000)), b"too many fields"),
    ],
)
async def test_bad_announces_get_a_failure_reason(tracker: TrackerServer, query: str, words: bytes) -> None:
    failed = await answer(tracker.port, f"/announce{query}")
    assert set(failed) == {b"failure reason"}
    reason = failed[b"failure reason"]
    assert isinstance(reason, bytes)
    assert words in reason
    assert tracker.store.swarms == 0


async def test_other_paths_and_methods(tracker: TrackerServer) -> None:
    assert (await get(tracker.port, "/"))[0] == 404
    assert (await get(tracker.port, "/../etc/passwd"))[0] == 404
    assert (await get(tracker.port, target(1), method="POST"))[0] == 405
    assert (await get(tracker.port, "/" + "a" * 20_000))[0] == 400


async def test_passkey_paths_are_the_same_tracker(tracker: TrackerServer) -> None:
    await answer(tracker.port, "/some/key" + target(1))
    assert (await answer(tracker.port, target(2)))[b"incomplete"] == 2


async def test_unknown_events_are_plain_updates(tracker: TrackerServer) -> None:
    assert b"peers" in await answer(tracker.port, target(1, more="&event=paused"))


async def test_scrape(tracker: TrackerServer) -> None:
    await answer(tracker.port, target(1, more="&event=started"))
    await answer(tracker.port, target(1, left=0, more="&event=completed"))
    await answer(tracker.port, target(2))
    counts = {b"complete": 1, b"downloaded": 1, b"incomplete": 1}
    unknown = quote(b"u" * 20)
    for query in (f"?info_hash={quote(HASH)}&info_hash={unknown}", ""):
        assert await answer(tracker.port, f"/scrape{query}") == {
            b"files": {HASH: counts},
            b"flags": {b"min_request_interval": 15},
        }
    assert b"failure reason" in await answer(tracker.port, "/scrape?info_hash=short")


async def test_a_full_tracker_says_so(client: HttpTrackers) -> None:
    tracker = await serve("127.0.0.1", limits=Limits(peers=1))
    url = f"http://127.0.0.1:{tracker.port}/announce"
    await client.announce(url, request(1))
    assert "full" in ((await client.announce(url, request(2))).failure_reason or "")
    await tracker.close()


async def test_peers_expire_by_the_clock_given() -> None:
    now = [0.0]
    tracker = await serve("127.0.0.1", interval=10, now=lambda: now[0])
    await answer(tracker.port, target(1))
    now[0] = 1000.0
    assert (await answer(tracker.port, target(2)))[b"incomplete"] == 1
    await tracker.close()


async def test_a_port_in_use_is_one_clear_line(tracker: TrackerServer) -> None:
    with pytest.raises(InputError, match=rf"port {tracker.port}: .*in use.*: choose another"):
        await serve("127.0.0.1", tracker.port)


async def test_close_ends_open_connections(client: HttpTrackers) -> None:
    tracker = await serve("127.0.0.1")
    await client.announce(f"http://127.0.0.1:{tracker.port}/announce", request(1))
    await tracker.close()
    await tracker.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", tracker.port)


async def test_500_torrents_announce_and_are_found(tracker: TrackerServer, client: HttpTrackers) -> None:
    url = f"http://127.0.0.1:{tracker.port}/announce"
    hashes = [hashlib.sha1(b"%d" % n).digest() for n in range(500)]
    for peer in (1, 2):
        answers = await asyncio.gather(*[client.announce(url, request(peer, info_hash=h)) for h in hashes])
        assert all(len(a.peers) == peer - 1 for a in answers)
    assert tracker.store.swarms == 500


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait for what another process does, with a deadline."""
    async with asyncio.timeout(60):
        while True:
            met = condition()
            if met if isinstance(met, bool) else await met:
                return
            await asyncio.sleep(0.02)


async def test_libtorrent_announces_scrapes_and_says_goodbye(
    tracker: TrackerServer, client: HttpTrackers, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{tracker.port}/announce"
    data = b"libtorrent seeds this" * 1000
    (tmp_path / "file.bin").write_bytes(data)
    info = {"name": "file.bin", "length": len(data), "piece length": 32768, "pieces": hashlib.sha1(data).digest()}
    torrent = tmp_path / "file.torrent"
    torrent.write_bytes(encode({"announce": url, "info": info}))
    info_hash = hashlib.sha1(encode(info)).digest()
    session = lt.session(
        {
            "listen_interfaces": "127.0.0.1:0",
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "ssrf_mitigation": False,  # or it does not scrape on loopback
            "alert_mask": lt.alert.category_t.tracker_notification | lt.alert.category_t.error_notification,
        }
    )
    parameters = lt.add_torrent_params()
    parameters.ti = lt.torrent_info(str(torrent))
    parameters.save_path = str(tmp_path)
    parameters.flags |= lt.torrent_flags.seed_mode
    parameters.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    handle = session.add_torrent(parameters)
    alerts: list[tuple[str, str]] = []

    def seen(kind: str) -> list[str]:
        # An alert lives only until the next are taken: keep its text.
        alerts.extend((alert.what(), alert.message()) for alert in session.pop_alerts())
        return [message for what, message in alerts if what == kind]

    await until(lambda: bool(seen("tracker_reply")))
    assert not seen("tracker_error")
    found = await client.announce(url, request(1, info_hash=info_hash, event="started"))
    assert found.peers == (PeerAddress("127.0.0.1", session.listen_port()),)
    assert (found.complete, found.incomplete) == (1, 1)
    handle.scrape_tracker()
    await until(lambda: bool(seen("scrape_reply") + seen("scrape_failed")))
    assert not seen("scrape_failed")
    assert "1 1" in seen("scrape_reply")[0]
    session.remove_torrent(handle)

    async def gone() -> bool:
        scraped = await answer(tracker.port, f"/scrape?info_hash={quote(info_hash)}")
        return scraped[b"files"] == {info_hash: {b"complete": 0, b"downloaded": 0, b"incomplete": 1}}

    await until(gone)
