"""HTTP announces to a server on loopback that misbehaves in every way the client has to survive."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import ssl
from pathlib import Path

import pytest
from scripted_http import BODY, REQUEST, Server, endless, failure, response

from btfast._bencode import encode
from btfast.engine.http_client import HttpClient
from btfast.engine.http_tracker import HttpTrackers
from btfast.errors import Error, InputError, RemoteError
from btfast.metainfo.reach import Reach


async def test_refused(server: Server, trackers: HttpTrackers) -> None:
    await server.stop()
    assert "connection refused" in await failure(trackers, f"{server.url}/announce")


async def test_404(server: Server, trackers: HttpTrackers) -> None:
    server.always(response(b"<html>no such page</html>", status="404 Not Found"))
    assert "HTTP 404 Not Found: check the tracker's URL" in await failure(trackers, f"{server.url}/announce")


async def test_busy_server_says_when_to_come_back(server: Server, trackers: HttpTrackers) -> None:
    server.always(response(b"", "Retry-After: 120", status="503 Service Unavailable"))
    with pytest.raises(RemoteError) as caught:
        await trackers.announce(f"{server.url}/announce", REQUEST)
    assert caught.value.facts["retry_in"] == 120.0
    assert caught.value.facts["status"] == 503


async def test_html_instead_of_bencode(server: Server, trackers: HttpTrackers) -> None:
    server.always(response(b"<!doctype html><title>Welcome</title>", "Content-Type: text/html"))
    assert "web page" in await failure(trackers, f"{server.url}/announce")


async def test_not_http_at_all(server: Server, trackers: HttpTrackers) -> None:
    server.always(b"220 mail.example ESMTP\r\n")
    assert "does not speak HTTP" in await failure(trackers, f"{server.url}/announce")


async def test_endless_body_is_cut(server: Server, trackers: HttpTrackers) -> None:
    server.handler = endless(b"HTTP/1.1 200 OK\r\n\r\nd5:peers", b"x" * 65536)
    assert "larger than 2097152 bytes" in await failure(trackers, f"{server.url}/announce")


async def test_endless_chunks_are_cut(server: Server, trackers: HttpTrackers) -> None:
    server.handler = endless(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n"
    )
    assert "larger than 2097152 bytes" in await failure(trackers, f"{server.url}/announce")


async def test_endless_headers_are_cut(server: Server, trackers: HttpTrackers) -> None:
    server.handler = endless(b"HTTP/1.1 200 OK\r\n", b"X-Again: " + b"x" * 1000 + b"\r\n")
    assert "endless headers" in await failure(trackers, f"{server.url}/announce")


async def test_one_endless_header_is_cut(server: Server, trackers: HttpTrackers) -> None:
    server.handler = endless(b"HTTP/1.1 200 OK\r\nX-Long: ", b"x" * 65536)
    assert "endless headers" in await failure(trackers, f"{server.url}/announce")


async def test_endless_trailers_are_cut(server: Server) -> None:
    client = HttpClient(user_agent="x")
    server.handler = endless(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", b"X-Again: " + b"x" * 1000 + b"\r\n"
    )
    with pytest.raises(RemoteError, match="endless headers"):
        await client.fetch(server.url, what="it", limit=1000, timeout=60.0)
    await client.close()


async def test_announced_length_over_the_limit_is_refused_before_the_body(
    server: Server, trackers: HttpTrackers
) -> None:
    server.always(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n")
    assert "larger than 2097152 bytes" in await failure(trackers, f"{server.url}/announce")


async def test_gzip_bomb_is_cut_after_decompression(server: Server, trackers: HttpTrackers) -> None:
    server.always(response(gzip.compress(bytes(200 << 20), 9)[: 1 << 20], "Content-Encoding: gzip"))
    assert "larger than 2097152 bytes" in await failure(trackers, f"{server.url}/announce")


async def test_broken_gzip(server: Server, trackers: HttpTrackers) -> None:
    server.always(response(BODY, "Content-Encoding: gzip"))
    assert "broken compressed data" in await failure(trackers, f"{server.url}/announce")
    server.always(response(gzip.compress(BODY)[:-12], "Content-Encoding: gzip"))
    assert "ends too early" in await failure(trackers, f"{server.url}/announce")


async def test_encoding_that_was_not_asked_for(server: Server, trackers: HttpTrackers) -> None:
    server.always(response(BODY, "Content-Encoding: br"))
    assert "encoding" in await failure(trackers, f"{server.url}/announce")


async def test_redirect_loop(server: Server, trackers: HttpTrackers) -> None:
    server.always(response(b"", "Location: /announce", status="301 Moved Permanently"))
    assert "more than 5 redirects" in await failure(trackers, f"{server.url}/announce")
    assert len(server.requests) == 6


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://[", "gopher:x"])
async def test_redirect_to_another_scheme(server: Server, trackers: HttpTrackers, location: str) -> None:
    server.always(response(b"", f"Location: {location}", status="302 Found"))
    assert "redirects to something" in await failure(trackers, f"{server.url}/announce")


async def test_never_answers(server: Server, trackers: HttpTrackers) -> None:
    async def handler(target: str, writer: asyncio.StreamWriter) -> bytes | None:
        await asyncio.Event().wait()
        return None

    server.handler = handler
    assert "no answer within 0.2 s" in await failure(trackers, f"{server.url}/announce", timeout=0.2)


async def test_those_who_wait_for_a_dead_tracker_fail_with_the_first(server: Server, trackers: HttpTrackers) -> None:
    async def handler(target: str, writer: asyncio.StreamWriter) -> bytes | None:
        await asyncio.Event().wait()
        return None

    server.handler = handler
    outcomes = await asyncio.gather(
        *[trackers.announce(f"{server.url}/announce", REQUEST, timeout=0.3) for _ in range(300)], return_exceptions=True
    )
    assert all(isinstance(outcome, RemoteError) for outcome in outcomes)
    assert len(server.requests) < 300


async def test_closes_without_an_answer(server: Server, trackers: HttpTrackers) -> None:
    server.always(None)
    assert "without an answer" in await failure(trackers, f"{server.url}/announce")
    assert len(server.requests) == 1


async def test_closes_in_the_middle(server: Server, trackers: HttpTrackers) -> None:
    async def handler(target: str, writer: asyncio.StreamWriter) -> bytes | None:
        writer.write(response(BODY)[:-3])
        await writer.drain()
        return None

    server.handler = handler
    assert "in the middle" in await failure(trackers, f"{server.url}/announce")


async def test_a_second_answer_is_not_taken_for_the_next(server: Server, trackers: HttpTrackers) -> None:
    stale = response(encode({"interval": 60, "peers": b""}))
    server.always(response(BODY) + stale)
    for _ in range(3):
        assert (await trackers.announce(f"{server.url}/announce", REQUEST)).interval == 900.0
    assert server.connections == 3


async def test_cancelling_frees_the_turn_and_the_connection(server: Server) -> None:
    client = HttpClient(user_agent="x", per_host=1)
    entered = asyncio.Event()

    async def handler(target: str, writer: asyncio.StreamWriter) -> bytes | None:
        if target == "/slow":
            entered.set()
            await asyncio.Event().wait()
        return response(b"ok")

    server.handler = handler
    slow = asyncio.create_task(client.fetch(f"{server.url}/slow", what="it", limit=10, timeout=60.0))
    await entered.wait()
    waiting = asyncio.create_task(client.fetch(f"{server.url}/quick", what="it", limit=10, timeout=60.0))
    given_up = asyncio.create_task(client.fetch(f"{server.url}/quick", what="it", limit=10, timeout=60.0))
    await asyncio.sleep(0)
    given_up.cancel()
    slow.cancel()
    assert (await waiting).body == b"ok"
    assert (await client.fetch(f"{server.url}/quick", what="it", limit=10, timeout=60.0)).body == b"ok"
    await asyncio.gather(slow, given_up, return_exceptions=True)
    await client.close()


async def test_closing_ends_what_is_under_way(server: Server) -> None:
    trackers = HttpTrackers()
    entered = asyncio.Event()

    async def handler(target: str, writer: asyncio.StreamWriter) -> bytes | None:
        entered.set()
        await asyncio.Event().wait()
        return None

    server.handler = handler
    tasks = [asyncio.create_task(trackers.announce(f"{server.url}/announce", REQUEST)) for _ in range(100)]
    await entered.wait()
    await trackers.close()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, Error) for outcome in outcomes)


@pytest.mark.parametrize(
    "url", ["http://", "http://:80/announce", "http://h:99999/announce", "http://a b/", "http://[::1/x"]
)
async def test_a_url_without_a_host_is_the_callers_fault(trackers: HttpTrackers, url: str) -> None:
    with pytest.raises(InputError):
        await trackers.announce(url, REQUEST)


async def test_a_name_that_does_not_exist(trackers: HttpTrackers) -> None:
    assert "cannot be resolved" in await failure(trackers, "http://tracker.invalid/announce")


async def test_a_redirect_from_a_public_host_never_leads_to_a_local_address(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server on loopback is taken for a public host, and redirects to loopback."""
    target = await asyncio.start_server(lambda r, w: pytest.fail("was contacted"), "127.0.0.1", 0)
    port = target.sockets[0].getsockname()[1]
    server.always(response(b"", f"Location: http://127.0.0.1:{port}/admin", status="302 Found"))
    answers = iter([Reach.PUBLIC] * 2)
    monkeypatch.setattr("btfast.engine.http_hosts.reach_of", lambda host: next(answers, Reach.LOOPBACK))
    client = HttpClient(user_agent="x")
    with pytest.raises(RemoteError, match="local address"):
        await client.fetch(server.url, what="it", limit=10, timeout=60.0)
    await client.close()
    target.close()
    await target.wait_closed()


async def test_a_redirect_never_leads_to_the_port_of_another_service(server: Server) -> None:
    server.always(response(b"", "Location: http://127.0.0.1:25/", status="302 Found"))
    client = HttpClient(user_agent="x")
    with pytest.raises(RemoteError, match="port of another service"):
        await client.fetch(server.url, what="it", limit=10, timeout=60.0)
    await client.close()


async def test_a_certificate_that_nobody_vouches_for(certificate: tuple[Path, Path], trackers: HttpTrackers) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certificate)
    server = Server()
    await server.start(tls)
    assert "TLS certificate is not trusted" in await failure(trackers, f"{server.url}/announce")
    await server.stop()


async def test_tls_to_a_server_that_speaks_plain_http(trackers: HttpTrackers) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(response(b"speak plainly", status="400 Bad Request"))
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert "TLS failed" in await failure(trackers, f"https://127.0.0.1:{port}/announce")
    server.close()
    await server.wait_closed()


async def test_dead_hosts_do_not_hold_the_turns_of_one_that_lives(server: Server) -> None:
    client = HttpClient(user_agent="x")
    with contextlib.ExitStack() as stack:
        urls = []
        for _ in range(20):  # a kernel that answers, and nobody who ever says a word
            silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=128))
            urls += [f"http://127.0.0.1:{silent.getsockname()[1]}/announce"] * 40
        asked = [asyncio.create_task(client.fetch(url, what="it", limit=10, timeout=600.0)) for url in urls]
        await asyncio.sleep(0)
        server.always(response(b"ok"))
        async with asyncio.timeout(60):
            live = [client.fetch(f"{server.url}/announce", what="it", limit=10, timeout=60.0) for _ in range(100)]
            assert {answer.body for answer in await asyncio.gather(*live)} == {b"ok"}
        assert not any(task.done() for task in asked)
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        await client.close()
