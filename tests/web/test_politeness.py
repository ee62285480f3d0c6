"""One host gets few connections, whatever the torrents of a run call it, and nobody waits for one that is not used."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

from support.commands import get, run, running
from support.torrents import assert_arrived, make
from support.web_server import Request, WebServer
from test_web_seeds import served, with_keys

from btfast.engine.web_hosts import PER_HOST


def test_no_more_connections_than_a_host_may_have_whatever_its_ports_its_letters_and_redirects(tmp_path: Path) -> None:
    made = [make(6 << 20, name=f"large {number}", seed=number) for number in range(14)]
    lock, active, most = threading.Lock(), [0], [0]

    def slow(request: Request) -> bool:
        if request.path.startswith("/moved/"):
            where = f"http://LocalHost:{other.port}{request.target.removeprefix('/moved')}"
            return request.reply(b"", "302 Found", f"Location: {where}\r\n")
        with lock:
            active[0] += 1
            most[0] = max(most[0], active[0])
        request.server.stopping.wait(0.5)
        try:
            request.server.answer(request)
        finally:
            with lock:
                active[0] -= 1
        return True

    files = {path: data for one in made for path, data in served(one).items()}
    with WebServer(files, slow) as one, WebServer(files, slow) as other:
        places = [f"http://localhost:{one.port}/", f"http://LOCALHOST:{other.port}/", f"http://localhost:{one.port}/moved/"]
        torrents = [
            with_keys(each, url_list=place).save(tmp_path) for each, place in zip(made, itertools.cycle(places), strict=False)
        ]
        done = run(tmp_path, *get(*torrents, "-j", "14"), patience=90)
    assert done.code == 0, done.err
    for each in made:
        assert (tmp_path / "out" / each.name).read_bytes() == each.data
    assert 8 < most[0] <= PER_HOST


def test_torrents_that_are_complete_and_served_keep_no_places(tmp_path: Path) -> None:
    made = [make(100_000, name=f"small {number}", seed=number) for number in range(PER_HOST + 4)]
    with WebServer({path: data for one in made for path, data in served(one).items()}) as server:
        torrents = [with_keys(one, url_list=f"{server.url}/").save(tmp_path) for one in made]
        with running(tmp_path, *get(*torrents, "-j", "50", "--seed-time", "1000")) as command:
            finals = [tmp_path / "out" / one.name for one in made]
            command.until(lambda: all(path.exists() for path in finals), "all have come", patience=40)


def test_a_seed_that_is_led_to_another_host_waits_as_long_as_that_one_asks_it_to(tmp_path: Path) -> None:
    """Retry-After of the second host, after which both are asked no more often than they should be."""
    made = make(300_000, name="moved")

    def busy(request: Request) -> bool:
        return len(second.requests) == 1 and request.reply(b"", "503 Service Unavailable", "Retry-After: 2\r\n")

    def leads(request: Request) -> bool:
        return request.reply(b"", "302 Found", f"Location: {second.url}{request.target}\r\n")

    with WebServer(served(made), busy) as second, WebServer({}, leads) as first:
        done = run(tmp_path, *get(made.save(tmp_path), "--web-seed", f"{first.url}/"))
    assert done.code == 0, done.err
    assert_arrived(made, tmp_path / "out")
    assert len(second.requests) == 2
    assert len(first.requests) <= 2
    assert done.one("complete")["seconds"] >= 2
