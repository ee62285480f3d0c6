"""Torrents whose data comes from web servers: alone, beside peers, through redirects; nothing is fetched twice."""

from __future__ import annotations

import hashlib
import itertools
import threading
from pathlib import Path
from typing import Any

import pytest
from support.commands import get, run
from support.metadata_peers import MetadataPeer
from support.scripted_peer import ScriptedPeer
from support.torrents import Made, assert_arrived, make
from support.v2_torrents import make_v2
from support.web_server import Request, WebServer

from btfast._bencode import decode, encode

SINGLE = make(3_000_000, name="one file.bin")
FOLDER = make(
    {"a/b c.bin": 700_001, "empty": 0, "d@#?&+.bin": 300_007, "é/ü": 65_536 * 3, **{f"many/{n}": 3000 + n for n in range(40)}},
    name="a folder",
)


def with_keys(made: Made, **keys: Any) -> Made:
    """The same torrent with more keys at its top level."""
    top = decode(made.torrent, strict=False)
    return made._replace(torrent=encode({**top, **{name.replace("_", "-").encode(): value for name, value in keys.items()}}))


def served(made: Made) -> dict[str, bytes]:
    return {f"/{path}": data for path, data in made.contents().items()}


def padded() -> Made:
    """Two files with a pad file between them that is longer than a block, and one shorter."""
    lengths = [100_000, 31_072, 65_536 + 5, 65_531, 70_000]
    paths = [["x"], [".pad", "31072"], ["y"], [".pad", "65531"], ["z"]]
    made = make({"/".join(path): length for path, length in zip(paths, lengths, strict=True)}, name="padded")
    data = bytearray(made.data)
    data[100_000:131_072] = bytes(31_072)
    data[131_072 + 65_541 : 131_072 + 131_072] = bytes(65_531)
    pieces = b"".join(hashlib.sha1(data[at : at + 65_536]).digest() for at in range(0, len(data), 65_536))
    files = [
        {"length": length, "path": path, **({"attr": "p"} if path[0] == ".pad" else {})}
        for path, length in zip(paths, lengths, strict=True)
    ]
    info = {"name": "padded", "piece length": 65_536, "pieces": pieces, "files": files}
    return made._replace(
        torrent=encode({"info": info}), info_hash=hashlib.sha1(encode(info)).digest(), data=bytes(data)
    )


def fetched_once(server: WebServer, made: Made) -> None:
    """Every byte of every file left the server once."""
    for path, length in made.files.items():
        ranges = sorted(server.sent.get(f"/{path}", []))
        assert sum(last - first + 1 for first, last in ranges) == length, path
        assert all(one[1] < other[0] for one, other in itertools.pairwise(ranges))


@pytest.mark.parametrize("made", [SINGLE, FOLDER], ids=["single", "folder"])
def test_a_torrent_without_trackers_and_peers_arrives_from_its_web_seed_alone(made: Made, tmp_path: Path) -> None:
    with WebServer(served(made)) as server:
        where = f"{server.url}/one%20file.bin" if made is SINGLE else server.url
        torrent = with_keys(made, url_list=where).save(tmp_path)
        done = run(tmp_path, *get(torrent, trackers=True), "--no-dht", "--no-lsd")
    assert done.code == 0, done.err
    assert_arrived(made, tmp_path / "out")
    complete = done.one("complete")
    assert complete["limited_by"] == "web seeds"
    assert complete["downloaded"] == complete["bytes"]
    assert complete["wasted"] == 0
    peers = done.all("peer")
    assert [event["change"] for event in peers] == ["connected", "disconnected"]
    assert all(event["address"].startswith(server.url) and event["client"] == "web seed" for event in peers)
    fetched_once(server, made)
    assert not any(request.path.endswith("/empty") for request in server.requests)
    assert server.connections <= 4


def test_the_option_and_a_list_of_urls_are_shared_without_fetching_twice(tmp_path: Path) -> None:
    with WebServer(served(FOLDER)) as one, WebServer(served(FOLDER)) as other:
        torrent = with_keys(FOLDER, url_list=["ftp://127.0.0.1/x", f"{one.url}/"]).save(tmp_path)
        done = run(tmp_path, *get(torrent, "--web-seed", f"{other.url}/"))
    assert done.code == 0, done.err
    assert_arrived(FOLDER, tmp_path / "out")
    assert one.bytes_sent + other.bytes_sent >= len(FOLDER.data)
    assert done.one("complete")["wasted"] <= 2 * 65_536  # endgame


def test_a_single_file_may_be_below_the_url(tmp_path: Path) -> None:
    with WebServer({"/mirror/one file.bin": SINGLE.data}) as server:
        done = run(tmp_path, *get(SINGLE.save(tmp_path), "--web-seed", f"{server.url}/mirror/"))
    assert done.code == 0, done.err
    assert {request.target for request in server.requests} == {"/mirror/one%20file.bin"}


def test_a_magnet_link_names_web_seeds_and_a_peer_the_metadata(tmp_path: Path) -> None:
    with WebServer(served(FOLDER)) as server, MetadataPeer(FOLDER, have=set()) as peer:
        link = f"magnet:?xt=urn:btih:{FOLDER.info_hash.hex()}&ws={server.url}/"
        done = run(tmp_path, *get(link, peers=(peer.address,)))
    assert done.code == 0, done.err
    assert_arrived(FOLDER, tmp_path / "out")


def test_pad_files_are_zeros_that_nobody_asks_for(tmp_path: Path) -> None:
    made = padded()
    real = {path: data for path, data in made.contents().items() if "/.pad/" not in path}
    with WebServer({f"/{path}": data for path, data in real.items()}) as server:
        done = run(tmp_path, *get(made.save(tmp_path), "--web-seed", server.url))
    assert done.code == 0, done.err
    assert {path: (tmp_path / "out" / path).read_bytes() for path in real} == real
    assert {request.path for request in server.requests} == {f"/{path}" for path in real}


def test_peers_and_web_seeds_share_the_work(tmp_path: Path) -> None:
    made = make(40 * 65_536, name="shared.bin")
    gate = threading.Event()

    class Patient(ScriptedPeer):
        def on_request(self, link: Any, index: int, begin: int, length: int) -> None:
            gate.set()
            super().on_request(link, index, begin, length)

    def bend(request: Request) -> bool:
        gate.wait(60)
        return False

    with WebServer(served(made), bend) as server, Patient(made) as peer:
        done = run(tmp_path, *get(made.save(tmp_path), "--web-seed", f"{server.url}/", peers=(peer.address,)))
    assert done.code == 0, done.err
    assert_arrived(made, tmp_path / "out")
    complete = done.one("complete")
    assert complete["downloaded"] - complete["wasted"] == len(made.data)


def test_redirects_are_followed_once_and_remembered(tmp_path: Path) -> None:
    with WebServer(served(FOLDER)) as mirror:

        def bend(request: Request) -> bool:
            return request.reply(b"moved", "302 Found", f"Location: {mirror.url}{request.target}\r\n")

        with WebServer({}, bend) as front:
            done = run(tmp_path, *get(FOLDER.save(tmp_path), "--web-seed", front.url))
    assert done.code == 0, done.err
    assert_arrived(FOLDER, tmp_path / "out")
    assert len(front.requests) <= 4  # one a lane: where one file has gone, the others are looked for too
    fetched_once(mirror, FOLDER)


def test_a_redirect_to_the_old_name_of_one_file_is_not_taken_for_all(tmp_path: Path) -> None:
    files = served(FOLDER)
    name = "/a folder/a/b c.bin"
    files["/elsewhere"] = files.pop(name)

    def bend(request: Request) -> bool:
        return request.path == name and request.reply(b"", "301 Moved Permanently", "Location: /elsewhere\r\n")

    with WebServer(files, bend) as server:
        done = run(tmp_path, *get(FOLDER.save(tmp_path), "--web-seed", server.url))
    assert done.code == 0, done.err
    assert_arrived(FOLDER, tmp_path / "out")
    assert sum(request.path == name for request in server.requests) <= 2


def test_a_server_that_asks_for_patience_gets_it(tmp_path: Path) -> None:
    def bend(request: Request) -> bool:
        first = len(server.requests) == 1
        return first and request.reply(b"busy", "503 Service Unavailable", "Retry-After: 1\r\n")

    with WebServer(served(SINGLE), bend) as server:
        done = run(tmp_path, *get(SINGLE.save(tmp_path), "--web-seed", f"{server.url}/"))
    assert done.code == 0, done.err
    assert done.one("complete")["seconds"] >= 1


def test_a_server_that_closes_after_every_answer_is_asked_again(tmp_path: Path) -> None:
    def bend(request: Request) -> bool:
        server.answer(request)
        return request.close()

    with WebServer(served(FOLDER), bend) as server:
        done = run(tmp_path, *get(FOLDER.save(tmp_path), "--web-seed", server.url))
    assert done.code == 0, done.err
    assert_arrived(FOLDER, tmp_path / "out")


@pytest.mark.parametrize("files", [24 << 20, {"a": (9 << 20) + 5, "b": 15 << 20}], ids=["single", "several"])
def test_one_read_of_a_server_without_ranges_serves_pieces_that_are_larger_than_memory(
    files: int | dict[str, int], tmp_path: Path
) -> None:
    made = make(files, name="large", piece_length=8 << 20)

    def bend(request: Request) -> bool:
        return request.reply(request.content)

    with WebServer(served(made), bend) as server:
        done = run(tmp_path, *get(made.save(tmp_path), "--web-seed", f"{server.url}/", "--memory", "16MiB"))
    assert done.code == 0, done.err
    assert_arrived(made, tmp_path / "out")
    paths = [request.path for request in server.requests]
    assert sorted(paths) == sorted(f"/{path}" for path in made.files)
    assert done.one("complete")["wasted"] == 0


def test_a_server_without_ranges_sends_whole_files_and_they_are_used(tmp_path: Path) -> None:
    def bend(request: Request) -> bool:
        return request.path in server.files and request.reply(request.content)

    with WebServer({**served(SINGLE), **served(FOLDER)}, bend) as server:
        torrents = (SINGLE.save(tmp_path), FOLDER.save(tmp_path))
        done = run(tmp_path, *get(*torrents, "--web-seed", f"{server.url}/"))
    assert done.code == 0, done.err
    assert {path: (tmp_path / "out" / path).read_bytes() for path in SINGLE.files} == SINGLE.contents()
    assert {path: (tmp_path / "out" / path).read_bytes() for path in FOLDER.files} == FOLDER.contents()


@pytest.mark.parametrize("hybrid", [False, True], ids=["v2", "hybrid"])
def test_files_of_a_v2_torrent_come_whole_from_a_server_without_ranges(hybrid: bool, tmp_path: Path) -> None:
    made = make_v2({"a": 3_000_001, "b": 70_000, "c/d": 5, "e": 2_000_000}, name="many", hybrid=hybrid)

    def bend(request: Request) -> bool:
        return request.path in server.files and request.reply(request.content)

    with WebServer(served(made), bend) as server:
        done = run(tmp_path, *get(made.save(tmp_path), "--web-seed", f"{server.url}/"))
    assert done.code == 0, done.err
    assert_arrived(made, tmp_path / "out")


def test_chunked_answers_and_answers_that_end_with_the_connection_are_right_answers(tmp_path: Path) -> None:
    def bend(request: Request) -> bool:
        head = f"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {request.first}-{request.last}/{len(request.content)}\r\n"
        body = request.body
        if request.first is None:
            head = "HTTP/1.1 200 OK\r\n"
        if len(server.requests) % 2:
            request.send(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            for at in range(0, len(body), 50_001):
                request.send(b"%x;x=y\r\n%s\r\n" % (len(body[at : at + 50_001]), body[at : at + 50_001]))
            request.send(b"0\r\nTrailer: x\r\n\r\n")
            return True
        request.send(f"{head}Connection: close\r\n\r\n".encode() + body)
        return request.close()

    with WebServer(served(FOLDER), bend) as server:
        done = run(tmp_path, *get(FOLDER.save(tmp_path), "--web-seed", server.url))
    assert done.code == 0, done.err
    assert_arrived(FOLDER, tmp_path / "out")


def test_it_goes_on_where_an_earlier_run_ended(tmp_path: Path) -> None:
    torrent = SINGLE.save(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "one file.bin.part").write_bytes(SINGLE.data[: 20 * 65_536])
    with WebServer(served(SINGLE)) as server:
        done = run(tmp_path, *get(torrent, "--web-seed", f"{server.url}/"))
    assert done.code == 0, done.err
    assert_arrived(SINGLE, tmp_path / "out")
    assert server.bytes_sent == len(SINGLE.data) - 20 * 65_536


def test_a_cap_holds_for_web_seeds_as_well(tmp_path: Path) -> None:
    with WebServer(served(SINGLE)) as server:
        done = run(tmp_path, *get(SINGLE.save(tmp_path), "--web-seed", f"{server.url}/", "--max-down", "2M"))
    assert done.code == 0, done.err
    assert done.one("complete")["seconds"] > 0.9
