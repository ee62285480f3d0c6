"""A .torrent as a value: each field, the hash over the raw bytes, and hostile files of every kind."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btfast._bencode import encode
from btfast.errors import InputError, SourceNotFoundError
from btfast.metainfo import torrent as torrent_module
from btfast.metainfo.torrent import Torrent

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
HASH = b"0123456789abcdefghij"

calm = settings(deadline=None, derandomize=True, max_examples=300)


def single(**changes: Any) -> dict[bytes, Any]:
    info = {b"name": b"x", b"length": 20000, b"piece length": 16384, b"pieces": HASH * 2}
    return info | {key.replace("_", " ").encode(): value for key, value in changes.items()}


def parsed(info: object, **top: Any) -> Torrent:
    return Torrent.parse(encode({"info": info} | {key.replace("_", " "): value for key, value in top.items()}))


def test_a_single_file_torrent() -> None:
    torrent = parsed(single(), announce="http://t/announce", comment="c", created_by="me", creation_date=1234567)
    assert torrent.name == "x"
    assert torrent.single_file
    assert [(file.path, file.length) for file in torrent.files] == [(("x",), 20000)]
    assert str(torrent.file_path(0)) == "x"
    assert (torrent.total_length, torrent.piece_count, torrent.piece_length) == (20000, 2, 16384)
    assert torrent.geometry.piece_size(1) == 3616
    assert torrent.piece_hash(0) == torrent.piece_hash(1) == HASH
    assert torrent.pieces == HASH * 2
    assert torrent.announce_list == (("http://t/announce",),)
    assert (torrent.comment, torrent.created_by, torrent.creation_date) == ("c", "me", 1234567)
    assert torrent.source is None
    assert not torrent.private
    assert not torrent.hybrid
    assert torrent.renamed == ()


def test_a_multi_file_torrent_puts_its_files_below_its_name() -> None:
    files = [{b"length": 5, b"path": [b"a", b"b.txt"]}, {b"length": 0, b"path": [b"empty"]}]
    torrent = parsed({b"name": b"dir", b"files": files, b"piece length": 4, b"pieces": HASH * 2})
    assert not torrent.single_file
    assert [str(torrent.file_path(i)) for i in range(2)] == ["dir/a/b.txt", "dir/empty"]
    assert list(torrent.geometry.file_pieces(0)) == [0, 1]


def test_indices_outside_are_index_errors() -> None:
    torrent = parsed(single())
    for index in (-1, 2):
        with pytest.raises(IndexError):
            torrent.piece_hash(index)
        with pytest.raises(IndexError):
            torrent.file_path(index)


def test_the_info_hash_is_over_the_raw_bytes_however_they_are_ordered() -> None:
    info = b"d6:pieces20:" + HASH + b"4:name1:x6:lengthi5e12:piece lengthi16384e3:zzzd1:b0:1:a0:ee"
    data = b"d1:zi1e4:info" + info + b"8:announce1:ue\n\n"
    torrent = Torrent.parse(data)
    assert torrent.info_raw == info
    assert torrent.raw == data
    assert torrent.info_hash == hashlib.sha1(info).digest()


def test_a_torrent_is_frozen() -> None:
    with pytest.raises(AttributeError):
        parsed(single()).name = "y"  # type: ignore[misc]


@pytest.mark.parametrize(("value", "private"), [(1, True), (0, False), (2, False), (b"1", False), ([1], False)])
def test_only_the_integer_one_makes_a_torrent_private(value: object, private: bool) -> None:
    assert parsed(single(private=value)).private is private


def test_source_and_attributes_of_a_single_file() -> None:
    torrent = parsed(single(source=b"site", attr=b"xx"))
    assert torrent.source == "site"
    assert torrent.files[0].attr == "x"
    assert torrent.files[0].executable
    assert not torrent.files[0].hidden


@pytest.mark.parametrize(
    ("top", "tiers"),
    [
        ({}, ()),
        ({"announce": "\t udp://t "}, (("udp://t",),)),
        (
            {"announce": "http://a", "announce-list": [["http://b", "http://c"], ["http://d"]]},
            (("http://b", "http://c"), ("http://d",)),
        ),
        ({"announce": "http://a", "announce-list": []}, (("http://a",),)),
        ({"announce": "http://a", "announce-list": [[]]}, (("http://a",),)),
        ({"announce": "http://a", "announce-list": [["", b"\xff", 5], 7]}, (("http://a",),)),
        ({"announce-list": ["http://b", ["http://b", "http://c"]]}, (("http://b",), ("http://c",))),
        ({"announce": "http://a\r\nX: y"}, ()),
        ({"announce": "h" * 5000}, ()),
        ({"announce": 5}, ()),
    ],
)
def test_trackers_come_in_tiers(top: dict[str, Any], tiers: tuple[tuple[str, ...], ...]) -> None:
    assert Torrent.parse(encode({"info": single()} | top)).announce_list == tiers


def test_the_number_of_trackers_is_bounded() -> None:
    torrent = Torrent.parse(encode({"info": single(), "announce-list": [[f"http://{n}"] for n in range(5000)]}))
    assert len(torrent.announce_list) == 1000


@pytest.mark.parametrize(
    ("value", "seeds"),
    [
        (b"http://w/f", ("http://w/f",)),
        ([b"http://w/f", b"HTTPS://v/a b", b"http://w/f"], ("http://w/f", "HTTPS://v/a%20b")),
        ([b"ftp://w/", b"", 5, [b"http://x/"]], ()),
        (7, ()),
    ],
)
def test_web_seeds_of_a_single_file_are_http_urls_each_once(value: object, seeds: tuple[str, ...]) -> None:
    torrent = Torrent.parse(encode({"info": single(), "url-list": value, "httpseeds": value}))
    assert torrent.url_list == torrent.httpseeds == seeds


def test_web_seeds_of_several_files_are_directories() -> None:
    files = [{b"length": 5, b"path": [b"a"]}, {b"length": 5, b"path": [b"b"]}]
    info = {b"name": b"dir", b"files": files, b"piece length": 16384, b"pieces": HASH}
    torrent = Torrent.parse(encode({"info": info, "url-list": ["http://w/d", "http://w/d/"]}))
    assert torrent.url_list == ("http://w/d/",)


def test_nodes_are_read_and_those_that_cannot_be_are_left_out() -> None:
    nodes = [["1.2.3.4", 5], ["::1", 6], ["router.example", 7], ["", 1], ["h", 0], ["h"], "h:1", [1, 2], [b"\xff/", 1]]
    assert parsed(single(), nodes=nodes).nodes == (("1.2.3.4", 5), ("::1", 6), ("router.example", 7))


def test_utf8_twins_win_unless_they_are_no_strings() -> None:
    data = {"info": single() | {b"name.utf-8": "ü".encode()}, "comment": "plain", "comment.utf-8": "better"}
    torrent = Torrent.parse(encode(data))
    assert (torrent.name, torrent.comment) == ("ü", "better")
    torrent = Torrent.parse(encode({"info": single() | {b"name.utf-8": 5}}))
    assert torrent.name == "x"


def test_pad_files_count_in_the_stream_but_have_no_place_on_disk() -> None:
    files = [
        {b"length": 10, b"path": [b"a"]},
        {b"length": 6, b"attr": b"p"},
        {b"length": 1, b"path": [b".pad", b"6"]},
        {b"length": 15, b"path": [b"_____padding_file_0_of another client____"]},
    ]
    torrent = parsed({b"name": b"dir", b"files": files, b"piece length": 16, b"pieces": HASH * 2})
    assert [file.pad for file in torrent.files] == [False, True, False, True]
    assert torrent.files[1].path == (".pad", "6")
    assert torrent.files[2].path == (".pad", "6")
    assert torrent.total_length == 32
    assert torrent.renamed == ()


def test_symlinks_have_no_bytes_and_point_below_the_torrent() -> None:
    files = [
        {b"length": 10, b"path": [b"a"]},
        {b"length": 10, b"attr": b"l", b"path": [b"l1"], b"symlink path": [b"a"]},
        {b"attr": b"xl", b"path": [b"l2"], b"symlink path": [b"..", b"/etc", b"passwd"]},
        {b"length": 3, b"attr": b"l", b"path": [b"no target"]},
    ]
    torrent = parsed({b"name": b"dir", b"files": files, b"piece length": 16, b"pieces": HASH})
    assert [(file.length, file.symlink) for file in torrent.files] == [
        (10, None),
        (0, ("a",)),
        (0, ("_", "etc", "passwd")),
        (3, None),
    ]


def test_changed_names_are_reported_as_they_were_and_as_they_are() -> None:
    files = [
        {b"length": 10, b"path": [b"ok"]},
        {b"length": 10, b"path": [b"OK"]},
        {b"length": 10, b"path": [b"\x1b[2J"]},
    ]
    torrent = parsed({b"name": b"../x", b"files": files, b"piece length": 64, b"pieces": HASH})
    assert torrent.renamed == (("../x", "..x"), ("\\x1b[2J", "_[2J"))
    assert torrent.where_case_is_ignored().renamed[2:] == (("OK", "OK.1"),)


def test_a_hybrid_is_its_v1_half_and_its_magnet_names_both_hashes() -> None:
    torrent = Torrent.load(VECTORS / "hybrid.torrent")
    assert torrent.hybrid
    assert torrent.version == "hybrid"
    assert torrent.swarm_hashes == (torrent.info_hash_v1, hashlib.sha256(torrent.info_raw).digest()[:20])
    assert torrent.piece_count == 2
    assert torrent.magnet().info_hash_v2 == hashlib.sha256(torrent.info_raw).digest()
    assert torrent.info_hash == hashlib.sha1(torrent.info_raw).digest()


def test_the_magnet_carries_what_finds_the_torrent() -> None:
    data = {"info": single(), "announce-list": [["http://a", "http://b"], ["udp://c"]], "url-list": "http://w/f"}
    torrent = Torrent.parse(encode(data))
    magnet = torrent.magnet()
    assert magnet.info_hash == torrent.info_hash
    assert magnet.info_hash_v2 is None
    assert (magnet.name, magnet.trackers, magnet.web_seeds) == (
        "x",
        ("http://a", "http://b", "udp://c"),
        ("http://w/f",),
    )


def test_a_missing_file_is_a_source_not_found(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match=r"no such file: check the path"):
        Torrent.load(tmp_path / "none.torrent")


def test_what_cannot_be_read_is_one_clear_line(tmp_path: Path) -> None:
    for path in (tmp_path, "a\0b"):
        with pytest.raises(InputError, match="cannot be read"):
            Torrent.load(path)
    locked = tmp_path / "locked.torrent"
    locked.write_bytes(b"de")
    locked.chmod(0)
    if os.geteuid() != 0:
        with pytest.raises(InputError, match="cannot be read: Permission denied"):
            Torrent.load(locked)


def test_a_file_beyond_the_size_limit_is_refused_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torrent_module, "MAX_TORRENT_BYTES", 1 << 20)
    path = tmp_path / "large.torrent"
    path.write_bytes(b"d" + b"0:le" * (1 << 19))
    with pytest.raises(InputError, match="larger than 1 MiB"):
        Torrent.load(path)


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "bad.torrent"
    path.write_bytes(encode({"info": single(piece_length=0)}))
    with pytest.raises(InputError) as caught:
        Torrent.load(path)
    assert str(caught.value).startswith(f"{path}: piece length")


def test_every_buffer_is_parsed_and_kept_as_bytes() -> None:
    data = encode({"info": single()})
    for kind in (bytearray, memoryview):
        assert Torrent.parse(kind(data)).raw == data


def test_a_torrent_of_thirty_thousand_files_loads_with_the_right_places() -> None:
    files = [{b"length": n % 5000, b"path": [b"dir%d" % (n // 100), b"%d.bin" % n]} for n in range(30_000)]
    total = sum(n % 5000 for n in range(30_000))
    torrent = parsed(
        {b"name": b"many", b"files": files, b"piece length": 1 << 20, b"pieces": HASH * -(-total // (1 << 20))}
    )
    assert len(torrent.files) == 30_000
    assert str(torrent.file_path(29_999)) == "many/dir299/29999.bin"
    assert torrent.total_length == total
    assert torrent.renamed == ()


@pytest.mark.parametrize("opening", [b"l", b"d1:a", b"d4:infol", b"d4:infod5:filesl", b"d4:infod5:filesld4:pathl"])
def test_bombs_of_openings_are_refused(opening: bytes) -> None:
    with pytest.raises(InputError):
        Torrent.parse(b"d4:info" + opening * 200_000)


def test_a_bomb_of_tiny_values_is_refused_by_its_number() -> None:
    with pytest.raises(InputError, match="too many values"):
        Torrent.parse(b"d4:infol" + b"le" * 2_600_000 + b"ee")


@calm
@given(st.sampled_from(sorted(path.name for path in VECTORS.glob("*.torrent"))), st.data())
def test_damaged_files_are_read_or_refused_with_one_line(name: str, data: st.DataObject) -> None:
    raw = bytearray((VECTORS / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw)))
        match data.draw(st.integers(0, 2)):
            case 0:
                del raw[at:]
            case 1:
                raw[at : at + 1] = data.draw(st.binary(max_size=3))
            case _:
                end = at + data.draw(st.integers(0, 9))
                raw[at:end] = data.draw(st.sampled_from([b"i-1e", b"0:", b"le", b"de", b"i0e"]))
    refusal = None
    try:
        torrent = Torrent.parse(bytes(raw))
    except InputError as error:
        refusal = str(error)
    if refusal is None:
        assert len(torrent.pieces) == 20 * torrent.piece_count
        assert hashlib.sha1(torrent.info_raw).digest() == torrent.info_hash
    else:
        assert "\n" not in refusal


file_keys = st.sampled_from([b"length", b"path", b"attr", b"symlink path", b"path.utf-8"])
values = st.recursive(
    st.integers(-(2**65), 2**65) | st.binary(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(file_keys, inner, max_size=4),
    max_leaves=10,
)
keys = st.sampled_from(
    [
        b"name",
        b"name.utf-8",
        b"files",
        b"length",
        b"piece length",
        b"pieces",
        b"private",
        b"attr",
        b"meta version",
        b"file tree",
    ]
)


@calm
@given(st.dictionaries(keys, values), values)
def test_any_value_in_any_place_is_read_or_refused(changes: dict[bytes, Any], top: object) -> None:
    fields = ("announce", "announce-list", "url-list", "httpseeds", "nodes", "comment", "created by", "creation date")
    data = encode({"info": single() | changes} | dict.fromkeys(fields, top))
    try:
        torrent = Torrent.parse(data)
    except InputError:
        return
    assert torrent.total_length == sum(file.length for file in torrent.files)
    assert all(torrent.file_path(i).parts for i in range(len(torrent.files)))
