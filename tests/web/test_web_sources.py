"""Sources that are no .torrent: the URL of an ordinary file with a .torrent beside it, and Metalink 4."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest
from support.commands import get, run
from support.torrents import Made, assert_arrived, make, tree
from support.web_server import Request, WebServer

MADE = make(3_000_000, name="image.iso")
SPACE = 'xmlns="urn:ietf:params:xml:ns:metalink"'


def metalink(made: Made, *urls: str, pieces: bool = True, more: str = "", whole: bool = False) -> bytes:
    length = made.piece_length
    hashes = "".join(
        f"<hash>{hashlib.sha1(made.data[at : at + length]).hexdigest()}</hash>" for at in range(0, len(made.data), length)
    )
    listed = f'<pieces type="sha-1" length="{length}">{hashes}</pieces>' if pieces else ""
    if whole:
        listed += f'<hash type="sha-1">{hashlib.sha1(made.data).hexdigest()}</hash>'
    mirrors = "".join(f'<url priority="{number + 1}">{url}</url>' for number, url in enumerate(urls))
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<metalink {SPACE}><file name="{made.name}"><size>{len(made.data)}</size>'
        f'<hash type="sha-256">{hashlib.sha256(made.data).hexdigest()}</hash>{listed}{mirrors}{more}</file></metalink>'
    ).encode()


def test_a_file_with_a_torrent_beside_it(tmp_path: Path) -> None:
    with WebServer({"/x/image.iso": MADE.data, "/x/image.iso.torrent": MADE.torrent}) as server:
        done = run(tmp_path, *get(f"{server.url}/x/image.iso"))
    assert done.code == 0, done.err
    assert_arrived(MADE, tmp_path / "out")
    assert done.one("complete")["limited_by"] == "web seeds"


def test_a_large_file_is_not_read_to_find_that_it_is_no_torrent(tmp_path: Path) -> None:
    def bend(request: Request) -> bool:
        if request.path != "/big":
            return False
        request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n" + b"\0" * 1000)
        return request.hang()

    with WebServer({}, bend) as server:
        done = run(tmp_path, *get(f"{server.url}/big"))
    assert "there is no .torrent beside it" in done.error(5)
    assert [request.path for request in server.requests] == ["/big", "/big.torrent"]


@pytest.mark.parametrize("local", [True, False])
def test_a_metalink_with_piece_hashes_and_mirrors_of_which_one_is_gone(tmp_path: Path, local: bool) -> None:
    asked = threading.Event()  # else the other may have sent all before it is

    def says_no(request: Request) -> bool:
        asked.set()
        return False

    def waits(request: Request) -> bool:
        assert not request.path.startswith("/a/") or asked.wait(60)
        return False

    with WebServer({}, says_no) as gone, WebServer({"/a/image.iso": MADE.data}, waits) as server:
        data = metalink(MADE, f"{gone.url}/nowhere/image.iso", f"{server.url}/a/image.iso", "ftp://127.0.0.1/image.iso")
        server.files["/image.meta4"] = data
        (tmp_path / "image.meta4").write_bytes(data)
        source = tmp_path / "image.meta4" if local else f"{server.url}/image.meta4"
        done = run(tmp_path, *get(source, trackers=True))
    assert done.code == 0, done.err
    assert_arrived(MADE, tmp_path / "out")
    assert any(gone.url in warning and "404" in warning for warning in done.warnings)
    assert done.one("metadata")["private"] is True


def test_a_metalink_that_names_a_torrent(tmp_path: Path) -> None:
    with WebServer({"/image.iso": MADE.data, "/t": MADE.torrent}) as server:
        more = f'<metaurl mediatype="torrent">{server.url}/t</metaurl>'
        (tmp_path / "x.meta4").write_bytes(metalink(MADE, f"{server.url}/image.iso", pieces=False, more=more))
        done = run(tmp_path, *get(tmp_path / "x.meta4"))
    assert done.code == 0, done.err
    assert_arrived(MADE, tmp_path / "out")
    assert done.one("metadata")["info_hash"] == MADE.info_hash.hex()


def test_a_metalink_with_the_hash_of_the_whole_file(tmp_path: Path) -> None:
    with WebServer({"/image.iso": MADE.data}) as server:
        (tmp_path / "x.meta4").write_bytes(metalink(MADE, f"{server.url}/image.iso", pieces=False, whole=True))
        done = run(tmp_path, *get(tmp_path / "x.meta4"))
    assert done.code == 0, done.err
    assert_arrived(MADE, tmp_path / "out")


def test_mirrors_with_wrong_data_do_not_pass(tmp_path: Path) -> None:
    with WebServer({"/image.iso": bytes(len(MADE.data))}) as server:
        (tmp_path / "x.meta4").write_bytes(metalink(MADE, f"{server.url}/image.iso"))
        done = run(tmp_path, *get(tmp_path / "x.meta4", "--peer-timeout", "4"))
    assert "differs there" in done.error(4)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'<?xml version="1.0"?><!DOCTYPE m SYSTEM "file:///etc/passwd"><metalink/>', "document type"),
        (metalink(MADE, "http://127.0.0.1:1/x", pieces=False).replace(b"sha-256", b"md5"), "an MD5, which proves nothing"),
        (metalink(MADE, "http://127.0.0.1:1/x", pieces=False).replace(b"sha-256", b"crc"), "no SHA hash"),
        (metalink(MADE), "names no http"),
    ],
)
def test_a_metalink_that_cannot_be_used_ends_with_one_line(data: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "x.meta4").write_bytes(data)
    done = run(tmp_path, *get(tmp_path / "x.meta4"))
    assert why in done.error(2)


def test_a_metalink_cannot_have_a_local_server_asked_anything_it_likes(tmp_path: Path) -> None:
    with WebServer({"/image.iso": MADE.data}) as server:
        (tmp_path / "x.meta4").write_bytes(metalink(MADE, f"{server.url}/image.iso?delete=all"))
        done = run(tmp_path, *get(tmp_path / "x.meta4", "--peer-timeout", "4"))
        assert "a torrent may not name it" in done.error(3)
        assert server.requests == []


@pytest.mark.parametrize("local", [True, False])
def test_the_files_of_a_metalink_are_fetched_each_by_itself(tmp_path: Path, local: bool) -> None:
    other = make(90_000, name="notes.txt")
    with WebServer({"/image.iso": MADE.data, "/n": other.data}) as server:
        parts = metalink(MADE, f"{server.url}/image.iso"), metalink(other, f"{server.url}/n")
        files = [part[part.index(b"<file") : part.index(b"</metalink>")] for part in parts]
        files[1] = files[1].replace(b"notes.txt", b"../doc/notes.txt")
        data = f"<metalink {SPACE}>".encode() + b"".join(files) + b"</metalink>"
        server.files["/all.meta4"] = data
        (tmp_path / "all.meta4").write_bytes(data)
        sources = [tmp_path / "all.meta4"] if local else [f"{server.url}/all.meta4#../doc/notes.txt", f"{server.url}/all.meta4"]
        done = run(tmp_path, *get(*sources))
    if local:
        assert done.code == 0, done.err
        assert tree(tmp_path / "out") == {"image.iso": MADE.data, "doc/notes.txt": other.data}
    else:
        assert "describes 2 files: name one as SOURCE#NAME: 'image.iso'" in done.error(2)
        assert tree(tmp_path / "out") == {"doc/notes.txt": other.data}


@pytest.mark.parametrize("more", [(), ("--in-place",)])
def test_a_file_whose_pieces_are_right_and_whose_hash_is_not_does_not_pass(tmp_path: Path, more: tuple[str, ...]) -> None:
    with WebServer({"/image.iso": MADE.data}) as server:
        data = metalink(MADE, f"{server.url}/image.iso")
        wrong = data.replace(hashlib.sha256(MADE.data).hexdigest().encode(), b"0" * 64)
        (tmp_path / "x.meta4").write_bytes(wrong)
        for _ in range(2):
            assert "its SHA-256 is not that of the Metalink" in run(tmp_path, *get(tmp_path / "x.meta4", *more)).error(4)
            assert list(tree(tmp_path / "out")) == ["image.iso" if more else "image.iso.part"]
        (tmp_path / "x.meta4").write_bytes(data)
        done = run(tmp_path, *get(tmp_path / "x.meta4", *more))
    assert (done.code, done.one("complete")["downloaded"]) == (0, 0)
