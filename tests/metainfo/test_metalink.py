"""Metalink 4 as a value: what is taken of it, and that no XML does harm."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btfast.errors import InputError
from btfast.metainfo.metalink import Metalink
from btfast.metainfo.piece_hashes import UNPROVED
from btfast.metainfo.torrent import Torrent

SPACE = 'xmlns="urn:ietf:params:xml:ns:metalink"'
BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE m [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    b'<metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="&b;"/></metalink>'
)
DIGEST = hashlib.sha1(b"x").hexdigest()


def one(inside: str, name: str = "f") -> bytes:
    return f'<metalink {SPACE}><file name="{name}">{inside}</file></metalink>'.encode()


def test_mirrors_come_best_first_and_what_is_no_web_address_not_at_all() -> None:
    found = Metalink.parse(
        one(
            '<url priority="9">http://c/</url><url>https://last/a b</url><url priority="1"> http://a/ </url>'
            '<url priority="2">ftp://b/</url><url priority="x">http://d/</url>'
            '<metaurl mediatype="torrent" priority="2">http://t2</metaurl><metaurl mediatype="torrent">http://t3</metaurl>'
            '<metaurl mediatype="application/x">http://no</metaurl>'
        ),
        what="m",
    )
    assert found.urls == ("http://a/", "http://c/", "https://last/a%20b", "http://d/")
    assert found.torrents == ("http://t2", "http://t3")
    assert found.torrent is None


def test_a_torrent_is_made_of_the_hashes_of_pieces() -> None:
    pieces = f'<pieces type="sha-256" length="9"><hash>{"0" * 64}</hash></pieces>'
    pieces += f'<pieces type="sha-1" length="100"><hash>{DIGEST}</hash><hash>{DIGEST.upper()}</hash></pieces>'
    found = Metalink.parse(one(f"<size>150</size>{pieces}", name="a/b/file.iso"), what="m")
    assert found.torrent is not None
    torrent = Torrent.parse(found.torrent)
    assert (torrent.name, torrent.total_length, torrent.piece_length, torrent.private) == ("file.iso", 150, 100, True)
    assert torrent.pieces == bytes.fromhex(DIGEST) * 2


@pytest.mark.parametrize("kinds", [("sha-1", "sha-256"), ("sha-256", "sha-1", "sha-512"), ("sha-1", "sha-1")])
def test_hashes_of_another_kind_are_not_taken_for_more_of_the_first(kinds: tuple[str, ...]) -> None:
    digests = {"sha-1": DIGEST, "sha-256": "0" * 64, "sha-512": "0" * 128}
    pieces = "".join(
        f'<pieces type="{kind}" length="100">{f"<hash>{digests[kind]}</hash>" * 2}</pieces>' for kind in kinds
    )
    found = Metalink.parse(one(f"<size>150</size>{pieces}"), what="m")
    assert found.torrent is not None
    assert Torrent.parse(found.torrent).pieces == bytes.fromhex(DIGEST) * 2


def test_a_name_that_would_lead_elsewhere_does_not() -> None:
    for name in ("../../etc/passwd", "/etc/passwd", "..", "a\\passwd"):
        found = Metalink.parse(one(f'<size>1</size><hash type="sha-1">{DIGEST}</hash>', name=name), what="m")
        assert found.torrent is not None
        assert Torrent.parse(found.torrent).name not in ("..", "")
        assert "/" not in Torrent.parse(found.torrent).name


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (BOMB, "document type"),
        (b'<?xml version="1.0"?><metalink', "not well-formed"),
        (b'<?xml version="1.0"?><rss/>', "no Metalink 4"),
        (f"<metalink {SPACE}></metalink>".encode(), "describes 0 files"),
        (f'<metalink {SPACE}><file name="a"/><file name="b"/></metalink>'.encode(), "describes 2 files: name one as"),
        (f"<metalink {SPACE}>".encode() + b"<x>" * 100, "too large"),
        (one("<url>" + "x" * 70_000 + "</url>"), "too large"),
        (b"", "not well-formed"),
    ],
)
def test_what_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(InputError, match=why):
        Metalink.parse(data, what="m")


@pytest.mark.parametrize(
    "inside",
    [
        "", "<size>0</size>", "<size>-1</size>", "<size>99999999999999999999999</size>", "<size>5</size>",
        f'<size>5</size><pieces type="sha-1" length="0"><hash>{DIGEST}</hash></pieces>',
        f'<size>5</size><pieces type="sha-1" length="2"><hash>{DIGEST}</hash></pieces>',
        '<size>5</size><hash type="sha-1">abc</hash>',
        f'<size>5</size><hash type="md5">{"0" * 32}</hash>', f'<hash type="sha-256">{"0" * 64}</hash>',
    ],
)  # fmt: skip
def test_hashes_that_do_not_do_make_no_torrent(inside: str) -> None:
    found = Metalink.parse(one(inside), what="m")
    assert found.torrent is None
    assert found.why


@pytest.mark.parametrize(
    ("size", "kind", "length"),
    [(5, "sha-256", 1 << 20), (1 << 40, "sha-1", 1 << 20), ((1 << 40) + 1, "sha-1", 1 << 21), (3 << 20, "sha-384", 1 << 20)],
)
def test_of_the_hash_of_a_whole_file_a_torrent_is_made_that_says_nothing_of_pieces(size: int, kind: str, length: int) -> None:
    def made(digit: str) -> Metalink:
        digest = DIGEST if kind == "sha-1" else digit * (int(kind[4:]) // 4)
        return Metalink.parse(one(f'<size>{size}</size><hash type="{kind}">{digest}</hash>'), what="m")

    found = made("0")
    assert found.torrent is not None
    assert not found.proves_pieces
    torrent = Torrent.parse(found.torrent).without_hashes()
    assert (torrent.total_length, torrent.piece_length, torrent.private) == (size, length, True)
    assert not torrent.proves_pieces
    assert {torrent.piece_hash(index) for index in (0, torrent.piece_count - 1)} == {UNPROVED}
    assert (made("0").torrent == made("1").torrent) is (kind == "sha-1")


def test_the_size_that_a_mirror_says_counts_only_where_the_document_says_none() -> None:
    digest = f'<hash type="sha-256">{"0" * 64}</hash>'
    assert not Metalink.parse(one(digest), what="m").sized
    for inside, size in ((digest, 7), (f"<size>5</size>{digest}", 5)):
        found = Metalink.parse(one(inside), what="m", size=7)
        assert found.torrent is not None
        assert Torrent.parse(found.torrent).total_length == size


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for text in (data, f"<metalink {SPACE}>".encode() + data):
        try:
            Metalink.parse(text, what="m")
        except InputError as error:
            assert error.args[0].startswith("m: ")  # noqa: PT017


def test_of_several_files_one_is_chosen_and_goes_where_it_belongs() -> None:
    whole = f'<size>1</size><hash type="sha-1">{DIGEST}</hash><hash type="sha-256">{"a" * 64}</hash><hash type="sha-512">x</hash>'
    files = "".join(f'<file name="{name}">{whole}</file>' for name in ("a", "x/../y/b", "/z/c", "a"))
    data = f"<metalink {SPACE}>{files}</metalink>".encode()
    assert Metalink.names(data, what="m") == ["a", "x/../y/b", "/z/c"]
    found = [Metalink.parse(data, what="m", chosen=name) for name in ("a", "x/../y/b", "/z/c")]
    assert [each.folder for each in found] == [(), ("x", "y"), ("z",)]
    assert found[0].hashes == (("sha-1", bytes.fromhex(DIGEST)), ("sha-256", b"\xaa" * 32))
    assert [Torrent.parse(each.torrent).name for each in found if each.torrent] == ["a", "b", "c"]
    with pytest.raises(InputError, match="no file 'd'"):
        Metalink.parse(data, what="m", chosen="d")
