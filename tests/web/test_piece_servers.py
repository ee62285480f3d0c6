"""Web seeds that serve pieces (BEP 17): asked by info-hash and number, with ranges inside of a piece, patient on 503."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from support.commands import get, run
from support.torrents import Made, assert_arrived, make
from support.web_server import Bend, Request, WebServer
from test_web_seeds import with_keys

MADE = make({"a": 100_000, "b": 0, "c": 333_333}, name="by piece")


def pieces_of(made: Made, bend: Bend | None = None) -> Bend:
    def answer(request: Request) -> bool:
        if bend is not None and bend(request):
            return True
        query = parse_qs(urlsplit(request.target).query, encoding="latin-1")
        if query["info_hash"][0].encode("latin-1") != made.info_hash:
            return request.reply(b"unknown", "404 Not Found")
        index = int(query["piece"][0])
        piece = made.data[index * made.piece_length : (index + 1) * made.piece_length]
        if "ranges" in query:
            first, _, last = query["ranges"][0].partition("-")
            piece = piece[int(first) : int(last) + 1]
        return request.reply(piece)

    return answer


def test_a_torrent_arrives_from_a_server_of_pieces_alone(tmp_path: Path) -> None:
    with WebServer({}, pieces_of(MADE)) as server:
        torrent = with_keys(MADE, httpseeds=[f"{server.url}/seed.php"]).save(tmp_path)
        done = run(tmp_path, *get(torrent))
    assert done.code == 0, done.err
    assert_arrived(MADE, tmp_path / "out")
    assert len(server.requests) == MADE.pieces
    assert done.one("complete")["limited_by"] == "web seeds"


def test_its_503_says_in_its_body_how_long_to_wait(tmp_path: Path) -> None:
    def busy(request: Request) -> bool:
        return len(server.requests) == 1 and request.reply(b"1", "503 Service Temporarily Unavailable")

    with WebServer({}, pieces_of(MADE, busy)) as server:
        done = run(tmp_path, *get(with_keys(MADE, httpseeds=[f"{server.url}/seed"]).save(tmp_path)))
    assert done.code == 0, done.err
    assert done.one("complete")["seconds"] >= 1


def test_what_is_no_piece_is_not_taken_for_one(tmp_path: Path) -> None:
    def page(request: Request) -> bool:
        return request.reply(b"<h1>Welcome</h1>", headers="Content-Type: text/html\r\n")

    with WebServer({}, page) as server:
        torrent = with_keys(MADE, httpseeds=[f"{server.url}/seed"]).save(tmp_path)
        done = run(tmp_path, *get(torrent, "--peer-timeout", "4"))
    assert "web page instead of a piece" in done.error(3)


def test_pieces_half_there_are_asked_for_in_part(tmp_path: Path) -> None:
    made = make(10 * 262_144, name="large pieces", piece_length=262_144)
    cut = 100_000

    def breaks_off(request: Request) -> bool:
        if len(server.requests) != 1:
            return False
        request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 262144\r\n\r\n" + made.data[:cut])
        return request.close()

    with WebServer({}, pieces_of(made, breaks_off)) as server:
        done = run(tmp_path, *get(with_keys(made, httpseeds=[server.url]).save(tmp_path)))
    assert done.code == 0, done.err
    assert any("&ranges=98304-262143" in request.target for request in server.requests)
