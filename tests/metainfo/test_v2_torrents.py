"""Torrents of v2 alone and hybrids as values (BEP 52): hashes, files, layers, what verifies each piece."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btfast._bencode import decode, encode
from btfast.errors import InputError
from btfast.metainfo import merkle
from btfast.metainfo.files import File
from btfast.metainfo.geometry import Geometry
from btfast.metainfo.magnet import Magnet
from btfast.metainfo.piece_hashes import PieceHashes
from btfast.metainfo.torrent import Torrent

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
PIECE = 32768


def vector(stem: str) -> Torrent:
    return Torrent.load(VECTORS / f"{stem}.torrent")


def leaves(length: int) -> bytes:
    return merkle.leaf_hashes(b"x" * length)


def root(length: int) -> bytes:
    return merkle.root_of(leaves(length), 0, length)


def test_a_v2_torrent_has_one_hash_which_peers_see_the_beginning_of() -> None:
    torrent = vector("v2_single")
    whole = hashlib.sha256(torrent.info_raw).digest()
    assert (torrent.version, torrent.hybrid) == ("2", False)
    assert (torrent.info_hash_v1, torrent.info_hash_v2) == (None, whole)
    assert torrent.info_hash == whole[:20]
    assert torrent.swarm_hashes == (whole[:20],)
    assert torrent.pieces == b""
    assert torrent.single_file
    assert str(torrent.file_path(0)) == "plain.bin"


def test_a_v1_torrent_has_nothing_of_v2() -> None:
    torrent = vector("single")
    assert (torrent.version, torrent.info_hash_v1, torrent.info_hash_v2) == ("1", torrent.info_hash, None)
    assert torrent.swarm_hashes == (torrent.info_hash,)
    assert torrent.hashes.complete
    assert torrent.piece_hash(1) == torrent.pieces[20:]


def test_files_of_a_tree_begin_with_a_piece() -> None:
    torrent = vector("v2_multi")
    assert [(file.length, file.pieces_root) for file in torrent.files] == [
        (length, root(length) if length else None) for length in (32768, 0, 70_000, 1, 9, 40_000)
    ]
    assert torrent.total_length == 142_778
    assert [torrent.geometry.piece_size(index) for index in range(torrent.piece_count)] == [
        32768, 32768, 32768, 4464, 1, 9, 32768, 7232,
    ]  # fmt: skip
    assert torrent.files[4].executable
    assert not torrent.single_file


def test_the_magnet_of_a_v2_torrent_names_its_whole_hash_alone() -> None:
    torrent = vector("v2_single")
    assert torrent.info_hash_v2 is not None
    assert torrent.magnet().info_hash_v1 is None
    assert torrent.magnet().uri() == f"magnet:?xt=urn:btmh:1220{torrent.info_hash_v2.hex()}&dn=plain.bin"
    hybrid = Magnet(info_hash=bytes(20), info_hash_v2=bytes(range(32)))
    assert hybrid.uri() == f"magnet:?xt=urn:btih:{bytes(20).hex()}&xt=urn:btmh:1220{bytes(range(32)).hex()}"


def test_each_piece_is_verified_by_its_place_in_its_files_tree() -> None:
    torrent = vector("v2_multi")
    expected = [root(32768)]
    expected += [merkle.piece_root(leaves(70_000)[at : at + 64], PIECE, 70_000) for at in (0, 64, 128)]
    expected += [root(1), root(9)]
    expected += [merkle.piece_root(leaves(40_000)[at : at + 64], PIECE, 40_000) for at in (0, 64)]
    assert [torrent.piece_hash(index) for index in range(8)] == expected
    for outside in (-1, 8):
        with pytest.raises(IndexError):
            torrent.piece_hash(outside)


def test_pieces_of_a_hybrid_are_verified_by_both_halves() -> None:
    torrent = vector("hybrid_multi")
    v1 = torrent.pieces[:20]
    assert [torrent.piece_hash(index) for index in range(4)] == [
        v1 + merkle.piece_root(leaves(40_000)[:64], PIECE, 40_000),
        v1 + merkle.piece_root(leaves(40_000)[64:], PIECE, 40_000),
        v1 + root(32768),
        v1 + root(7),
    ]
    assert torrent.geometry.piece_size(1) == PIECE, "pads of the v1 half are on the wire"
    assert [file.pieces_root is None for file in torrent.files] == [False, True, True, False, False]


def test_layers_that_are_missing_may_be_learned() -> None:
    torrent = vector("v2_some_layers")
    layer = merkle.piece_layer(leaves(100_000), PIECE)
    assert torrent.hashes.missing == [root(100_000)]
    assert not torrent.hashes.complete
    assert [len(torrent.piece_hash(index)) for index in range(torrent.piece_count)] == [0, 0, 0, 0, 32, 32, 32]
    with pytest.raises(ValueError, match="does not lead"):
        torrent.hashes.add_layer(root(100_000), bytes(128))
    with pytest.raises(ValueError, match="127 bytes"):
        torrent.hashes.add_layer(root(100_000), layer[1:])
    with pytest.raises(ValueError, match="no file"):
        torrent.hashes.add_layer(root(5), layer)
    assert torrent.hashes.missing == [root(100_000)]
    torrent.hashes.add_layer(root(100_000), layer)
    assert torrent.hashes.complete
    assert torrent.piece_hash(3) == layer[96:]
    assert torrent.piece_layers[root(100_000)] == layer


def test_a_hybrid_without_layers_is_verified_by_its_v1_half() -> None:
    torrent = vector("hybrid")
    assert not torrent.hashes.complete
    assert torrent.piece_hash(0) == torrent.pieces[:20]


def test_a_torrent_is_written_with_the_layers_that_were_learned() -> None:
    torrent = vector("v2_no_layers")
    assert torrent.complete_raw() == torrent.raw
    for length in (100_000, 70_000):
        torrent.hashes.add_layer(root(length), merkle.piece_layer(leaves(length), PIECE))
    again = Torrent.parse(torrent.complete_raw())
    assert decode(again.raw) == decode(torrent.raw) | {b"piece layers": dict(torrent.piece_layers)}
    assert (again.info_raw, again.hashes.complete) == (torrent.info_raw, True)
    assert again.complete_raw() == again.raw


def test_metadata_from_peers_may_come_with_layers() -> None:
    whole = vector("v2_multi")
    bare = Torrent.from_metadata(whole.info_raw, trackers=("http://a/b",), web_seeds=("http://w/",))
    assert bare.hashes.missing == [root(70_000), root(40_000)]
    full = Torrent.from_metadata(whole.info_raw, trackers=("http://a/b",), layers=whole.piece_layers)
    assert full.hashes.complete
    assert decode(full.raw)[b"piece layers"] == dict(whole.piece_layers)
    assert (full.info_hash, bare.info_hash) == (whole.info_hash, whole.info_hash)


def test_one_layer_stands_for_all_files_of_its_root() -> None:
    torrent = vector("v2_same_file_twice")
    assert torrent.piece_hash(3) == torrent.piece_hash(7) != torrent.piece_hash(2)


def test_many_files_in_deep_directories_are_read_in_order() -> None:
    tree: dict[bytes, object] = {}
    node = tree
    for depth in range(50):
        node[b"d%d" % depth] = below = {}
        node[b"e%d" % depth] = {b"": {b"length": 1, b"pieces root": root(1)}}
        node = below
    node[b"f"] = {b"": {b"length": 1, b"pieces root": root(1)}}
    info = {b"file tree": tree, b"meta version": 2, b"name": b"deep", b"piece length": 16384}
    torrent = Torrent.parse(encode({b"info": info}))
    assert len(torrent.files) == 51
    assert [file.path[-1] for file in torrent.files] == ["f"] + [f"e{depth}" for depth in reversed(range(50))]


STEMS = ("v2_multi", "v2_single", "v2_symlinks", "hybrid_multi", "hybrid_utf8_twins")


def judged(data: bytes) -> None:
    """It is refused as input, or can be used in every way that the engine uses it."""
    try:
        torrent = Torrent.parse(data)
    except InputError as error:
        message = str(error)
    else:
        message = ""
    if message:
        assert "\n" not in message
        return
    assert len(torrent.info_hash) == 20
    for index in range(min(torrent.piece_count, 50)):
        assert len(torrent.piece_hash(index)) in (0, 20, 32, 52)
        spans = torrent.geometry.piece_spans(index)
        assert sum(span.length for span in spans) == torrent.geometry.piece_size(index) > 0
        if torrent.info_hash_v2 is not None:
            assert sum(not torrent.files[span.file].pad for span in spans) == 1
    assert Torrent.parse(torrent.complete_raw()).info_hash == torrent.info_hash


@settings(deadline=None, derandomize=True, max_examples=400)
@given(st.sampled_from(STEMS), st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=3)), min_size=1, max_size=4))
def test_damaged_bytes_are_refused_or_harmless(stem: str, damages: list[tuple[int, bytes]]) -> None:
    data = (VECTORS / f"{stem}.torrent").read_bytes()
    for at, new in damages:
        at %= len(data)
        data = data[:at] + new + data[at + len(new) :]
    judged(data)


leaf_values = st.sampled_from([0, 1, -1, 5, 2**63, b"", b"x", b"l", b"p", bytes(32), root(5), [], [b"a"], {}])
entries = st.dictionaries(
    st.sampled_from([b"length", b"pieces root", b"attr", b"symlink path", b""]), leaf_values, max_size=4
) | st.just({b"length": 5, b"pieces root": root(5)})
trees = st.recursive(
    st.fixed_dictionaries({b"": entries}) | leaf_values,
    lambda below: st.dictionaries(st.sampled_from([b"", b"a", b"B", b"..", b"a.part", b"con", b"\xff"]), below, max_size=4),
    max_leaves=8,
)


@settings(deadline=None, derandomize=True, max_examples=400)
@given(
    trees,
    st.sampled_from([2, 1, 3, b"2"]) | st.just(2),
    st.sampled_from([16384, 32768, 5, 0, 2**40]),
    st.none() | st.sampled_from([bytes(20), bytes(40), 5]),
    st.none() | leaf_values | st.dictionaries(st.sampled_from([root(5), b"x"]), leaf_values, max_size=2),
)
def test_trees_of_any_shape_are_refused_or_harmless(
    tree: object, version: object, piece_length: int, pieces: object, layers: object
) -> None:
    info = {b"file tree": tree, b"meta version": version, b"name": b"n", b"piece length": piece_length}
    if pieces is not None:
        info |= {b"pieces": pieces, b"files": [{b"length": 5, b"path": [b"a"]}]}
    judged(encode({b"info": info} | ({} if layers is None else {b"piece layers": layers})))


def test_needless_layers_of_many_small_files_cost_no_more_than_one_look_each() -> None:
    roots = [hashlib.sha256(b"%d" % number).digest() for number in range(20_000)]
    files = {b"%05d" % number: {b"": {b"length": 5, b"pieces root": each}} for number, each in enumerate(roots)}
    info = {b"file tree": files, b"meta version": 2, b"name": b"n", b"piece length": 16384}
    torrent = Torrent.parse(encode({b"info": info, b"piece layers": {each: each for each in roots}}))
    assert torrent.hashes.complete
    assert torrent.piece_hash(19_999) == roots[-1]


def test_hashes_of_a_file_of_whole_pieces() -> None:
    files = [File(path=("a",), length=2 * PIECE, pieces_root=root(2 * PIECE))]
    layer = merkle.piece_layer(leaves(2 * PIECE), PIECE)
    hashes = PieceHashes(Geometry(PIECE, [2 * PIECE], aligned=True), files, b"", {root(2 * PIECE): layer})
    assert hashes.digest(0) + hashes.digest(1) == layer
