"""Web seeds over TLS, whose certificates are verified, and through the proxy that the environment names."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest
from support.commands import get, run
from support.torrents import assert_arrived, make
from support.web_server import WebServer
from test_web_seeds import served

MADE = make(3_000_000, name="secret.bin")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
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
