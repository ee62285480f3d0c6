"""Merkle roots of pieces, many side by side, against hashlib and the definition."""

from __future__ import annotations

import hashlib
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.v2_torrents import leaves, root

from btfast._hashing import hash_trees, kernels

LEAF = 16384
DATA = random.Random(5).randbytes(1 << 20)
KERNELS = [None, *(kernel for kernel in kernels("sha256") if kernel != "openssl")]

each_kernel = pytest.mark.parametrize("kernel", KERNELS)


def width_of(length: int) -> int:
    return 1 << (-(-length // LEAF) - 1).bit_length()


def expected(buffer: bytes | memoryview, length: int, width: int) -> bytes:
    return root(leaves(bytes(buffer[:length])), width)


@each_kernel
@pytest.mark.parametrize("length", [1, 100, LEAF - 1, LEAF, LEAF + 1, 2 * LEAF, 3 * LEAF, 5 * LEAF + 7, 31 * LEAF, 1 << 20])
def test_one_piece_of_any_length(kernel, length):
    for width in (width_of(length), 4 * width_of(length)):
        wanted = expected(DATA, length, width)
        assert hash_trees([DATA[:length]], [(length, width)], kernel=kernel) == [wanted]
        whole = hash_trees([DATA[:length]], [(length, width)], sha1=True, kernel=kernel)
        assert whole == [hashlib.sha1(DATA[:length]).digest() + wanted]


@each_kernel
@pytest.mark.parametrize("count", [2, 3, 7, 16, 17, 40])
def test_pieces_of_different_shapes_at_once(kernel, count):
    rng = random.Random(count)
    buffers, shapes = [], []
    for _ in range(count):
        length = rng.choice([1, LEAF, rng.randrange(1, 300_000)])
        whole = length + rng.choice([0, 0, rng.randrange(40_000)])
        start = rng.randrange(len(DATA) - whole)
        buffers.append(memoryview(DATA)[start : start + whole])
        shapes.append((length, width_of(length) << rng.randrange(3)))
    roots = [expected(buffer, *shape) for buffer, shape in zip(buffers, shapes, strict=True)]
    assert hash_trees(buffers, shapes, kernel=kernel) == roots
    sums = [hashlib.sha1(buffer).digest() for buffer in buffers]
    both = [sha1 + tree for sha1, tree in zip(sums, roots, strict=True)]
    assert hash_trees(buffers, shapes, sha1=True, kernel=kernel) == both


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 70_000), st.integers(0, 20_000)), max_size=8))
def test_any_shapes(shapes):
    buffers = [DATA[:length] + bytes(pad) for length, pad in shapes]
    wanted = [(length, width_of(length)) for length, _ in shapes]
    assert hash_trees(buffers, wanted, sha1=True) == [
        hashlib.sha1(buffer).digest() + expected(buffer, *shape) for buffer, shape in zip(buffers, wanted, strict=True)
    ]


@pytest.mark.parametrize(
    ("buffers", "shapes"),
    [
        ([b"x"], []),
        ([b"x"], [(1, 1), (1, 1)]),
        ([b"x"], [(0, 1)]),
        ([b""], [(0, 1)]),
        ([b"x"], [(2, 1)]),
        ([b"x"], [(1, 0)]),
        ([b"x"], [(1, 3)]),
        ([bytes(LEAF + 1)], [(LEAF + 1, 1)]),
        ([bytes(5 * LEAF)], [(5 * LEAF, 4)]),
    ],
)
def test_shapes_that_do_not_fit_are_refused(buffers, shapes):
    with pytest.raises(ValueError, match=r"shape|bytes of a buffer|leaves for"):
        hash_trees(buffers, shapes)


def test_what_is_no_shape_or_no_bytes_is_refused():
    for buffers, shapes in (([b"x"], [1]), ([b"x"], [(1,)]), (["x"], [(1, 1)]), ([b"x"], [("1", 1)])):
        with pytest.raises((TypeError, ValueError)):
            hash_trees(buffers, shapes)
    with pytest.raises(OverflowError):
        hash_trees([b"x"], [(-1, 1)])
    with pytest.raises(ValueError, match="openssl"):
        hash_trees([b"x"], [(1, 1)], kernel="openssl")


def test_nothing_gives_nothing():
    assert hash_trees([], []) == []
    assert hash_trees([], [], sha1=True) == []


def test_a_very_wide_tree_over_one_leaf():
    assert hash_trees([b"x"], [(1, 1 << 20)]) == [root_by_pads(hashlib.sha256(b"x").digest(), 20)]


def root_by_pads(hashed, levels):
    pad = bytes(32)
    for _ in range(levels):
        hashed, pad = hashlib.sha256(hashed + pad).digest(), hashlib.sha256(pad + pad).digest()
    return hashed


def test_threads_do_not_disturb_each_other():
    pieces = [(DATA[at : at + 65536], (65536, 4)) for at in range(0, 1 << 20, 65536)]
    wanted = [expected(data, *shape) for data, shape in pieces]
    with ThreadPoolExecutor(8) as pool:
        runs = [pool.submit(hash_trees, [d for d, _ in pieces], [s for _, s in pieces]) for _ in range(100)]
        assert all(run.result() == wanted for run in runs)
