"""Politeness: how many connections one host gets from all torrents together, whatever its URLs look like."""

from __future__ import annotations

import asyncio

import pytest
from engine_parts import until
from scripted_http import Server, response
from web_lanes import PIECE, Ground

from btfast.engine import web_hosts
from btfast.engine.web_hosts import WebHosts


class Holder:
    def __init__(self, *, idle: bool = False) -> None:
        self.idle = idle
        self.asked = 0

    def give_way(self) -> None:
        self.asked += 1


ONE = (
    "http://mirror.example/a/", "http://mirror.example/b?c", "http://MIRROR.Example/a", "http://mirror.example:8080/",
    "https://mirror.example/", "https://mirror.example:443/a", "http://mirror.example./", "http://user:word@mirror.example/",
)  # fmt: skip


async def test_urls_that_differ_in_port_path_and_case_lead_to_one_host() -> None:
    hosts = WebHosts(bind="")
    found = [hosts.locate(url, "test")[0] for url in ONE]
    holders = [Holder() for _ in range(web_hosts.PER_HOST)]
    for number, holder in enumerate(holders):
        assert hosts.enter(found[number % len(found)], holder)
    assert not any(hosts.enter(host, Holder()) for host in found)
    other, _ = hosts.locate("http://other.example/", "test")
    assert hosts.enter(other, Holder())
    hosts.leave(found[0], holders[0])
    assert hosts.enter(found[-1], Holder())
    assert not hosts.enter(found[0], Holder())
    hosts.close()


@pytest.fixture
def one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_hosts, "PER_HOST", 1)


def whole(ground: Ground, server: Server) -> None:
    async def handler(target: str, writer: asyncio.StreamWriter) -> bytes | None:
        return response(ground.data[int(target.rpartition("/f")[2])])

    server.handler = handler


@pytest.mark.usefixtures("one_place")
async def test_who_has_nothing_to_ask_gives_way_and_who_has_does_not(server: Server) -> None:
    """A torrent that is complete and served may have its connection for ever, and another needs the place."""
    first, second = (Ground(f"{server.url}/", 2 * PIECE) for _ in range(2))
    second.hosts.close()
    second.hosts = first.hosts
    whole(first, server)
    lane, other = first.lane(), second.lane()
    lane.fill(first.clock.time())
    other.fill(second.clock.time())
    assert other.waiting
    await until(lambda: first.complete and lane.idle, "the first has come")
    other.fill(second.clock.time())
    assert not other.waiting
    await until(lambda: second.complete, "the other has come, too")
    assert second.arrived()
    assert first.seed.failures == second.seed.failures == 0
    lane.close()
    other.close()
    first.hosts.close()


@pytest.mark.usefixtures("one_place")
async def test_a_connection_that_comes_too_late_holds_no_place(server: Server) -> None:
    ground = Ground(f"{server.url}/", 8 * PIECE, take=8)
    whole(ground, server)
    lane = ground.lane()
    lane.fill(ground.clock.time())
    for index in range(8):  # somebody else has sent all of it before the connection was there
        lane.cancel(ground.all_of(index))
    assert lane.idle
    assert ground.hosts.enter(ground.hosts.locate(ground.seed.url, "")[0], Holder(idle=True))
    await until(lambda: server.connections == 1, "it is there")
    await until(lambda: lane._connecting is None, "and has been looked at")
    assert lane._connection is None
    lane.close()
    ground.hosts.close()
