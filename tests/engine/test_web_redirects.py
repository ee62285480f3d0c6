"""Redirects of web seeds hold for a while: where one has run out the seed itself is asked again, and long ones are not kept."""

from __future__ import annotations

import asyncio

import pytest
from engine_parts import until
from scripted_http import Server, response
from web_lanes import PIECE, Ground

from btfast.metainfo.fields import MAX_URL_BYTES
from btfast.swarm.web_seed import MOST_MOVED, Place

PIECES = 8


class Tokens:
    """Redirects `/n/f0` to a place that is good for `uses` requests, and then refuses in this way."""

    def __init__(self, ground: Ground, server: Server, refusal: bytes, name: str, uses: int) -> None:
        self.ground = ground
        self.server = server
        self.refusal = refusal
        self.name = name
        self.uses = uses
        self.left: dict[str, int] = {}
        self.asked = 0  # the seed itself
        server.handler = self.handle

    async def handle(self, target: str, writer: asyncio.StreamWriter) -> bytes | None:
        if target == "/n/f0":
            self.asked += 1
            place = f"/{self.asked}/{self.name}"
            self.left[place] = self.uses
            return response(b"", f"Location: {place}", status="302 Found")
        self.left[target] -= 1
        if self.left[target] < 0:
            return self.refusal
        data = self.ground.data[0]
        lines = self.server.requests[-1].split("\r\n")
        (part,) = (line.partition("=")[2] for line in lines if line.startswith("Range:"))
        first, last = map(int, part.split("-"))
        said = f"Content-Range: bytes {first}-{last}/{len(data)}"
        return response(data[first : last + 1], said, status="206 Partial Content")


REFUSALS = {
    "forbidden": response(b"", status="403 Forbidden"),
    "another length": response(b"expired"),
    "a page": response(b"<h1>Log in", "Content-Type: text/html"),
    "a shorter file": response(b"", status="416 Range Not Satisfiable"),
}


@pytest.mark.parametrize("name", ["x", "n/f0"], ids=["another name", "the same name below another base"])
@pytest.mark.parametrize("refusal", REFUSALS)
async def test_where_a_redirect_has_run_out_the_seed_is_asked_again(server: Server, refusal: str, name: str) -> None:
    ground = Ground(f"{server.url}/", PIECES * PIECE)
    tokens = Tokens(ground, server, REFUSALS[refusal], name, uses=2)
    lane = ground.lane()
    lane.fill(ground.clock.time())
    await until(lambda: ground.complete or ground.seed.gone or ground.seed.lacking, "it has come to an end")
    assert ground.complete, (ground.seed.gone, ground.seed.lacking)
    assert ground.arrived()
    assert ground.seed.failures == 0
    assert tokens.asked == PIECES // 2
    lane.close()
    ground.hosts.close()


async def test_a_redirect_that_is_refused_at_once_is_not_tried_for_ever(server: Server) -> None:
    ground = Ground(f"{server.url}/", PIECES * PIECE)
    tokens = Tokens(ground, server, REFUSALS["forbidden"], "x", uses=0)
    lane = ground.lane()
    lane.fill(ground.clock.time())
    await until(lambda: lane.idle, "it has come to an end")
    assert ground.seed.lacking == {0: "HTTP 403 Forbidden"}
    assert tokens.asked == 1
    lane.close()
    ground.hosts.close()


async def test_a_redirect_to_a_very_long_address_is_refused(server: Server) -> None:
    ground = Ground(f"{server.url}/", PIECE)
    server.always(response(b"", f"Location: /{'x' * MAX_URL_BYTES}", status="302 Found"))
    lane = ground.lane()
    lane.fill(ground.clock.time())
    await until(lambda: lane.idle, "it has come to an end")
    assert "an address of 4097 bytes, more than the 4096 allowed" in ground.seed.lacking[0]
    assert not ground.seed.moved
    lane.close()
    ground.hosts.close()


async def test_no_more_places_are_kept_than_fit() -> None:
    ground = Ground("http://h/", PIECE)
    for file in range(MOST_MOVED + 3):
        ground.seed.keep_moved(file, Place("http://h/"))
    assert list(ground.seed.moved) == list(range(3, MOST_MOVED + 3))
    ground.hosts.close()
