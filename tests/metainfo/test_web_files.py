"""The URLs of a torrent's files at web seeds: BEP 19's and BEP 17's rules, with the names that the torrent gives."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btfast._bencode import encode
from btfast.metainfo.torrent import Torrent
from btfast.metainfo.web_files import WebFiles, piece_url


def torrent(name: bytes = b"some name", files: list[list[bytes]] | None = None) -> Torrent:
    info: dict[bytes, object] = {b"name": name, b"piece length": 16384, b"pieces": bytes(20)}
    if files is None:
        info[b"length"] = 1
    else:
        info[b"files"] = [{b"length": 1, b"path": path} for path in files]
    return Torrent.parse(encode({b"info": info}))


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("http://h/x/file.iso", "http://h/x/file.iso"),
        ("http://h/x/", "http://h/x/some%20name"),
        ("http://h/get?f=1", "http://h/get?f=1"),
    ],
)
def test_the_url_of_a_single_file_is_it_or_ends_in_a_slash(base: str, expected: str) -> None:
    assert WebFiles(torrent()).url(base, 0) == expected


def test_files_lie_below_the_name_of_the_torrent() -> None:
    files = WebFiles(torrent(files=[[b"a b", "é.txt".encode()], [b"100%#?@&+;", b"x"], [b"CON"]]))
    assert files.url("http://h/base", 0) == "http://h/base/some%20name/a%20b/%C3%A9.txt"
    assert files.url("http://h/base/", 1) == "http://h/base/some%20name/100%25%23%3F%40%26%2B%3B/x"
    assert files.url("http://h/", 2) == "http://h/some%20name/CON"  # not what it is called on disk


def test_those_of_a_v2_torrent_have_their_own_names_too() -> None:
    leaf = {b"": {b"length": 1, b"pieces root": bytes(31) + b"r"}}
    tree = {b"A": leaf, b"a": leaf, b"aux.c": leaf, b"d": {b"x\\y": leaf}}
    info = {b"file tree": tree, b"meta version": 2, b"name": b"n", b"piece length": 16384}
    made = Torrent.parse(encode({b"info": info, b"piece layers": {}})).where_case_is_ignored()
    files = WebFiles(made)
    assert [files.url("http://h/", file) for file in range(4)] == [
        "http://h/n/A", "http://h/n/a", "http://h/n/aux.c", "http://h/n/d/x%5Cy",
    ]  # fmt: skip


def test_nothing_in_a_path_leads_up() -> None:
    assert WebFiles(torrent(files=[[b"..", b".", b"", b"x"]])).url("http://h/a/", 0) == "http://h/a/some%20name/x"


@pytest.mark.parametrize("twin", [[5], [], [b"x", 5], b"x", {}, 7])
def test_a_path_that_is_none_counts_for_nothing_beside_a_good_one(twin: object) -> None:
    entry = {b"length": 1, b"path": [b"good"], b"path.utf-8": twin}
    info = {b"name": b"n", b"piece length": 16384, b"pieces": bytes(20), b"files": [entry]}
    made = Torrent.parse(encode({b"info": info}))
    assert WebFiles(made).url("http://h/", 0) == "http://h/n/good"


@given(st.lists(st.binary(min_size=1, max_size=12), min_size=1, max_size=4))
def test_any_name_comes_back_from_its_url(path: list[bytes]) -> None:
    url = WebFiles(torrent(name=b"n", files=[path])).url("http://h", 0)
    assert url.isascii()
    parts = urlsplit(url)
    assert not parts.query
    assert not parts.fragment
    kept = [element for element in path if element not in (b".", b"..")]
    assert [unquote_to_bytes(element) for element in parts.path.split("/")[2:]] == (kept or [b""])


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("http://h/seed", "http://h/seed?info_hash=%00%FFa&piece=7"),
        ("http://h/seed?key=1", "http://h/seed?key=1&info_hash=%00%FFa&piece=7"),
        ("http://h/seed?", "http://h/seed?info_hash=%00%FFa&piece=7"),
    ],
)
def test_a_piece_is_asked_for_by_hash_and_number(base: str, expected: str) -> None:
    assert piece_url(base, b"\0\xffa", 7, 0, 100, 100) == expected
    assert piece_url(base, b"\0\xffa", 7, 16, 32, 100) == f"{expected}&ranges=16-47"
