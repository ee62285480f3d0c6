"""Sources on the network that are broken: each item its own line and code, the good one among them completes."""

from __future__ import annotations

import contextlib

import pytest
from support.accepting import nobody
from support.commands import Outcome, get, run
from support.scripted_peer import ScriptedPeer
from support.scripted_tracker import Answer, Exchange, ScriptedTracker
from support.torrents import assert_arrived, make

MADE = make(300_000)


def not_found(exchange: Exchange) -> None:
    exchange.reply(b"gone", status="404 Not Found")


def gone(exchange: Exchange) -> None:
    exchange.reply(b"gone", status="410 Gone")


def forbidden(exchange: Exchange) -> None:
    exchange.reply(b"<h1>no</h1>", status="403 Forbidden")


def overloaded(exchange: Exchange) -> None:
    exchange.reply(b"later", status="503 Service Unavailable")


def web_page(exchange: Exchange) -> None:
    exchange.reply(b"<!DOCTYPE html><html><body>Log in</body></html>")


def nothing(exchange: Exchange) -> None:
    exchange.reply(b"")


def endless(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nd")
    while exchange.path:
        exchange.send(b"9" * (1 << 20))


def redirect_loop(exchange: Exchange) -> None:
    exchange.reply(b"", status="301 Moved Permanently", headers=f"Location: {exchange.path}\r\n")


def hangs_up(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nd8:announce")


def half(exchange: Exchange) -> None:
    exchange.reply(MADE.torrent[: len(MADE.torrent) // 2])


def to_a_file(exchange: Exchange) -> None:
    exchange.reply(b"", status="302 Found", headers="Location: file:///etc/passwd\r\n")


def whole(exchange: Exchange) -> None:
    exchange.reply(MADE.torrent)


CASES: dict[str, tuple[Answer, int, str]] = {
    "404": (not_found, 5, "HTTP 404 Not Found"),
    "410": (gone, 5, "HTTP 410 Gone"),
    "403": (forbidden, 3, "HTTP 403 Forbidden"),
    "503": (overloaded, 3, "HTTP 503 Service Unavailable"),
    "page": (web_page, 2, ""),
    "nothing": (nothing, 2, ""),
    "endless": (endless, 3, "larger than"),
    "loop": (redirect_loop, 3, "redirects"),
    "cut": (hangs_up, 3, "closed the connection"),
    "half": (half, 2, ""),
    "file": (to_a_file, 3, "redirect"),
}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, dict[str, str]]:
    """All of them in one list, with a good one last; the URL of each."""
    root = tmp_path_factory.mktemp("sources")
    with contextlib.ExitStack() as stack:
        urls = {}
        for name, (answer, _, _) in CASES.items():
            server = stack.enter_context(ScriptedTracker(answer))
            urls[name] = f"http://127.0.0.1:{server.port}/{name}.torrent"
        urls["refused"] = f"http://127.0.0.1:{stack.enter_context(nobody())}/x.torrent"
        urls["good"] = f"http://127.0.0.1:{stack.enter_context(ScriptedTracker(whole)).port}/good.torrent"
        peer = stack.enter_context(ScriptedPeer(MADE))
        done = run(root, *get(*urls.values(), peers=(peer.address,)))
    assert_arrived(MADE, root / "out")
    return done, urls


@pytest.mark.parametrize("name", [*CASES, "refused"])
def test_each_ends_with_its_own_line_and_code(outcome: tuple[Outcome, dict[str, str]], name: str) -> None:
    done, urls = outcome
    code, words = CASES[name][1:] if name in CASES else (3, "connection refused")
    (failed,) = (event for event in done.all("failed") if event["source"] == urls[name])
    assert failed["exit_code"] == code
    assert words in failed["error"]
    (line,) = (line for line in done.err.splitlines() if urls[name] in line)
    assert line.startswith("btfast: error: ")
    assert len(line) < 400


def test_the_list_goes_on_and_ends_with_the_highest_code(outcome: tuple[Outcome, dict[str, str]]) -> None:
    done, urls = outcome
    assert done.code == done.one("summary")["exit_code"] == 5
    assert done.one("complete")["source"] == urls["good"]
    assert len(done.err.splitlines()) == len(CASES) + 1
