"""Trackers by way of an HTTP proxy: which are, how, and what a bad proxy is called."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
import uvloop
from scripted_http import BODY, REQUEST, Server, response

from btfast.engine.http_client import HttpClient
from btfast.engine.http_proxy import Proxies, Proxy
from btfast.engine.http_tracker import HttpTrackers
from btfast.errors import InputError, RemoteError
from btfast.metainfo.addresses import PeerAddress

HOST = "tracker.invalid"


class TestProxy:
    """Takes every host for a server on this machine; keeps the heads of the requests that came."""

    __test__ = False

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.target = 0
        self.refusal = b""
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head.decode())
                if self.refusal:
                    writer.write(self.refusal)
                    return
                if head.startswith(b"CONNECT "):
                    await self._tunnel(reader, writer)
                    return
                writer.write(response(BODY))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, out = await asyncio.open_connection("127.0.0.1", self.target)
        writer.write(b"HTTP/1.1 200 Connection established\r\nX-Proxy: test\r\n\r\n")

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
            sink.close()

        await asyncio.gather(copy(reader, out), copy(there, writer))


@pytest_asyncio.fixture
async def proxy() -> AsyncIterator[TestProxy]:
    proxy = TestProxy()
    await proxy.start()
    yield proxy
    await proxy.stop()


@pytest_asyncio.fixture
async def asking(proxy: TestProxy) -> AsyncIterator[Callable[..., HttpTrackers]]:
    clients: list[HttpClient] = []

    def make(user: str = "", **more: str) -> HttpTrackers:
        where = f"http://{user}127.0.0.1:{proxy.port}"
        environment = {"http_proxy": where, "HTTPS_PROXY": where, **more}
        clients.append(HttpClient(user_agent="btfast/test", environment=environment))
        return HttpTrackers(clients[-1])

    yield make
    for client in clients:
        await client.close()


async def test_an_http_tracker_is_asked_for_by_its_whole_address(
    proxy: TestProxy, asking: Callable[..., HttpTrackers]
) -> None:
    trackers = asking("us:p%40ss@")
    for _ in range(2):
        answer = await trackers.announce(f"http://{HOST}:6969/announce?key=1", REQUEST)
    assert answer.peers == (PeerAddress("127.0.0.1", 6881),)
    assert len(proxy.heads) == 2
    assert proxy.heads[0].startswith(f"GET http://{HOST}:6969/announce?key=1&info_hash=")
    assert f"\r\nHost: {HOST}:6969\r\n" in proxy.heads[0]
    assert "\r\nProxy-Authorization: Basic dXM6cEBzcw==\r\n" in proxy.heads[0]


@pytest.fixture
def named_certificate(tmp_path: Path) -> tuple[Path, Path]:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command += ["-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}", "-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    return certificate, key


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_an_https_tracker_is_reached_through_a_tunnel(
    named_certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(named_certificate[0]))

    async def main() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*named_certificate)
        server, proxy = Server(), TestProxy()
        await server.start(context)
        await proxy.start()
        proxy.target = server.port
        client = HttpClient(
            user_agent="btfast/test", environment={"https_proxy": f"http://us:pass@127.0.0.1:{proxy.port}"}
        )
        trackers = HttpTrackers(client)
        for _ in range(2):
            answer = await trackers.announce(f"https://{HOST}/announce", REQUEST)
        assert answer.peers == (PeerAddress("127.0.0.1", 6881),)
        (head,) = proxy.heads
        assert head.startswith(f"CONNECT {HOST}:443 HTTP/1.1\r\n")
        assert "Proxy-Authorization" in head
        assert len(server.requests) == 2
        assert server.requests[0].startswith("GET /announce?")
        assert "Proxy-Authorization" not in server.requests[0]
        with pytest.raises(RemoteError, match="not trusted"):
            await trackers.announce("https://other.invalid/announce", REQUEST)
        await client.close()
        await server.stop()
        await proxy.stop()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


async def test_this_machine_and_exceptions_are_asked_directly(
    server: Server, proxy: TestProxy, asking: Callable[..., HttpTrackers]
) -> None:
    trackers = asking(no_proxy="*.invalid")
    await trackers.announce(f"{server.url}/announce", REQUEST)
    with pytest.raises(RemoteError, match="cannot be resolved"):
        await trackers.announce(f"http://{HOST}/announce", REQUEST)
    assert proxy.heads == []


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "HTTP 407 Proxy Authentication Required: check the proxy"),
        (b"HTTP/1.1 403 No\x1b[31m\r\n\r\n", "HTTP 403 No [31m: check the proxy"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "gives no tunnel"),
        (b"HTTP/1.1 200 OK", "gives no tunnel"),
        (b"x" * 100_000, "gives no tunnel"),
    ],
    ids=["407", "403", "SSH", "cut", "endless"],
)
async def test_a_tunnel_that_is_refused(
    proxy: TestProxy, asking: Callable[..., HttpTrackers], refusal: bytes, words: str
) -> None:
    proxy.refusal = refusal
    with pytest.raises(RemoteError) as caught:
        await asking().announce(f"https://{HOST}/announce", REQUEST)
    assert str(caught.value).startswith(f"tracker https://{HOST}: proxy 127.0.0.1:{proxy.port}: {words}")
    assert str(caught.value).isprintable()


async def test_a_proxy_that_is_not_there(proxy: TestProxy, asking: Callable[..., HttpTrackers]) -> None:
    trackers = asking()
    await proxy.stop()
    for scheme in ("http", "https"):
        with pytest.raises(RemoteError, match=rf"^tracker {scheme}://{HOST}: proxy 127\.0\.0\.1:\d+: connection refused"):
            await trackers.announce(f"{scheme}://{HOST}/announce", REQUEST)


async def test_a_redirect_to_an_address_in_the_local_network_is_not_followed_by_proxy(
    proxy: TestProxy, asking: Callable[..., HttpTrackers]
) -> None:
    proxy.refusal = response(b"", "Location: http://10.1.2.3/announce", status="302 Found")
    with pytest.raises(RemoteError, match="redirects to a local address"):
        await asking().announce(f"http://{HOST}/announce", REQUEST)
    assert len(proxy.heads) == 1


@pytest.mark.parametrize(
    ("exceptions", "host", "port", "direct"),
    [
        ("", "a.example", 80, False), ("*", "a.example", 80, True), ("example", "a.example", 80, True),
        (".example", "a.example", 80, True), ("a.example", "ba.example", 80, False), ("A.Example", "a.example", 80, True),
        ("x, a.example:81", "a.example", 81, True), ("a.example:81", "a.example", 80, False),
        ("10.0.0.0/8", "10.1.2.3", 80, True), ("10.0.0.0/8", "11.1.2.3", 80, False), ("2001:db8::/32", "2001:db8::1", 80, True),
        ("[2001:db8::1]:80", "2001:db8::1", 80, True), ("10.1.2.3", "10.1.2.3", 80, True), ("", "127.0.0.9", 80, True),
        ("", "LOCALHOST", 80, True), ("", "::1", 80, True),
    ],
)  # fmt: skip
def test_who_is_an_exception(exceptions: str, host: str, port: int, direct: bool) -> None:
    proxies = Proxies({"ALL_PROXY": "proxy.example:3128", "NO_PROXY": exceptions})
    found = proxies.of(host, port, tls=False)
    assert (found is None) is direct
    assert found in (None, Proxy("proxy.example", 3128, ""))


def test_what_cannot_be_a_proxy_is_said_by_the_name_of_the_variable() -> None:
    for text in ("socks5://a:1", "http://", "a b:1", "http://a:b"):
        with pytest.raises(InputError, match=r"^http_proxy: not a proxy that can be used"):
            Proxies({"http_proxy": text}).of("a.example", 80, tls=False)
    assert not Proxies({})
    assert Proxies({"https_proxy": "http://[::1]:3128/"}).of("a.example", 443, tls=True) == Proxy("::1", 3128, "")
    assert Proxies({"https_proxy": "http://a"}).of("a.example", 80, tls=False) is None
