"""Metalinks that say no more of a file than the hash of the whole: fetched as any other, and named when that is right."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from support.commands import Outcome, get, run
from support.torrents import assert_arrived, make, tree
from support.web_server import Request, WebServer
from test_web_sources import MADE, SPACE

QUICK = ("--peer-timeout", "3")


def metalink(
    *urls: str, kinds: tuple[str, ...] = ("sha-256",), size: bool = True, data: bytes = MADE.data, name: str = MADE.name
) -> str:
    hashes = "".join(f'<hash type="{kind}">{hashlib.new(kind.replace("-", ""), data).hexdigest()}</hash>' for kind in kinds)
    said = f"<size>{len(data)}</size>" if size else ""
    mirrors = "".join(f"<url>{url}</url>" for url in urls)
    return f'<file name="{name}">{said}{hashes}{mirrors}</file>'


def fetch(root: Path, *files: str, more: tuple[str, ...] = ()) -> Outcome:
    (root / "x.meta4").write_text(f"<metalink {SPACE}>{''.join(files)}</metalink>")
    return run(root, *get(root / "x.meta4", *more))


@pytest.mark.parametrize("kinds", [("sha-256",), ("md5", "sha-512"), ("sha-384", "sha-224")])
def test_it_comes_from_its_mirrors_and_is_not_fetched_again(kinds: tuple[str, ...], tmp_path: Path) -> None:
    with WebServer({"/a": MADE.data}) as one, WebServer({"/b": MADE.data}) as other:
        file = metalink(f"{one.url}/a", f"{other.url}/b", kinds=kinds)
        done = fetch(tmp_path, file)
        assert done.code == 0, done.err
        assert_arrived(MADE, tmp_path / "out")
        before = len(one.requests) + len(other.requests)
        again = fetch(tmp_path, file)
        assert (again.code, again.one("complete")["downloaded"]) == (0, 0)
        hashed = run(tmp_path, *get(tmp_path / "x.meta4", "--check"))
        assert (hashed.code, hashed.one("complete")["downloaded"]) == (0, 0)
        assert len(one.requests) + len(other.requests) == before
    assert done.one("complete")["limited_by"] == "web seeds"


@pytest.mark.parametrize("more", [(), ("--in-place",), ("--memory", "16MiB")])
def test_a_wrong_one_gets_no_final_name_and_is_fetched_anew(more: tuple[str, ...], tmp_path: Path) -> None:
    wrong = bytes(byte ^ 1 for byte in MADE.data[:100]) + MADE.data[100:]
    with WebServer({"/a": wrong}) as server:
        file = metalink(f"{server.url}/a")
        for _ in range(2):
            failed = fetch(tmp_path, file, more=more)
            assert "its SHA-256 is not that of the Metalink" in failed.error(4)
            assert failed.all("file") == []
            assert list(tree(tmp_path / "out")) == ["image.iso" if "--in-place" in more else "image.iso.part"]
        server.files["/a"] = MADE.data
        done = fetch(tmp_path, file, more=more)
    assert done.code == 0, done.err
    assert_arrived(MADE, tmp_path / "out")
    assert done.one("complete")["downloaded"] == len(MADE.data)


def test_what_an_earlier_run_has_fetched_is_not_fetched_again(tmp_path: Path) -> None:
    made = make(20 << 20, name=MADE.name)

    def bend(request: Request) -> bool:
        return request.hang() if len(server.requests) > 3 else False

    with WebServer({"/a": made.data}, bend) as server:
        file = metalink(f"{server.url}/a", data=made.data)
        assert fetch(tmp_path, file, more=QUICK).code == 3
        assert list(tree(tmp_path / "out")) == ["image.iso.part"]
        came = server.bytes_sent
        server.bend = None
        done = fetch(tmp_path, file)
    assert done.code == 0, done.err
    assert_arrived(made, tmp_path / "out")
    assert came > 1 << 20
    assert done.one("complete")["downloaded"] <= len(made.data) - came + (4 << 20)


def test_a_file_that_is_there_already_is_believed_for_its_hash_and_another_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with WebServer({"/a": MADE.data}) as server:
        (tmp_path / "out/image.iso").write_bytes(MADE.data)
        done = fetch(tmp_path, metalink(f"{server.url}/a"), more=("--state", "one"))
        assert (done.code, done.one("complete")["downloaded"], server.requests) == (0, 0, [])
        (tmp_path / "out/image.iso").write_bytes(bytes(len(MADE.data)))
        done = fetch(tmp_path, metalink(f"{server.url}/a"), more=("--state", "other"))
    assert done.code == 0, done.err
    assert tree(tmp_path / "out") == MADE.contents() | {"image.iso.old": bytes(len(MADE.data))}
    assert any("it is 'image.iso.old' now" in warning for warning in done.warnings)


def test_the_size_is_asked_for_where_it_is_not_said(tmp_path: Path) -> None:
    with WebServer({"/gone": b""}) as one, WebServer({"/a": MADE.data}) as server:
        del one.files["/gone"]
        done = fetch(tmp_path, metalink(f"{one.url}/gone", f"{server.url}/a", size=False))
    assert done.code == 0, done.err
    assert_arrived(MADE, tmp_path / "out")


def test_nobody_who_says_the_size_is_one_line_and_no_local_server_is_asked_what_it_should_not(tmp_path: Path) -> None:
    def chunked(request: Request) -> bool:
        request.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")
        return True

    with WebServer({"/a": MADE.data}, chunked) as server:
        failed = fetch(tmp_path, metalink(f"{server.url}/a", f"{server.url}/a?delete=all", size=False))
    assert "does not say how large the file is" in failed.error(2)
    assert [request.target for request in server.requests] == ["/a"]


def test_each_of_several_files_is_proved_by_itself(tmp_path: Path) -> None:
    with WebServer({"/a": MADE.data, "/b": b"wrong"}) as server:
        files = metalink(f"{server.url}/a"), metalink(f"{server.url}/b", data=b"right", name="docs/b")
        done = fetch(tmp_path, *files, more=QUICK)
    assert "SHA-256" in done.error(4)
    assert sorted(tree(tmp_path / "out")) == ["docs/b.part", "image.iso"]
    assert {event["name"] for event in done.all("complete")} == {"image.iso"}


def test_no_torrent_is_made_of_it(tmp_path: Path) -> None:
    failed = fetch(tmp_path, metalink("http://127.0.0.1:1/a"), more=("--metadata-only",))
    assert "no torrent can be made of it" in failed.error(2)
    assert not list(tmp_path.glob("out/*"))
