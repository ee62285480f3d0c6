"""Whatever a tracker does: the user hears of it in a warning, the next tier is asked, and alone it fails the item.

All the trackers are tried at once, each with a download of its own, in one session.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gzip
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from support.accepting import nobody
from support.commands import engines, get, run
from support.scripted_peer import ScriptedPeer
from support.scripted_tracker import Answer, Exchange, ScriptedTracker
from support.torrents import Made, assert_arrived, make

from btfast import Error, IncompleteError, Session, Settings
from btfast._bencode import encode
from btfast.events import Event, Peer, Warning

SIZE = 200_001
MEMORY = (32 << 20) + (150 << 20)  # resident bytes of the network process: its arena, and what it may need besides


def not_found(exchange: Exchange) -> None:
    exchange.reply(b"gone", status="404 Not Found")


def broken(exchange: Exchange) -> None:
    exchange.reply(b"<h1>oops</h1>", status="503 Service Unavailable")


def web_page(exchange: Exchange) -> None:
    exchange.reply(b"<!DOCTYPE html><html><body>Welcome to your new web server</body></html>")


def endless(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nd5:peers")
    while not exchange.path.startswith("/stop"):
        exchange.send(b"9" * 65536)


def endless_header(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\n")
    while not exchange.path.startswith("/stop"):
        exchange.send(b"X-More: " + b"9" * 1000 + b"\r\n")


@functools.cache
def bombshell() -> bytes:
    return gzip.compress(bytes(256 << 20), 1)


def bomb(exchange: Exchange) -> None:
    exchange.reply(bombshell(), headers="Content-Encoding: gzip\r\n")


def redirect_loop(exchange: Exchange) -> None:
    exchange.reply(b"", status="302 Found", headers="Location: /announce?again=1\r\n")


def silent(exchange: Exchange) -> None:
    exchange.hang()


def hangs_up(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nd8:inter")


def says_no(exchange: Exchange) -> None:
    exchange.reply(encode({"failure reason": b"not registered\n\x1b[31m here"}))


def odd_peers(exchange: Exchange) -> None:
    exchange.reply(b"d8:intervali60e5:peers5:12345e")


def deep(exchange: Exchange) -> None:
    exchange.reply(b"l" * 1_000_000)


class Case(NamedTuple):
    """A tracker, or None for a port where nobody listens, and words of the warning that it causes."""

    answer: Answer | None
    words: str


CASES = {
    "refused": Case(None, "connection refused"),
    "404": Case(not_found, "HTTP 404 Not Found"),
    "503": Case(broken, "HTTP 503 Service Unavailable"),
    "HTML": Case(web_page, "answered with a web page"),
    "endless body": Case(endless, "the answer is larger than"),
    "endless header": Case(endless_header, "sends endless headers"),
    "gzip bomb": Case(bomb, "the answer is larger than"),
    "redirect loop": Case(redirect_loop, "more than 5 redirects"),
    "never answers": Case(silent, "no answer within 15 s"),
    "hangs up": Case(hangs_up, "closed the connection"),
    "says no": Case(says_no, "tracker says: not registered"),
    "odd peers": Case(odd_peers, "peers"),
    "deep": Case(deep, "not an announce response"),
}


class Ended(NamedTuple):
    """How a download went."""

    made: Made
    folder: Path
    error: Error | None
    events: list[Event]
    good: ScriptedTracker

    @property
    def warnings(self) -> list[str]:
        return [event.message for event in self.events if isinstance(event, Warning)]


async def download_all(root: Path, *, second_tier: bool, seconds: float) -> tuple[dict[str, Ended], int]:
    ended: dict[str, Ended] = {}
    bombshell()  # takes a second, which is not to be the tracker's
    settings = Settings(bind="127.0.0.1", port=0, workers=1, memory="32MiB", peer_timeout=seconds)
    warned = [threading.Event() for _ in CASES]

    def note(event: Event) -> None:
        if isinstance(event, Warning) and event.id is not None:
            warned[event.id].set()

    def answer(exchange: Exchange, number: int, *, waits: bool) -> None:
        """That of the good tracker, which is asked after a moment: the download must not be over before the bad one failed."""
        if waits:
            warned[number].wait(10)
        exchange.peers(peers[number].address)

    with contextlib.ExitStack() as stack:
        works = []
        for number, (name, case) in enumerate(CASES.items()):
            if case.answer is None:
                url = f"http://127.0.0.1:{stack.enter_context(nobody())}/announce"
            else:
                url = stack.enter_context(ScriptedTracker(case.answer)).url
            waits = second_tier and name != "never answers"
            good = ScriptedTracker(lambda exchange, number=number, waits=waits: answer(exchange, number, waits=waits))
            stack.enter_context(good)
            works.append((name, make(SIZE, seed=number, announce=[[url], [good.url]] if second_tier else [[url]]), good))
        peers = [stack.enter_context(ScriptedPeer(made)) for _, made, _ in works]
        async with Session(settings, on_event=note) as session:
            downloads = [await session.add(made.torrent, root / name.replace(" ", "_")) for name, made, _ in works]
            outcomes = asyncio.gather(*downloads, return_exceptions=True)
            most = 0
            while not (found := engines()):
                await asyncio.sleep(0.01)
            (engine,) = found
            while not outcomes.done():
                most = max(most, engine.memory_info().rss)
                await asyncio.sleep(0.05)
            for (name, made, good), download, outcome in zip(works, downloads, await outcomes, strict=True):
                error = outcome if isinstance(outcome, Error) else None
                events = [event async for event in download.events()]
                ended[name] = Ended(made, root / name.replace(" ", "_"), error, events, good)
    return ended, most


@pytest.fixture(scope="module")
def with_a_second_tier(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Ended], int]:
    return asyncio.run(download_all(tmp_path_factory.mktemp("tiers"), second_tier=True, seconds=60))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Ended], int]:
    return asyncio.run(download_all(tmp_path_factory.mktemp("alone"), second_tier=False, seconds=10))


@pytest.mark.parametrize("name", CASES)
def test_the_next_tier_is_asked_and_the_user_is_told(
    with_a_second_tier: tuple[dict[str, Ended], int], name: str
) -> None:
    ended = with_a_second_tier[0][name]
    assert ended.error is None
    assert_arrived(ended.made, ended.folder)
    assert ended.good.events() == ["started", "completed", "stopped"]
    if name == "never answers":
        # The next tier was asked after a moment: the download had its peer before anything failed.
        first = min([n for n, event in enumerate(ended.events) if isinstance(event, Warning)], default=len(ended.events))
        assert any(isinstance(event, Peer) for event in ended.events[:first])
        return
    (warning,) = ended.warnings
    assert CASES[name].words in warning
    assert warning.isprintable()
    assert len(warning) < 300


@pytest.mark.parametrize("name", CASES)
def test_alone_it_fails_the_item_and_is_named(alone: tuple[dict[str, Ended], int], name: str) -> None:
    ended = alone[0][name]
    assert isinstance(ended.error, IncompleteError)
    assert ended.error.exit_code == 3
    assert "no peers: none is known" in str(ended.error)
    if name != "never answers":
        assert CASES[name].words in str(ended.error)


def test_all_of_them_together_do_not_fill_the_memory(
    with_a_second_tier: tuple[dict[str, Ended], int], alone: tuple[dict[str, Ended], int]
) -> None:
    assert with_a_second_tier[1] < MEMORY
    assert alone[1] < MEMORY


@pytest.fixture
def peer() -> Iterator[ScriptedPeer]:
    with ScriptedPeer(make(SIZE)) as found:
        yield found


def test_a_tracker_that_hands_out_ourselves_does_no_harm(tmp_path: Path, peer: ScriptedPeer) -> None:
    def both(exchange: Exchange) -> None:
        exchange.peers(f"127.0.0.1:{exchange.query['port']}", peer.address)

    with ScriptedTracker(both) as tracker:
        made = make(SIZE, announce=[[tracker.url]])
        done = run(tmp_path, *get(made.save(tmp_path), trackers=True))
    assert (done.code, done.err) == (0, "")
    assert_arrived(made, tmp_path / "out")
    assert {event["address"] for event in done.all("peer")} == {peer.address}
    assert tracker.events() == ["started", "completed", "stopped"]


def test_a_tracker_hears_its_own_id_again(tmp_path: Path, peer: ScriptedPeer) -> None:
    with ScriptedTracker(lambda exchange: exchange.peers(peer.address, **{"tracker id": b"our 7th"})) as tracker:
        made = make(SIZE, announce=[[tracker.url]])
        done = run(tmp_path, *get(made.save(tmp_path), trackers=True))
    assert done.code == 0
    assert [exchange.query.get("trackerid") for exchange in tracker.exchanges] == [None, "our 7th", "our 7th"]


def test_knowing_only_ourselves_is_knowing_nobody(tmp_path: Path) -> None:
    with ScriptedTracker(lambda exchange: exchange.peers(f"127.0.0.1:{exchange.query['port']}")) as tracker:
        made = make(SIZE, announce=[[tracker.url]])
        done = run(tmp_path, *get(made.save(tmp_path), "--peer-timeout", "3", trackers=True))
    assert "no peers: none is known" in done.error(3)
    assert done.all("peer") == []
    assert tracker.events() == ["started", "stopped"]


def test_a_silent_tracker_does_not_hold_up_a_download_from_a_known_peer(tmp_path: Path, peer: ScriptedPeer) -> None:
    with ScriptedTracker(silent) as tracker:
        made = make(SIZE, announce=[[tracker.url]])
        done = run(tmp_path, *get(made.save(tmp_path), peers=(peer.address,), trackers=True))
    assert (done.code, done.err) == (0, ""), "who waits for it warns of it"
    assert_arrived(made, tmp_path / "out")


def test_the_command_warns_on_stderr_and_fails_in_one_line(tmp_path: Path) -> None:
    with ScriptedTracker(not_found) as tracker:
        made = make(SIZE, announce=[[tracker.url]])
        done = run(tmp_path, *get(made.save(tmp_path), "--peer-timeout", "3", trackers=True))
    name = f"tracker http://127.0.0.1:{tracker.port}: HTTP 404 Not Found: check the tracker's URL"
    assert name in done.error(3)
    assert done.warnings == [name]
    assert done.err.splitlines()[0] == f"btfast: warning: {name}"


async def test_what_a_tracker_warns_of_reaches_the_user(tmp_path: Path) -> None:
    settings = Settings(bind="127.0.0.1", port=0, workers=1, memory="16MiB")
    with contextlib.ExitStack() as stack:
        tracker = stack.enter_context(
            ScriptedTracker(lambda exchange: exchange.peers(peer.address, **{"warning message": b"slow\ndown"}))
        )
        made = make(SIZE, announce=[[tracker.url]])
        peer = stack.enter_context(ScriptedPeer(made))
        events: list[Event] = []
        async with Session(settings, on_event=events.append) as session:
            await (await session.add(made.torrent, tmp_path / "out"))
    assert_arrived(made, tmp_path / "out")
    assert [event.message for event in events if isinstance(event, Warning)] == ["tracker warns: slow down"]
