"""Files that are another version at the web server by now: told, left out, or taken as they are."""

from __future__ import annotations

import os
from pathlib import Path

from support.commands import get, run
from support.torrents import make, tree
from support.web_server import Request, WebServer
from test_web_seeds import served

MADE = make({"changed": 65_536 * 2, "fine": 65_536 * 3, "longer": 65_536}, name="mirror")
QUICK = ("--peer-timeout", "4")
DATE = "Sat, 01 Feb 2020 10:00:00 GMT"


def newer() -> dict[str, bytes]:
    files = served(MADE)
    files["/mirror/changed"] = b"new" * 40_000
    files["/mirror/longer"] += b"more"
    return files


def test_stale_files_are_taken_as_they_are_where_that_is_asked_for(tmp_path: Path) -> None:
    with WebServer(newer(), headers=f"Last-Modified: {DATE}\r\n") as server:
        words = (MADE.save(tmp_path), "--web-seed", server.url, "--accept-stale", "changed", "--accept-stale", "mirror/long*")
        done = run(tmp_path, *get(*words, *QUICK))
    assert done.code == 0, done.err
    assert tree(tmp_path / "out") == {path.lstrip("/"): data for path, data in newer().items()}
    assert sum("taken as it is" in warning and "not verified" in warning for warning in done.warnings) == 2
    assert sorted(done.one("complete")["files"]) == ["mirror/changed", "mirror/fine", "mirror/longer"]
    assert {int(path.stat().st_mtime) for path in (tmp_path / "out/mirror").iterdir()} == {1_580_551_200}


def test_those_that_were_not_asked_for_are_listed_with_code_4(tmp_path: Path) -> None:
    with WebServer(newer()) as server:
        done = run(tmp_path, *get(MADE.save(tmp_path), "--web-seed", server.url, "--accept-stale", "changed", *QUICK))
    line = done.error(4)
    assert "1 of its files stay incomplete: mirror/longer" in line
    assert (tmp_path / "out/mirror/changed").read_bytes() == newer()["/mirror/changed"]
    assert (tmp_path / "out/mirror/fine").exists()
    assert not (tmp_path / "out/mirror/longer").exists()


def test_a_file_that_cannot_be_taken_is_an_error_and_leaves_no_final_name(tmp_path: Path) -> None:
    def bend(request: Request) -> bool:
        if request.path != "/mirror/longer" or len([one for one in server.requests if one.path == request.path]) == 1:
            return False
        request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nshort")
        return request.close()

    with WebServer(newer(), bend) as server:
        done = run(tmp_path, *get(MADE.save(tmp_path), "--web-seed", server.url, "--accept-stale", "*", *QUICK))
    assert "in the middle of an answer" in done.error(3)
    assert not (tmp_path / "out/mirror/longer").exists()


def test_what_was_verified_stays_until_the_other_version_is_there(tmp_path: Path) -> None:
    def bend(request: Request) -> bool:
        if request.path == "/mirror/longer" and request.first is None:
            request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000\r\n\r\n")
            return request.close()
        return False

    made = make({"longer": 65_536 * 2}, name="mirror")
    data = made.contents()["mirror/longer"]
    (tmp_path / "out/mirror").mkdir(parents=True)
    (tmp_path / "out/mirror/longer.part").write_bytes(data[:65_536])
    with WebServer({"/mirror/longer": data + b"more"}, bend) as server:
        done = run(tmp_path, *get(made.save(tmp_path), "--web-seed", server.url, "--accept-stale", "*", *QUICK))
    assert "No space left on device for 1000000000000000 bytes" in done.error(6)
    assert os.listdir(tmp_path / "out/mirror") == ["longer.part"]
    assert (tmp_path / "out/mirror/longer.part").read_bytes()[:65_536] == data[:65_536]


def test_a_file_that_changes_between_two_parts_is_not_mixed(tmp_path: Path) -> None:
    made = make(100 * 65_536, name="live.bin")
    version = {"tag": '"one"'}

    def bend(request: Request) -> bool:
        if request.first is None:
            return False
        asked = request.headers.get("if-range")
        if asked and asked != version["tag"]:
            return request.reply(request.content, headers=f"ETag: {version['tag']}\r\n")
        request.part(headers=f"ETag: {version['tag']}\r\n")
        if len(server.requests) == 2:
            version["tag"] = '"two"'
        return True

    with WebServer(served(made), bend) as server:
        done = run(tmp_path, *get(made.save(tmp_path), "--web-seed", f"{server.url}/"))
    assert done.code == 0, done.err
    tags = [request.headers.get("if-range") for request in server.requests]
    assert '"one"' in tags
    assert '"two"' in tags


def test_a_finished_file_has_the_time_that_the_server_gives(tmp_path: Path) -> None:
    made = make(100_000, name="dated.bin")
    with WebServer(served(made), headers=f"Last-Modified: {DATE}\r\n") as server:
        done = run(tmp_path, *get(made.save(tmp_path), "--web-seed", f"{server.url}/"))
        assert done.code == 0, done.err
        assert int((tmp_path / "out/dated.bin").stat().st_mtime) == 1_580_551_200
        again = run(tmp_path, *get(made.save(tmp_path), "--web-seed", f"{server.url}/"))
    assert again.one("complete")["downloaded"] == 0


def test_a_later_run_asks_whether_the_file_is_still_the_same_and_says_when_it_is_not(tmp_path: Path) -> None:
    made = make(60 * 65_536, name="resumed.bin")

    def first(request: Request) -> bool:
        if len(server.requests) > 1:
            return request.hang()
        return request.part(headers='ETag: "one"\r\n')

    def second(request: Request) -> bool:
        asked = request.headers.get("if-range")
        if asked == '"one"':
            return request.reply(request.content, headers='ETag: "two"\r\n')
        return request.part(headers='ETag: "two"\r\n')

    words = get(made.save(tmp_path), "--state", "state", "--web-seed")
    with WebServer(served(made), first) as server:
        cut = run(tmp_path, *words, f"{server.url}/", *QUICK)
        assert cut.code == 3
        server.bend = second
        before = len(server.requests)
        done = run(tmp_path, *words, f"{server.url}/")
        asked = [request.headers.get("if-range") for request in server.requests[before:]]
    assert done.code == 0, done.err
    assert asked[0] == '"one"'
    assert any("has changed there since an earlier run" in warning for warning in done.warnings)
    assert list((tmp_path / "state/webseeds").iterdir()) == []
