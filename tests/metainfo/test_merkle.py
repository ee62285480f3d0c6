"""Merkle trees (BEP 52) against a plain recursive reading of the BEP, published pad hashes, and libtorrent."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import libtorrent
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btfast.metainfo import merkle
from btfast.metainfo.merkle import HASH, LEAF, Tree

# Roots of 2**n zero leaves, n from 0: the first ones and the last that other implementations publish.
PADS = {
    0: "0000000000000000000000000000000000000000000000000000000000000000",
    1: "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b",
    2: "db56114e00fdd4c1f85c892bf35ac9a89289aaecb1ebd0a96cde606a748b5d71",
    3: "c78009fdf07fc56a11f122370658a353aaa542ed63e44c4bc15ff4cd105ab33c",
    10: "ffff0ad7e659772f9534c195c815efc4014ef1e1daed4404c06385d11192e92b",
    20: "cddba7b592e3133393c16194fac7431abf2f5485ed711db282183c819e08ebaa",
}


def pair(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(left + right).digest()


def plain_layers(leaves: list[bytes], width: int) -> list[list[bytes]]:
    """Every level with its padding, by the book: zero leaves up to `width`, then pairs."""
    layer = leaves + [bytes(32)] * (width - len(leaves))
    layers = [layer]
    while len(layer) > 1:
        layer = [pair(layer[i], layer[i + 1]) for i in range(0, len(layer), 2)]
        layers.append(layer)
    return layers


def made_up(leaf_count: int, seed: int = 0) -> tuple[list[bytes], int]:
    """Leaf hashes, and the length of a file that has as many leaves."""
    rng = random.Random(seed * 1000 + leaf_count)
    return [rng.randbytes(32) for _ in range(leaf_count)], (leaf_count - 1) * LEAF + rng.randrange(1, LEAF + 1)


def test_pad_hashes_are_the_published_ones():
    assert {level: merkle.pad_hash(level).hex() for level in PADS} == PADS


def test_levels_of_the_largest_file_have_pad_hashes():
    assert merkle.height_of(2**63 - 1) == merkle.MAX_HEIGHT
    assert len(merkle.pad_hash(merkle.MAX_HEIGHT)) == 32


@pytest.mark.parametrize(
    ("length", "height", "leaves"),
    [(1, 0, 1), (LEAF, 0, 1), (LEAF + 1, 1, 2), (2 * LEAF, 1, 2), (2 * LEAF + 1, 2, 3), (4 * LEAF + 1, 3, 5),
     (10**12, 26, 61035157)],
)  # fmt: skip
def test_height_and_leaves_follow_from_the_length(length, height, leaves):
    assert (merkle.height_of(length), merkle.layer_count(length, 0)) == (height, leaves)
    assert merkle.layer_count(length, height) == 1


def test_piece_lengths_have_their_level():
    assert [merkle.piece_level(LEAF << level) for level in range(20)] == list(range(20))


@pytest.mark.parametrize("leaf_count", [1, 2, 3, 4, 5, 7, 8, 9, 31, 33, 64, 100])
def test_layers_and_roots_equal_the_plain_reading_for_every_piece_length(leaf_count):
    leaves, length = made_up(leaf_count)
    height = merkle.height_of(length)
    layers = plain_layers(leaves, 1 << height)
    joined = b"".join(leaves)
    assert merkle.root_of(joined, 0, length) == layers[-1][0]
    for level in range(height + 1):
        piece_length = LEAF << level
        count = merkle.layer_count(length, level)
        layer = merkle.piece_layer(joined, piece_length)
        assert layer == b"".join(layers[level][:count])
        assert merkle.root_of(layer, level, length) == layers[-1][0]
        assert set(layers[level][count:]) <= {merkle.pad_hash(level)}
        for index in range(count):
            mine = joined[index * HASH << level : (index + 1) * HASH << level]
            assert merkle.piece_root(mine, piece_length, length) == layers[level][index]


def test_a_file_below_one_piece_is_a_tree_of_its_own_width():
    leaves, length = made_up(3)
    expected = pair(pair(leaves[0], leaves[1]), pair(leaves[2], bytes(32)))
    assert merkle.piece_root(b"".join(leaves), 1 << 20, length) == expected
    assert merkle.root_of(b"".join(leaves), 0, length) == expected


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 130), st.integers(0, 3), st.data())
def test_any_run_with_its_uncles_leads_to_the_root_and_no_changed_byte_does(leaf_count, level, data):
    leaves, length = made_up(leaf_count)
    height = merkle.height_of(length)
    level = min(level, height)
    layers = plain_layers(leaves, 1 << height)
    tree = Tree(merkle.raised(b"".join(leaves), 0, level), level, length)
    assert tree.root == layers[-1][0]
    base = data.draw(st.integers(level, height))
    steps = data.draw(st.integers(0, height - base))
    index = data.draw(st.integers(0, (1 << (height - base - steps)) - 1)) << steps
    run = tree.run(base, index, 1 << steps)
    assert run == b"".join(layers[base][index : index + (1 << steps)])
    uncles = tree.uncles(base, index, 1 << steps)
    assert len(uncles) == HASH * (height - base - steps)
    assert merkle.fold(run, base, index, uncles) == tree.root
    if steps and base + steps < height:
        part_of_it = Tree.below(run, base, base + steps)
        assert part_of_it.root == tree.run(base + steps, index >> steps, 1)
        assert part_of_it.run(base, 1, 1) == run[HASH : 2 * HASH]
    part = data.draw(st.integers(0, len(uncles) // HASH))
    reached = base + steps + part
    assert merkle.fold(run, base, index, uncles[: part * HASH]) == layers[reached][index >> (steps + part)]
    changed = bytearray(run + uncles)
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert merkle.fold(bytes(changed[: len(run)]), base, index, bytes(changed[len(run) :])) != tree.root


@pytest.mark.parametrize(("hashes", "index", "uncles"), [(0, 0, 0), (3, 0, 0), (2, 1, 0), (4, 2, 1)])
def test_runs_that_cannot_be_folded_are_refused(hashes, index, uncles):
    with pytest.raises(ValueError, match="bytes of hashes at"):
        merkle.fold(bytes(hashes * HASH), 0, index, bytes(uncles * HASH))


@pytest.mark.parametrize(("hashes", "uncles"), [(31, 0), (64, 33)])
def test_hashes_cut_short_are_refused(hashes, uncles):
    with pytest.raises(ValueError, match="bytes of hashes at"):
        merkle.fold(bytes(hashes), 0, 0, bytes(uncles))


@pytest.mark.parametrize("wrong", [0, 4 * HASH, 6 * HASH, 5 * HASH - 1])
def test_a_layer_of_another_length_has_no_root_and_no_tree(wrong):
    with pytest.raises(ValueError, match="where level 0 has 5"):
        merkle.root_of(bytes(wrong), 0, 5 * LEAF)
    with pytest.raises(ValueError, match="where level 0 has 5"):
        Tree(bytes(wrong), 0, 5 * LEAF)


@pytest.mark.parametrize("length", [1, LEAF, LEAF + 1, 65536, 65537, 300_000, 1_000_000])
def test_piece_layers_and_roots_equal_those_that_libtorrent_makes(tmp_path: Path, length: int):
    content = random.Random(length).randbytes(length)
    (tmp_path / "file.bin").write_bytes(content)
    files = libtorrent.list_files(str(tmp_path / "file.bin"))
    maker = libtorrent.create_torrent(files, 65536, libtorrent.create_torrent.v2_only)
    libtorrent.set_piece_hashes(maker, str(tmp_path))
    made = maker.generate()
    root = made[b"info"][b"file tree"][b"file.bin"][b""][b"pieces root"]
    leaves = merkle.leaf_hashes(content)
    assert merkle.root_of(leaves, 0, length) == root
    if length > 65536:
        layer = merkle.piece_layer(leaves, 65536)
        assert made[b"piece layers"] == {root: layer}
        assert merkle.root_of(layer, 2, length) == root
    else:
        assert made.get(b"piece layers", {}) == {}
        assert merkle.piece_root(leaves, 65536, length) == root
