"""HTTP announces and files, from a server on loopback that behaves."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
import ssl
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from msgspec.structs import replace
from scripted_http import BODY, PEER_ID, REQUEST, Server, endless, failure, response

from btfast._bencode import encode
from btfast.engine.http_client import HttpClient
from btfast.engine.http_tracker import HttpTrackers
from btfast.engine.resolve import Address, literal
from btfast.errors import RemoteError, SourceNotFoundError
from btfast.metainfo.addresses import PeerAddress


async def test_announce_returns_peers(server: Server, trackers: HttpTrackers) -> None:
    answer = await trackers.announce(f"{server.url}/announce?passkey=x", REQUEST)
    assert answer.peers == (PeerAddress("127.0.0.1", 6881),)
    assert answer.interval == 900.0
    (head,) = server.requests
    line, *fields = head.split("\r\n")
    target = line.split(" ")[1]
    assert target.startswith("/announce?passkey=x&info_hash=")
    assert unquote_to_bytes(target.split("info_hash=")[1].split("&")[0]) == REQUEST.info_hash
    assert "User-Agent: btfast/test" in fields
    assert "Accept-Encoding: gzip" in fields
    assert f"Host: 127.0.0.1:{server.port}" in fields


async def test_it_is_asked_from_the_address_of_bind(server: Server) -> None:
    """A tracker learns our address from where an announce comes from: peers have to reach us there."""
    trackers = HttpTrackers(bind="127.0.0.7")
    await trackers.announce(f"{server.url}/announce", REQUEST)
    await trackers.close()
    assert server.clients == ["127.0.0.7"]


async def test_it_is_not_asked_over_another_family_than_that_of_bind(server: Server) -> None:
    trackers = HttpTrackers(bind="::1")
    assert "check --bind" in await failure(trackers, f"{server.url}/announce")
    await trackers.close()
    assert server.clients == []


async def test_connections_are_kept_and_shared(server: Server, trackers: HttpTrackers) -> None:
    for _ in range(20):
        await trackers.announce(f"{server.url}/announce", REQUEST)
    assert len(server.requests) == 20
    assert server.connections == 1


async def test_what_is_said_to_a_goodbye_is_not_read(server: Server, trackers: HttpTrackers) -> None:
    async def handler(target: str, writer: asyncio.StreamWriter) -> bytes:
        return response(b"farewell")

    server.handler = handler
    with pytest.raises(RemoteError, match="not an announce response"):
        await trackers.announce(f"{server.url}/announce", REQUEST)
    answer = await trackers.announce(f"{server.url}/announce", replace(REQUEST, event="stopped"))
    assert answer.failure_reason is None


async def test_500_torrents_use_at_most_64_connections(server: Server, trackers: HttpTrackers) -> None:
    most = 0

    async def handler(target: str, writer: asyncio.StreamWriter) -> bytes:
        nonlocal most
        most = max(most, server.open)
        return response(BODY)

    server.handler = handler
    answers = await asyncio.gather(*[trackers.announce(f"{server.url}/announce", REQUEST) for _ in range(500)])
    assert len(answers) == 500
    assert most <= 64
    assert server.connections <= 64


async def test_a_connection_closed_while_idle_is_replaced(server: Server, trackers: HttpTrackers) -> None:
    async def handler(target: str, writer: asyncio.StreamWriter) -> bytes | None:
        # The second request on a connection finds it closed, as when a keep-alive time runs out at that moment.
        return response(BODY) if len(server.requests) != 2 else None

    server.handler = handler
    await trackers.announce(f"{server.url}/announce", REQUEST)
    answer = await trackers.announce(f"{server.url}/announce", REQUEST)
    assert answer.peers
    assert server.connections == 2


async def test_gzip(server: Server, trackers: HttpTrackers) -> None:
    server.always(response(gzip.compress(BODY), "Content-Encoding: gzip"))
    assert (await trackers.announce(f"{server.url}/announce", REQUEST)).interval == 900.0


async def test_chunked(server: Server, trackers: HttpTrackers) -> None:
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY)
    server.always(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    assert (await trackers.announce(f"{server.url}/announce", REQUEST)).interval == 900.0
    assert (await trackers.announce(f"{server.url}/announce", REQUEST)).interval == 900.0
    assert server.connections == 1


async def test_http_1_0_answer_that_ends_with_the_connection(server: Server, trackers: HttpTrackers) -> None:
    async def handler(target: str, writer: asyncio.StreamWriter) -> bytes | None:
        writer.write(b"HTTP/1.0 200 OK\nContent-Type: text/plain\n\n" + BODY)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        return None

    server.handler = handler
    assert (await trackers.announce(f"{server.url}/announce", REQUEST)).interval == 900.0


async def test_continue_before_the_answer(server: Server, trackers: HttpTrackers) -> None:
    server.always(b"HTTP/1.1 100 Continue\r\n\r\n" + response(BODY))
    assert (await trackers.announce(f"{server.url}/announce", REQUEST)).interval == 900.0


async def test_answer_in_single_bytes(server: Server, trackers: HttpTrackers) -> None:
    async def handler(target: str, writer: asyncio.StreamWriter) -> bytes:
        for byte in response(BODY):
            writer.write(bytes([byte]))
            await writer.drain()
        return b""

    server.handler = handler
    assert (await trackers.announce(f"{server.url}/announce", REQUEST)).interval == 900.0


async def test_peers_that_are_ourselves_are_left_out(server: Server, trackers: HttpTrackers) -> None:
    entries = [{"ip": "192.0.2.1", "port": 1, "peer id": PEER_ID}, {"ip": "192.0.2.2", "port": 2, "peer id": b"z" * 20}]
    server.always(response(encode({"peers": entries})))
    assert (await trackers.announce(f"{server.url}/announce", REQUEST)).peers == (PeerAddress("192.0.2.2", 2),)


async def test_redirects_are_followed(server: Server, trackers: HttpTrackers) -> None:
    async def handler(target: str, writer: asyncio.StreamWriter) -> bytes:
        if target.startswith("/announce"):
            return response(b"moved", "Location: ../elsewhere?" + target.partition("?")[2], status="302 Found")
        return response(BODY)

    server.handler = handler
    assert (await trackers.announce(f"{server.url}/announce", REQUEST)).peers
    assert "GET /elsewhere?info_hash=" in server.requests[1]


async def test_userinfo_becomes_basic_authorization(server: Server, trackers: HttpTrackers) -> None:
    await trackers.announce(f"http://user:p%40ss@127.0.0.1:{server.port}/announce", REQUEST)
    assert "\r\nAuthorization: Basic dXNlcjpwQHNz\r\n" in server.requests[0]


async def test_a_name_with_two_families_is_announced_to_over_what_works(server: Server, trackers: HttpTrackers) -> None:
    answer = await trackers.announce(f"http://localhost:{server.port}/announce", REQUEST)
    assert answer.peers == (PeerAddress("127.0.0.1", 6881),)


async def test_failure_reason_is_an_answer_whatever_the_status(server: Server, trackers: HttpTrackers) -> None:
    for status in ("200 OK", "403 Forbidden", "404 Not Found"):
        server.always(response(encode({"failure reason": "not registered"}), status=status))
        answer = await trackers.announce(f"{server.url}/announce", REQUEST)
        assert answer.failure_reason == "not registered"


def test_literal_addresses_need_no_look_up() -> None:
    assert literal("127.0.0.1") == Address(socket.AF_INET, "127.0.0.1")
    assert literal("::1") == Address(socket.AF_INET6, "::1")
    assert literal("localhost") is None


async def test_fetch_returns_a_file(server: Server, trackers: HttpTrackers) -> None:
    server.always(response(b"d4:infodee"))
    assert await trackers.fetch(f"{server.url}/a.torrent") == b"d4:infodee"


@pytest.mark.parametrize("status", ["404 Not Found", "410 Gone"])
async def test_fetch_of_what_is_not_there(server: Server, trackers: HttpTrackers, status: str) -> None:
    server.always(response(b"nothing here", status=status))
    with pytest.raises(SourceNotFoundError, match=status.replace(" ", " ")) as caught:
        await trackers.fetch(f"{server.url}/dir/a.torrent?key=SECRET")
    assert "SECRET" not in str(caught.value)
    assert "a.torrent" in str(caught.value)


async def test_fetch_failures_of_the_server_are_remote(server: Server, trackers: HttpTrackers) -> None:
    server.always(response(b"", status="500 Internal Server Error"))
    with pytest.raises(RemoteError, match="HTTP 500"):
        await trackers.fetch(f"{server.url}/a.torrent")
    server.always(response(bytes(1001)))
    with pytest.raises(RemoteError, match="larger than 1000 bytes"):
        await trackers.fetch(f"{server.url}/a.torrent", limit=1000)


async def test_https_with_a_certificate_that_the_system_trusts(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certificate)
    server, trackers = Server(), HttpTrackers()
    await server.start(tls)
    for _ in range(3):
        assert (await trackers.announce(f"{server.url}/announce", REQUEST)).interval == 900.0
    assert server.connections == 1
    await trackers.close()
    await server.stop()


def test_the_same_on_uvloop(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    uvloop = pytest.importorskip("uvloop")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))

    async def main() -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*certificate)
        plain, secure, trackers = Server(), Server(), HttpTrackers()
        await plain.start()
        await secure.start(tls)
        for server in (plain, secure):
            url = f"{server.url}/announce"
            answers = await asyncio.gather(*[trackers.announce(url, REQUEST) for _ in range(100)])
            assert all(answer.interval == 900.0 for answer in answers)
            assert server.connections <= 64
            await test_http_1_0_answer_that_ends_with_the_connection(server, trackers)
            server.handler = endless(b"HTTP/1.1 200 OK\r\n\r\nd5:peers", b"x" * 65536)
            assert "larger than 2097152 bytes" in await failure(trackers, url)
            server.always(None)
            assert "without an answer" in await failure(trackers, url)
            await server.stop()
            assert "connection refused" in await failure(trackers, url)
        await trackers.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def test_events_do_not_wait_behind_periodic_announces(server: Server) -> None:
    client = HttpClient(user_agent="btfast/test", per_host=1)
    trackers = HttpTrackers(client)
    events = ["started", None, None, "completed", None, "stopped"]
    asked = [trackers.announce(f"{server.url}/announce", replace(REQUEST, event=event)) for event in events]
    await asyncio.gather(*asked)
    heard = [re.search(r"event=(\w+)", head) for head in server.requests]
    assert [match[1] if match else None for match in heard] == ["started", "completed", "stopped", None, None, None]
    await client.close()
