"""A lane of a web seed and a server that ignores which part it is asked for: the whole of each file comes, and is used."""

from __future__ import annotations

import asyncio

import pytest
from engine_parts import until
from scripted_http import Server, response
from web_lanes import PIECE, Ground

from btfast.engine.web_answers import retry_after
from btfast.swarm.web_seed import BROKEN
from btfast.wire.http import Head


def file_of(target: str) -> int:
    return int(target.rpartition("/f")[2])


def whole_files(ground: Ground, server: Server) -> None:
    async def handler(target: str, writer: asyncio.StreamWriter) -> bytes | None:
        return response(ground.data[file_of(target)])

    server.handler = handler


@pytest.mark.parametrize("first", [2 * PIECE + 5, 3 * PIECE])
async def test_what_follows_in_other_files_is_asked_for_as_well(server: Server, first: int) -> None:
    ground = Ground(f"{server.url}/", first, PIECE + 7, 9, 2 * PIECE, aligned=True, take=2)
    whole_files(ground, server)
    lane = ground.lane()
    lane.fill(ground.clock.time())
    await until(lambda: ground.complete, "all has come")
    assert ground.arrived()
    assert lane.idle
    assert ground.back == []
    assert not ground.seed.ranges
    lane.close()
    ground.hosts.close()


@pytest.mark.parametrize("waiting", [False, True], ids=["", "while the seed is not asked for more"])
async def test_an_answer_that_ends_while_memory_is_short_is_ended_when_there_is_some(server: Server, waiting: bool) -> None:
    ground = Ground(f"{server.url}/", PIECE + 10, PIECE, aligned=True)

    async def handler(target: str, writer: asyncio.StreamWriter) -> bytes | None:
        ground.short = ground.retry is None
        return response(ground.data[file_of(target)])

    server.handler = handler
    lane = ground.lane()
    lane.fill(ground.clock.time())
    await until(lambda: ground.retry is not None , "the end has come")
    assert len(ground.came) == 4
    ground.clock.ahead += 1000
    lane.tick(ground.clock.time())
    ground.short = False
    if waiting:
        ground.seed.ready_at = ground.clock.time() + 5
    assert ground.retry()
    lane.tick(ground.clock.time())
    assert len(ground.came) == 5
    ground.clock.ahead += 10
    lane.fill(ground.clock.time())
    await until(lambda: ground.complete, "the other file has come")
    assert ground.arrived()
    assert ground.seed.failures == 0
    assert server.connections == 1
    lane.close()
    ground.hosts.close()


@pytest.mark.parametrize(("step", "well"), [(PIECE, True), (16_384, True), (1000, False)])
async def test_a_long_beginning_that_is_here_already_is_no_silence_unless_it_drips(
    server: Server, step: int, well: bool
) -> None:
    ground = Ground(f"{server.url}/", 4 * PIECE)
    ground.pieces.found([0, 1, 2])
    lane = ground.lane()
    data = ground.data[0]

    async def handler(target: str, writer: asyncio.StreamWriter) -> bytes | None:
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode())
        for end in range(step, 3 * PIECE + 1, step):
            writer.write(data[end - step : end])
            await writer.drain()
            await until(lambda end=end: ground.thrown_away >= end, "it is read")
            ground.clock.ahead += 20
            lane.tick(ground.clock.time())
            if ground.seed.failures:
                return None
        return data[3 * PIECE :]

    server.handler = handler
    lane.fill(ground.clock.time())
    await until(lambda: ground.seed.failures or lane.idle, "it has come to an end")
    assert bool(ground.seed.failures) is not well
    assert len(ground.came) == (4 if well else 0)
    if not well:
        assert "sent nothing of use" in ground.seed.trouble
        assert ground.thrown_away < 20 * step
    lane.close()
    ground.hosts.close()


@pytest.mark.parametrize(("head", "lost"), [((), True), (("Retry-After: 9",), False)])
async def test_one_file_over_which_the_server_fails_does_not_keep_the_others(
    server: Server, head: tuple[str, ...], lost: bool
) -> None:
    ground = Ground(f"{server.url}/", PIECE, PIECE)
    server.always(response(b"", *head, status="500 Oops"))
    lane = ground.lane()
    for times in range(1, BROKEN + 1):
        assert not ground.seed.lacking
        lane.fill(ground.clock.time())
        await until(lambda times=times: len(server.requests) == times and lane.idle, "it has failed")
        ground.pieces.abandon(0)
        ground.clock.ahead += 100
    assert ground.seed.lacking == ({0: "HTTP 500 Oops"} if lost else {})
    assert not ground.seed.gone
    lane.close()
    ground.hosts.close()


@pytest.mark.parametrize("strict", [True, False], ids=["If-Range is kept to", "If-Range is ignored"])
async def test_servers_behind_one_name_may_call_the_same_file_by_different_tags(server: Server, strict: bool) -> None:
    ground = Ground(f"{server.url}/", 8 * PIECE)
    data = ground.data[0]

    async def handler(target: str, writer: asyncio.StreamWriter) -> bytes | None:
        head = dict(line.split(": ", 1) for line in server.requests[-1].split("\r\n")[1:] if line)
        tag = f'"{len(server.requests) % 2}"'
        if strict and head.get("If-Range", tag) != tag:
            return response(data, f"ETag: {tag}")
        first, last = map(int, head["Range"].partition("=")[2].split("-"))
        said = f"Content-Range: bytes {first}-{last}/{len(data)}"
        return response(data[first : last + 1], said, f"ETag: {tag}", status="206 Partial Content")

    server.handler = handler
    lane = ground.lane()
    lane.fill(ground.clock.time())
    await until(lambda: ground.complete or lane.idle, "it has come to an end")
    assert ground.complete, ground.seed.trouble
    assert ground.arrived()
    assert ground.seed.failures == 0
    assert "If-Range" not in server.requests[-1]  # the tags are believed no more
    lane.close()
    ground.hosts.close()


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        (b"7", b"", 7.0),
        (b"Sat, 01 Feb 2020 10:00:09 GMT", b"Sat, 01 Feb 2020 10:00:00 GMT", 9.0),
        (b"Sat, 01 Feb 2020 10:00:09 GMT", b"", None),
        (b"Sat, 01 Feb 99999999999999999999 10:00:09 GMT", b"Sat, 01 Feb 2020 10:00:00 GMT", None),
        (b"Sat, 01 Feb 2020 10:00:09 +99999999999999", b"Sat, 01 Feb 2020 10:00:00 GMT", None),
        (b"soon", b"", None),
    ],
)
def test_how_long_a_server_asks_for_patience(value: bytes, date: bytes, seconds: float | None) -> None:
    assert retry_after(Head(503, b"", {b"retry-after": value, b"date": date}, 0, keeps=True)) == seconds
