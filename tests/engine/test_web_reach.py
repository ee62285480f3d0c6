"""Where redirects of web seeds may lead: what a public server says sends no lane to the network that we are in."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_asyncio
from engine_parts import until
from scripted_http import Server, response
from web_lanes import PIECE, Ground

from btfast._bencode import encode
from btfast.engine import http_hosts
from btfast.engine.accepting import Accepting
from btfast.engine.control import Add
from btfast.engine.http_tracker import HttpTrackers
from btfast.engine.web_sources import torrent_of
from btfast.errors import IncompleteError, RemoteError
from btfast.metainfo.reach import Reach, reach_of
from btfast.swarm.web_seed import Place
from btfast.wire.http import Head

PUBLIC = "127.0.0.2"  # taken for a public address here


@pytest.fixture(autouse=True)
def _addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_hosts, "reach_of", lambda host: Reach.PUBLIC if host == PUBLIC else Reach.LOCAL)


@pytest_asyncio.fixture
async def front(server: Server) -> AsyncIterator[Server]:
    """A public server that redirects to the local one."""
    front = Server()
    await front.start(host=PUBLIC)
    front.always(response(b"", f"Location: {server.url}/there", status="302 Found"))
    yield front
    await front.stop()


def redirect(location: str) -> Head:
    return Head(302, b"Found", {b"location": location.encode()}, length=0, keeps=True)


async def test_where_one_lane_may_not_go_no_other_goes(front: Server, server: Server) -> None:
    ground = Ground(f"{front.url}/", PIECE)
    for _ in range(3):
        lane = ground.lane()
        failures = ground.seed.failures
        lane.fill(ground.clock.time())
        await until(lambda before=failures: ground.seed.failures > before, "it is refused")
        assert "redirects to a local address" in ground.seed.trouble
        ground.pieces.abandon(0)
        ground.clock.ahead += 1000
        lane.close()
    assert server.connections == 0
    assert len(front.requests) == 1
    assert ground.seed.moved == {0: Place(f"{server.url}/there", Reach.PUBLIC)}
    ground.hosts.close()


async def test_a_connection_to_a_local_server_is_not_lent_to_who_may_not_lead_there(front: Server, server: Server) -> None:
    ground = Ground(f"{server.url}/", PIECE, PIECE)
    server.always(response(ground.data[0]))
    lane = ground.lane()
    ground.seed.moved[1] = Place(f"{server.url}/there", Reach.PUBLIC)
    lane.fill(ground.clock.time())
    await until(lambda: ground.seed.failures, "the second file is refused")
    assert "redirects to a local address" in ground.seed.trouble
    assert [head.split()[1] for head in server.requests] == ["/n/f0"]
    lane.close()
    ground.hosts.close()


async def test_who_led_to_the_host_that_redirects_counts_as_well() -> None:
    ground = Ground("http://127.0.0.2/", PIECE)
    (one,) = ground.next_ranges(ground.seed)
    _, (ask,) = ground.verdicts.asks_of(ground.seed, one)
    for location, reach, before in (
        ("http://a/one", Reach.PUBLIC, Reach.PUBLIC), ("http://a/two", Reach.LOCAL, Reach.PUBLIC),
    ):  # fmt: skip
        ground.verdicts.locate(ground.seed, ask)
        assert ground.verdicts.of(ground.seed, ask, redirect(location), 0.0, reach).moved
        assert ground.seed.moved[0] == Place(location, before)
    ground.hosts.close()


async def test_a_file_that_is_taken_as_it_is_comes_from_nowhere_else_either(
    front: Server, server: Server, tmp_path: Path
) -> None:
    ground = Ground(f"{front.url}/", PIECE)
    web: Any = SimpleNamespace(
        place_of=ground.verdicts.place, may_reach=ground.may_reach, line=None, seeds=[ground.seed]
    )
    context = cast(Any, SimpleNamespace(web_hosts=lambda: ground.hosts, loop=asyncio.get_running_loop()))
    layout: Any = SimpleNamespace(paths=[("n", "f0")])
    accepting = Accepting(context, ground.torrent, layout, web, [], [], IncompleteError("x"), lambda *_: None)
    fd = os.open(tmp_path / "taken", os.O_WRONLY | os.O_CREAT)
    try:
        for place in (None, Place(f"{server.url}/there", Reach.PUBLIC)):
            if place is not None:
                ground.seed.moved[0] = place
            with pytest.raises(RemoteError, match="redirects to a local address"):
                await accepting._receive(ground.seed, 0, fd)
        ground.seed.moved[0] = Place(f"{server.url}/there?do=it")
        with pytest.raises(RemoteError, match="a torrent may not name it"):
            await accepting._receive(ground.seed, 0, fd)
    finally:
        os.close(fd)
    assert server.requests == []
    assert (tmp_path / "taken").read_bytes() == b""
    ground.hosts.close()


@pytest.mark.parametrize(
    ("host", "may"),
    [
        ("8.8.8.8", True), ("10.0.0.1", False), ("127.0.0.1", False), ("::1", False), ("0.0.0.0", False), ("::", False),
        ("::ffff:0.0.0.0", False),
    ],
)  # fmt: skip
async def test_queries_that_a_torrent_names_go_to_public_servers_alone(host: str, may: bool) -> None:
    ground = Ground("http://h/", PIECE)
    assert (ground.may_reach(ground.seed, reach_of(host), "http://h/?do=it") == "") is may
    assert ground.may_reach(ground.seed, reach_of(host), "http://h/f") == ""
    ground.seed.named = True
    assert ground.may_reach(ground.seed, reach_of(host), "http://h/?do=it") == ""
    ground.hosts.close()


@pytest.mark.parametrize("far", [True, False])
async def test_a_metalink_leads_no_nearer_than_it_comes_from(front: Server, server: Server, far: bool) -> None:
    torrent = encode({"info": {"length": 1, "name": "f", "piece length": PIECE, "pieces": bytes(20)}})
    server.always(response(torrent))
    named = f'<metaurl mediatype="torrent">{server.url}/t?x</metaurl><url>{server.url}/f?x</url>'
    space = 'xmlns="urn:ietf:params:xml:ns:metalink"'
    metalink = f'<?xml version="1.0"?><metalink {space}><file name="f">{named}</file></metalink>'.encode()
    front.always(response(metalink))
    trackers = HttpTrackers(user_agent="btfast/test")
    source = f"{front.url}/x.meta4" if far else "x.meta4"
    add = Add(id=1, source=source, directory="", data=None if far else metalink, web_seeds=["http://named/"])
    try:
        if far:
            with pytest.raises(RemoteError, match="redirects to a local address"):
                await torrent_of(add, trackers)
            assert server.requests == []
        else:
            add, found = await torrent_of(add, trackers)
            assert found.name == "f"
            assert (add.web_seeds, add.found_seeds) == (["http://named/"], [f"{server.url}/f?x"])
    finally:
        await trackers.close()
