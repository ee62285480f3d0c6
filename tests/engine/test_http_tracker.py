"""HTTP announces against a real server on loopback that misbehaves in every way the client has to survive."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
import pytest_asyncio

from btfast._bencode import encode
from btfast.discovery.announce import AnnounceRequest
from btfast.engine.http_client import HttpClient
from btfast.engine.http_tracker import HttpTrackers
from btfast.engine.resolve import Address, is_local, literal
from btfast.errors import Error, InputError, RemoteError, SourceNotFoundError
from btfast.metainfo.addresses import PeerAddress

PEER_ID = b"-BF0001-0123456789ab"
REQUEST = AnnounceRequest(info_hash=bytes(range(20)), peer_id=PEER_ID, port=6881, left=10, event="started", key="k")
BODY = encode({"interval": 900, "peers": bytes([127, 0, 0, 1, 0x1A, 0xE1])})

Handler = Callable[[str, asyncio.StreamWriter], Awaitable[bytes | None]]


def response(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(head).encode() + body


class Server:
    """A raw HTTP server: the handler gets each request's target and returns bytes to send, None to close."""

    def __init__(self) -> None:
        self.handler: Handler = self.answer
        self.requests: list[str] = []
        self.connections = 0
        self.open = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @staticmethod
    async def answer(target: str, writer: asyncio.StreamWriter) -> bytes | None:
        return response(BODY)

    def always(self, data: bytes | None) -> None:
        async def handler(target: str, writer: asyncio.StreamWriter) -> bytes | None:
            return data

        self.handler = handler

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(head.decode("ascii"))
                data = await self.handler(head.split(b" ")[1].decode(), writer)
                if data is None:
                    return
                writer.write(data)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.transport.abort()


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture
async def trackers() -> AsyncIterator[HttpTrackers]:
    trackers = HttpTrackers(user_agent="btfast/test")
    yield trackers
    await trackers.close()


async def failure(trackers: HttpTrackers, url: str, *, timeout: float = 5.0) -> str:  # noqa: ASYNC109
    with pytest.raises(RemoteError) as caught:
        await trackers.announce(url, REQUEST, timeout=timeout)
    message = str(caught.value)
    assert message.startswith("tracker http")
    assert message.isprintable()
    assert message.count(": ") >= 2
    return message


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


async def test_connections_are_kept_and_shared(server: Server, trackers: HttpTrackers) -> None:
    for _ in range(20):
        await trackers.announce(f"{server.url}/announce", REQUEST)
    assert len(server.requests) == 20
    assert server.connections == 1


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


def endless(first: bytes, chunk: bytes) -> Handler:
    async def handler(target: str, writer: asyncio.StreamWriter) -> bytes | None:
        writer.write(first)
        while not writer.is_closing():
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(0)
        return None

    return handler


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
        await client.fetch(server.url, what="it", limit=1000, timeout=5.0)
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
    slow = asyncio.create_task(client.fetch(f"{server.url}/slow", what="it", limit=10, timeout=30.0))
    await entered.wait()
    waiting = asyncio.create_task(client.fetch(f"{server.url}/quick", what="it", limit=10, timeout=30.0))
    given_up = asyncio.create_task(client.fetch(f"{server.url}/quick", what="it", limit=10, timeout=30.0))
    await asyncio.sleep(0)
    given_up.cancel()
    slow.cancel()
    assert (await waiting).body == b"ok"
    assert (await client.fetch(f"{server.url}/quick", what="it", limit=10, timeout=30.0)).body == b"ok"
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
    answers = iter([False])
    monkeypatch.setattr("btfast.engine.http_client.is_local", lambda host: next(answers, True))
    client = HttpClient(user_agent="x")
    with pytest.raises(RemoteError, match="local address"):
        await client.fetch(server.url, what="it", limit=10, timeout=5.0)
    await client.close()
    target.close()
    await target.wait_closed()


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("10.1.2.3", True),
        ("169.254.1.1", True),
        ("::1", True),
        ("fe80::1%eth0", True),
        ("::ffff:127.0.0.1", True),
        ("fd00::1", True),
        ("8.8.8.8", False),
        ("2606:4700::1", False),
    ],
)
def test_local_addresses_are_known(host: str, local: bool) -> None:
    assert is_local(host) is local


def test_literal_addresses_need_no_look_up() -> None:
    import socket

    assert literal("127.0.0.1") == Address(socket.AF_INET, "127.0.0.1")
    assert literal("::1") == Address(socket.AF_INET6, "::1")
    assert literal("localhost") is None


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key)]
    try:
        subprocess.run([*command, "-out", str(certificate)], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    return certificate, key


async def test_a_certificate_that_nobody_vouches_for(certificate: tuple[Path, Path], trackers: HttpTrackers) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certificate)
    server = Server()
    await server.start(tls)
    assert "TLS certificate is not trusted" in await failure(trackers, f"{server.url}/announce")
    await server.stop()


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
            await test_closes_in_the_middle(server, trackers)
            await test_never_answers(server, trackers)
            await server.stop()
            assert "connection refused" in await failure(trackers, url)
        await trackers.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
