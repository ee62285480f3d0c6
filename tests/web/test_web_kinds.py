"""Web seeds of torrents of every version, and of those of which only some files are wanted."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from support.commands import get, run
from support.torrents import make, tree
from support.web_server import WebServer
from test_web_seeds import served

FILES = {"folder/a": 70_001, "folder/b/c": 16_384, "folder/d": 5, "folder/e": 200_000, "folder/nothing": 0}


@pytest.mark.parametrize("version", ["2", "hybrid"])
def test_torrents_made_for_a_web_seed_arrive_from_it(version: str, tmp_path: Path) -> None:
    rng = random.Random(version)
    contents = {path: rng.randbytes(size) for path, size in FILES.items()}
    for path, data in contents.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    with WebServer({f"/{path}": data for path, data in contents.items()}) as server:
        words = ("create", "folder", "--version", version, "--piece-size", "32KiB", "--web-seed", server.url)
        made = run(tmp_path, *words, "-o", "x.torrent")
        assert made.code == 0, made.err
        done = run(tmp_path, *get("x.torrent", trackers=True), "--no-dht", "--no-lsd")
    assert done.code == 0, done.err
    assert tree(tmp_path / "out") == contents
    assert all(not request.path.endswith(("/nothing", "/.pad")) for request in server.requests)


def test_only_the_files_that_are_wanted_are_fetched(tmp_path: Path) -> None:
    made = make({"a": 65_536 * 4, "b": 65_536 * 4, "c": 65_536 * 4}, name="some")
    with WebServer(served(made)) as server:
        done = run(tmp_path, *get(made.save(tmp_path), "--web-seed", server.url, "--select", "b"))
    assert done.code == 0, done.err
    assert tree(tmp_path / "out") == {"some/b": made.contents()["some/b"]}
    assert {request.path for request in server.requests} == {"/some/b"}
    assert done.one("complete")["downloaded"] == 65_536 * 4
