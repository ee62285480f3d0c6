"""Web seeds over TLS, whose certificates are verified, and through the proxy that the environment names."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest
from support.commands import get, run
from support.torrents import assert_arrived, make
from support.web_server import Request, WebServer
from test_web_seeds import served

MADE = make(3_000_000, name="secret.bin")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1,DNS:mirror.invalid"]
    subprocess.run([*command, *names, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return certificate, key


def context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certificate)
    return tls


def test_https_with_a_certificate_that_is_trusted(
    certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with WebServer(served(MADE), tls=context(certificate)) as server:
        done = run(tmp_path, *get(MADE.save(tmp_path), "--web-seed", f"{server.url}/"))
    assert done.code == 0, done.err
    assert_arrived(MADE, tmp_path / "out")
    assert server.bytes_sent == len(MADE.data)


def test_https_with_a_certificate_that_nobody_vouches_for(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    with WebServer(served(MADE), tls=context(certificate)) as server:
        done = run(tmp_path, *get(MADE.save(tmp_path), "--web-seed", f"{server.url}/", "--peer-timeout", "4"))
    assert "its TLS certificate is not trusted" in done.error(3)
    assert server.requests == []


def test_the_proxy_of_the_environment_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "")
    with WebServer({f"http://mirror.invalid/{MADE.name}": MADE.data}) as proxy:
        monkeypatch.setenv("http_proxy", f"http://user:pass@127.0.0.1:{proxy.port}")
        done = run(tmp_path, *get(MADE.save(tmp_path), "--web-seed", "http://mirror.invalid/"))
    assert done.code == 0, done.err
    assert_arrived(MADE, tmp_path / "out")
    assert all(request.headers["proxy-authorization"].startswith("Basic ") for request in proxy.requests)
    assert all(request.headers["host"] == "mirror.invalid" for request in proxy.requests)


def tunnel(target: WebServer, request: Request) -> bool:
    """Takes every host for `target`; passes on what comes until either side ends it."""
    with socket.create_connection(("127.0.0.1", target.port)) as far:
        request.send(b"HTTP/1.1 200 Connection established\r\n\r\n")

        def pump(source: socket.socket, sink: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while data := source.recv(65_536):
                    sink.sendall(data)
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_RDWR)

        back = threading.Thread(target=pump, args=(far, request.socket), daemon=True)
        back.start()
        pump(request.socket, far)
        back.join(5)
    return True


@pytest.mark.parametrize(
    ("host", "trusted", "why"),
    [
        ("mirror.invalid", True, ""),
        ("mirror.invalid", False, "its TLS certificate is not trusted"),
        ("another.invalid", True, "its TLS certificate is not trusted"),
    ],
)
def test_tls_goes_through_a_tunnel_of_the_proxy_and_is_verified_there_as_well(
    host: str, trusted: bool, why: str, certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "")
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with (
        WebServer(served(MADE), tls=context(certificate)) as server,
        WebServer({}, lambda request: tunnel(server, request)) as proxy,
    ):
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        done = run(tmp_path, *get(MADE.save(tmp_path), "--web-seed", f"https://{host}/", "--peer-timeout", "3"))
    assert {request.target for request in proxy.requests} == {f"{host}:443"}
    if why:
        assert why in done.error(3)
        assert server.requests == []
        return
    assert done.code == 0, done.err
    assert_arrived(MADE, tmp_path / "out")
    assert done.one("complete")["wasted"] == 0
    assert server.bytes_sent == len(MADE.data)


def test_a_proxy_that_gives_no_tunnel_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "")
    with WebServer({}, lambda request: request.reply(b"no", "407 Proxy Authentication Required")) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        done = run(tmp_path, *get(MADE.save(tmp_path), "--web-seed", "https://mirror.invalid/", "--peer-timeout", "3"))
    assert f"proxy 127.0.0.1:{proxy.port}: HTTP 407 Proxy Authentication Required" in done.error(3)
