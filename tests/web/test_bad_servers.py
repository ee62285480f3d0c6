"""Web servers that lie, stall, break off or have other files: each item ends with one clear line and its exit code."""

from __future__ import annotations

import contextlib
import gzip
import threading
from pathlib import Path

import pytest
from support.commands import Outcome, get, run
from support.torrents import Made, assert_arrived, make
from support.web_server import Request, WebServer
from test_web_seeds import served, with_keys

SIZE = 5 * 65_536 + 7
PATIENCE = "4"


def too_long(request: Request) -> bool:
    return request.part(request.body + b"and more", total=SIZE + 8)


def too_short(request: Request) -> bool:
    return request.reply(request.content[:-9])


def lies_about_length(request: Request) -> bool:
    first, last = request.first or 0, SIZE - 1 if request.last is None else request.last
    return request.reply(
        request.body, "206 Partial Content", f"Content-Range: bytes {first}-{last}/{SIZE}\r\n", length=10
    )


def two_lengths(request: Request) -> bool:
    request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nContent-Length: 11\r\n\r\n0123456789")
    return True


def other_range(request: Request) -> bool:
    headers = f"Content-Range: bytes 5-{SIZE - 1}/{SIZE}\r\n"
    return request.reply(request.content[5:], "206 Partial Content", headers)


def no_range_said(request: Request) -> bool:
    return request.reply(request.body, "206 Partial Content")


def parts(request: Request) -> bool:
    return request.reply(b"--x\r\n\r\n--x--", "206 Partial Content", "Content-Type: multipart/byteranges; boundary=x\r\n")


def compressed(request: Request) -> bool:
    return request.reply(gzip.compress(request.content), headers="Content-Encoding: gzip\r\n")


def stalls(request: Request) -> bool:
    request.send(f"HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n".encode() + request.content[:1000])
    return request.hang()


def silent(request: Request) -> bool:
    return request.hang()


def web_page(request: Request) -> bool:
    return request.reply(b"<!DOCTYPE html><h1>Log in</h1>", headers="Content-Type: text/html\r\n")


def page_in_chunks(request: Request) -> bool:
    page = b"<!DOCTYPE html><h1>Log in</h1>" + b" " * 70_000
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
    request.send(f"{head}{len(page):x}\r\n".encode() + page + b"\r\n0\r\n\r\n")
    return True


def other_bytes(request: Request) -> bool:
    """Says that it sends what was asked for, and sends the beginning."""
    return request.part(request.content[: len(request.body)] if request.first else bytes(len(request.body)))


def other_total(request: Request) -> bool:
    first, last = request.first or 0, SIZE - 1 if request.last is None else request.last
    return request.reply(request.body, "206 Partial Content", f"Content-Range: bytes {first}-{last}/{SIZE + 5}\r\n")


def backwards(request: Request) -> bool:
    return request.reply(request.body, "206 Partial Content", f"Content-Range: bytes {SIZE - 1}-0/{SIZE}\r\n")


def compressed_part(request: Request) -> bool:
    first, last = request.first or 0, SIZE - 1 if request.last is None else request.last
    headers = f"Content-Range: bytes {first}-{last}/{SIZE}\r\nContent-Encoding: gzip\r\n"
    return request.reply(gzip.compress(request.body), "206 Partial Content", headers)


def redirect_loop(request: Request) -> bool:
    return request.reply(b"", "302 Found", f"Location: {request.target}?\r\n")


def to_a_file(request: Request) -> bool:
    return request.reply(b"", "302 Found", "Location: file:///etc/passwd\r\n")


def endless_headers(request: Request) -> bool:
    request.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        request.send(b"X-More: " + b"x" * 8000 + b"\r\n")


def many_headers(request: Request) -> bool:
    return request.reply(request.content, headers="X: y\r\n" * 500)


def breaks_off(request: Request) -> bool:
    request.send(f"HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n".encode() + request.content[:1000])
    return request.close()


def byte_by_byte(request: Request) -> bool:
    request.send(f"HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n".encode())
    for byte in request.content:
        request.send(bytes([byte]))
        if request.server.stopping.wait(0.2):
            break
    return True


def wrong_data(request: Request) -> bool:
    return request.part(bytes(byte ^ 0x55 for byte in request.body))


def not_there(request: Request) -> bool:
    return request.reply(b"no", "404 Not Found")


def forbidden(request: Request) -> bool:
    return request.reply(b"no", "403 Forbidden")


def overloaded(request: Request) -> bool:
    return request.reply(b"later", "503 Service Unavailable", "Retry-After: 3600\r\n")


def no_http(request: Request) -> bool:
    request.send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    return request.close()


def hangs_up(request: Request) -> bool:
    return request.close()


def endless_chunks(request: Request) -> bool:
    request.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        request.send(b"1" * 5000)


def bad_chunks(request: Request) -> bool:
    request.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")
    return request.hang()


def endless_body(request: Request) -> bool:
    request.send(b"HTTP/1.1 200 OK\r\n\r\n" + request.content)
    while True:
        request.send(b"x" * 65_536)


CASES = {
    "long": (too_long, 4, f"is {SIZE + 8} bytes there, and {SIZE} in the torrent"),
    "short": (too_short, 4, f"is {SIZE - 9} bytes there, and {SIZE} in the torrent"),
    "length": (lies_about_length, 3, "lies about the length"),
    "lengths": (two_lengths, 3, "does not speak HTTP"),
    "range": (other_range, 3, "another part"),
    "norange": (no_range_said, 3, "does not say which part"),
    "parts": (parts, 3, "does not say which part"),
    "gzip": (compressed, 3, "compressed"),
    "stall": (stalls, 3, "sent nothing of use"),
    "silent": (silent, 3, "sent nothing of use"),
    "page": (web_page, 3, "web page"),
    "chunkedpage": (page_in_chunks, 3, "web page"),
    "otherbytes": (other_bytes, 4, "differs there from what the torrent means"),
    "total": (other_total, 4, f"is {SIZE + 5} bytes there, and {SIZE} in the torrent"),
    "backwards": (backwards, 3, "does not say which part"),
    "gzippart": (compressed_part, 3, "compressed"),
    "loop": (redirect_loop, 3, "redirects more than"),
    "file": (to_a_file, 3, "no web address"),
    "headers": (endless_headers, 3, "endless headers"),
    "many": (many_headers, 3, "endless headers"),
    "cut": (breaks_off, 3, "in the middle of an answer"),
    "bytes": (byte_by_byte, 3, "sent nothing of use"),
    "wrong": (wrong_data, 4, "differs there from what the torrent means"),
    "404": (not_there, 3, "HTTP 404 Not Found"),
    "403": (forbidden, 3, "HTTP 403 Forbidden"),
    "503": (overloaded, 3, "HTTP 503 Service Unavailable"),
    "ssh": (no_http, 3, "does not speak HTTP"),
    "hangup": (hangs_up, 3, "closed the connection without an answer"),
    "chunks": (endless_chunks, 3, "endless lines between chunks"),
    "chunk": (bad_chunks, 3, "chunks that do not fit"),
}
GOOD = make(SIZE, name="good")


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """All of them in one run, with a good one last."""
    root = tmp_path_factory.mktemp("servers")
    with contextlib.ExitStack() as stack:
        torrents: list[Path] = []

        def add(made: Made, url: str) -> None:
            torrents.append(with_keys(made, url_list=f"{url}/").save(root))

        for name, (bend, _, _) in CASES.items():
            made = make(SIZE, name=name)
            add(made, stack.enter_context(WebServer(served(made), bend)).url)
        add(make(SIZE, name="refused"), "http://127.0.0.1:1")
        add(make(SIZE, name="nowhere"), "http://127.0.0.1.invalid")
        endless = make(SIZE, name="endless")
        add(endless, stack.enter_context(WebServer(served(endless), endless_body)).url)
        add(GOOD, stack.enter_context(WebServer(served(GOOD))).url)
        done = run(root, *get(*torrents, "--peer-timeout", PATIENCE, trackers=True), "--no-dht", "--no-lsd")
    assert {path.name for path in (root / "out").iterdir() if path.suffix != ".part"} == {"good", "endless"}
    return done


@pytest.mark.parametrize("name", [*CASES, "refused", "nowhere"])
def test_each_ends_with_its_own_line_and_code(outcome: Outcome, name: str) -> None:
    others = {"refused": (3, "connection refused"), "nowhere": (3, "cannot be resolved")}
    code, words = CASES[name][1:] if name in CASES else others[name]
    (failed,) = (event for event in outcome.all("failed") if event["source"].endswith(f"/{name}.torrent"))
    assert words in failed["error"]
    assert failed["exit_code"] == code
    (line,) = (line for line in outcome.err.splitlines() if f"/{name}.torrent" in line and "error:" in line)
    assert line.startswith("btfast: error: ")
    assert line.count(": ") >= 3


def test_the_good_ones_complete_and_what_follows_the_bytes_of_a_file_is_left(outcome: Outcome) -> None:
    assert {event["name"] for event in outcome.all("complete")} == {"good", "endless"}
    assert outcome.code == 4


def test_a_seed_that_sends_wrong_data_is_warned_of_and_the_others_go_on(tmp_path: Path) -> None:
    made = make(12 * 65_536, name="data")
    lied = threading.Event()

    def lies(request: Request) -> bool:
        wrong_data(request)
        lied.set()
        return True

    def waits(request: Request) -> bool:
        assert lied.wait(60)  # else it may have sent all before
        return False

    with WebServer(served(made), lies) as bad, WebServer(served(made), waits) as good:
        done = run(tmp_path, *get(made.save(tmp_path), "--web-seed", f"{bad.url}/", "--web-seed", f"{good.url}/"))
    assert done.code == 0, done.err
    assert_arrived(made, tmp_path / "out")
    assert any(bad.url in warning for warning in done.warnings)
    assert not any(good.url in warning for warning in done.warnings)
    assert done.one("complete")["wasted"] > 0


def test_a_missing_file_and_another_version_of_one_do_not_keep_the_rest_from_completing(tmp_path: Path) -> None:
    made = make({"gone": 65_536, "other": 65_536 * 2, "longer": 65_536, "fine": 65_536 * 3}, name="mirror")
    files = served(made)
    del files["/mirror/gone"]
    files["/mirror/other"] = bytes(65_536 * 2)
    files["/mirror/longer"] += b"!"
    with WebServer(files) as server:
        done = run(tmp_path, *get(made.save(tmp_path), "--web-seed", server.url, "--peer-timeout", PATIENCE))
    line = done.error(4)
    assert "mirror/other" in line
    assert "mirror/longer is 65537 bytes there, and 65536 in the torrent" in line
    assert "--accept-stale" in line
    assert {event["path"] for event in done.all("file")} == {"mirror/fine"}
    assert any("mirror/gone: HTTP 404" in warning for warning in done.warnings)


def test_a_file_that_came_from_another_server_is_not_called_stale_and_the_missing_one_is_named(tmp_path: Path) -> None:
    made = make({"a": 65_536 * 2, "b": 65_536 * 2, "c": 65_536 * 2}, name="mirror")
    right = served(made)
    del right["/mirror/c"]
    with WebServer(right | {"/mirror/a": b"another"}) as one, WebServer(right) as other:
        words = ("--web-seed", one.url, "--web-seed", other.url, "--peer-timeout", PATIENCE)
        done = run(tmp_path, *get(made.save(tmp_path), *words))
    line = done.error(3)
    assert "incomplete: mirror/c HTTP 404" in line
    assert "mirror/a" not in line


def test_a_peer_has_what_the_web_server_lost(tmp_path: Path) -> None:
    from support.scripted_peer import ScriptedPeer

    made = make({"gone": 65_536, "fine": 65_536 * 3}, name="mirror")
    files = served(made)
    del files["/mirror/gone"]
    with WebServer(files) as server, ScriptedPeer(made) as peer:
        done = run(tmp_path, *get(made.save(tmp_path), "--web-seed", server.url, peers=(peer.address,)))
    assert done.code == 0, done.err
    assert_arrived(made, tmp_path / "out")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_torrent_cannot_have_a_local_server_asked_anything_it_likes(host: str, tmp_path: Path) -> None:
    with WebServer(served(GOOD)) as server:
        torrent = with_keys(GOOD, url_list=f"http://{host}:{server.port}/delete?all=yes").save(tmp_path)
        done = run(tmp_path, *get(torrent, "--peer-timeout", PATIENCE))
        assert "a torrent may not name it" in done.error(3)
        assert server.requests == []


def test_nor_may_a_local_server_that_it_names_be_led_to_such_a_query(tmp_path: Path) -> None:
    def bend(request: Request) -> bool:
        return request.reply(b"", "302 Found", "Location: /delete?all=yes\r\n")

    with WebServer(served(GOOD), bend) as server:
        torrent = with_keys(GOOD, url_list=f"{server.url}/").save(tmp_path)
        done = run(tmp_path, *get(torrent, "--peer-timeout", PATIENCE))
        assert "a torrent may not name it" in done.error(3)
        assert {request.target for request in server.requests} == {"/good"}


def test_of_many_missing_files_the_first_are_named_once_each(tmp_path: Path) -> None:
    made = make({"fine": 65_536 * 2, **{f"gone {n}": 65_536 for n in range(9)}}, name="mirror")
    with WebServer({"/mirror/fine": made.contents()["mirror/fine"]}) as server:
        done = run(tmp_path, *get(made.save(tmp_path), "--web-seed", server.url, "--peer-timeout", PATIENCE))
    assert "HTTP 404" in done.error(3)
    named = [warning for warning in done.warnings if "mirror/gone" in warning]
    assert len(named) == len(set(named)) == 5
    assert sum("more files are missing" in warning for warning in done.warnings) == 1
