"""Files that were taken as they are are known to later runs: told as before, left alone, and not fetched a second time."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.commands import Outcome, get, run
from support.torrents import make, tree
from support.web_server import WebServer
from test_stale import DATE, MADE, QUICK, newer
from test_web_seeds import served


def fetch(root: Path, server: WebServer, *globs: str, more: tuple[str, ...] = ()) -> Outcome:
    accepted = [word for glob in globs for word in ("--accept-stale", glob)]
    return run(root, *get(MADE.save(root), "--web-seed", server.url, *accepted, *QUICK, *more))


def test_a_second_run_says_what_the_first_did_and_asks_for_nothing(tmp_path: Path) -> None:
    with WebServer(newer(), headers=f"Last-Modified: {DATE}\r\n") as server:
        first = fetch(tmp_path, server, "changed", "longer")
        assert first.code == 0, first.err
        before, times = len(server.requests), {path: path.stat().st_mtime_ns for path in (tmp_path / "out/mirror").iterdir()}
        again = fetch(tmp_path, server, "changed", "longer")
        assert len(server.requests) == before
    assert again.code == 0, again.err
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "out/mirror").iterdir()}
    one, other = first.one("complete"), again.one("complete")
    assert sorted(one["files"]) == sorted(other["files"])
    assert (one["bytes"], other["downloaded"], other["limited_by"]) == (other["bytes"], 0, "nothing to do")
    assert [first.one("metadata")[key] for key in ("wanted_files", "wanted_size")] == [3, len(MADE.data)]
    assert first.one("metadata") == again.one("metadata")
    told = [warning for warning in again.warnings if "not verified" in warning]
    assert len(told) == 2
    assert all(f"version of {DATE}" in warning and "an earlier run" in warning for warning in told)


def test_without_the_option_it_ends_with_code_4_and_leaves_everything_where_it_is(tmp_path: Path) -> None:
    with WebServer(newer()) as server:
        assert fetch(tmp_path, server, "changed", "longer").code == 0
        before, there = len(server.requests), tree(tmp_path / "out")
        again = fetch(tmp_path, server, "longer")
        line = again.error(4)
        assert len(server.requests) == before
        assert tree(tmp_path / "out") == there
        assert "1 file is not what the torrent means" in line
        assert "mirror/changed" in line
        assert "--accept-stale" in line
        assert "--check" in line
        assert "mirror/longer" not in line
        assert fetch(tmp_path, server, "longer", "changed").code == 0


def test_what_was_missing_besides_is_fetched_and_what_was_taken_is_left_alone(tmp_path: Path) -> None:
    with WebServer(newer()) as server:
        assert "mirror/longer" in fetch(tmp_path, server, "changed").error(4)
        before = len(server.requests)
        done = fetch(tmp_path, server, "*")
        assert {request.path for request in server.requests[before:]} == {"/mirror/longer"}
    assert done.code == 0, done.err
    assert tree(tmp_path / "out") == {path.lstrip("/"): data for path, data in newer().items()}
    assert sorted(done.one("complete")["files"]) == ["mirror/changed", "mirror/fine", "mirror/longer"]


def test_check_says_the_truth_of_it_and_the_option_of_that_name_forgets_it(tmp_path: Path) -> None:
    with WebServer(newer()) as server:
        assert fetch(tmp_path, server, "changed", "longer").code == 0
        checked = run(tmp_path, "check", "--json", MADE.save(tmp_path), "out")
        assert checked.code == 4
        states = {event["path"]: event["state"] for event in checked.all("checked")}
        assert states == {"mirror/changed": "wrong_size", "mirror/fine": "good", "mirror/longer": "wrong_size"}
        server.files = served(MADE)
        done = fetch(tmp_path, server, more=("--check",))
        assert done.code == 0, done.err
        assert tree(tmp_path / "out") == MADE.contents()
        assert fetch(tmp_path, server).code == 0


@pytest.mark.parametrize("change", ["touched", "removed"])
def test_a_file_that_is_not_as_it_was_taken_is_fetched_again(change: str, tmp_path: Path) -> None:
    with WebServer(newer()) as server:
        assert fetch(tmp_path, server, "changed", "longer").code == 0
        path = tmp_path / "out/mirror/longer"
        path.write_bytes(b"mine") if change == "touched" else path.unlink()
        done = fetch(tmp_path, server, "changed", "longer")
    assert done.code == 0, done.err
    kept = {"mirror/longer.old": b"mine"} if change == "touched" else {}
    assert tree(tmp_path / "out") == {path.lstrip("/"): data for path, data in newer().items()} | kept
    assert any("mirror/changed" in warning and "an earlier run" in warning for warning in done.warnings)
    assert any("mirror/longer" in warning and "taken as it is" in warning for warning in done.warnings)


def test_the_neighbour_of_a_file_that_was_taken_stays_complete(tmp_path: Path) -> None:
    """Their piece was right, and cannot be looked at any more."""
    made = make({"a": 2 * 65_536 + 100, "b": 65_536, "c": 100_000}, name="n")
    files = {path: bytearray(data) for path, data in made.contents().items()}
    files["n/a"][:65_536] = bytes(65_536)
    (tmp_path / "out/n").mkdir(parents=True)
    (tmp_path / "out/n/a.part").write_bytes(files["n/a"])
    (tmp_path / "out/n/b").write_bytes(files["n/b"])
    words = (made.save(tmp_path), "--web-seed")
    with WebServer(served(made) | {"/n/a": b"another"}) as server:
        first = run(tmp_path, *get(*words, server.url, "--accept-stale", "a", *QUICK))
        assert first.code == 0, first.err
        before, there = len(server.requests), tree(tmp_path / "out")
        assert there == made.contents() | {"n/a": b"another"}
        again = run(tmp_path, *get(*words, server.url, "--accept-stale", "a", *QUICK))
        assert again.code == 0, again.err
        assert sorted(again.one("complete")["files"]) == sorted(first.one("complete")["files"])
        assert "n/a" in run(tmp_path, *get(*words, server.url, *QUICK)).error(4)
        assert tree(tmp_path / "out") == there
        assert len(server.requests) == before


def test_it_is_not_served_to_peers(tmp_path: Path) -> None:
    with WebServer(newer()) as server:
        assert fetch(tmp_path, server, "changed", "longer").code == 0
        done = fetch(tmp_path, server, "changed", "longer", more=("--seed-time", "1000000"))
        assert done.code == 0, done.err
        seeding = run(tmp_path, "seed", MADE.save(tmp_path), "--data", "out", "--bind", "127.0.0.1", "--port", "0", "--no-dht")
    assert "only complete data can be served" in seeding.error(4)
