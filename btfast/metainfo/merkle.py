"""Merkle trees of files (BEP 52): layers, roots, proofs. Pure values; hashes of one layer are one `bytes`, 32 bytes each.

A tree's leaves (level 0) are the SHA-256 of a file's 16 KiB blocks, the last as short as it is; missing leaves up to the
next power of two are 32 zero bytes. Level n + 1 hashes pairs of level n; the root is at level `height`. A layer is held
without its padding: what lacks at its end is pad_hash(level), whatever the width of the tree.

    leaf_hashes(data)                              level 0 of the bytes of a file, or of whole leaves of it
    height_of(length), layer_count(length, level)  levels above the leaves; hashes of a level without padding
    piece_level(piece_length)                      the level whose hashes stand for pieces: the piece layer
    pad_hash(level)                                the root of 2**level missing leaves
    layer_above(hashes, level), raised(hashes, level, to)     one level up; from `level` to level `to`
    piece_layer(leaves, piece_length)              the piece layer from all leaves of a file longer than a piece
    root_of(hashes, level, length)                 the root from any one whole layer of a file of `length` bytes
    piece_root(leaves, piece_length, length)       what a piece of such a file hashes to, from the piece's own leaves
    fold(hashes, level, index, uncles)             the hash that a run of hashes and its uncles lead up to
    Tree(hashes, level, length)                    all layers from `level` up: run(), uncles(), root
    Tree.below(hashes, level, height)              the same of the part of a tree below one of its hashes

Nothing here checks where hashes come from: compare the root.
"""

from __future__ import annotations

from typing import Final, Self

from btfast._hashing import hash_spans

LEAF: Final = 16384  # bytes of a file that a leaf stands for
HASH: Final = 32  # bytes of a SHA-256 digest
MAX_HEIGHT: Final = 49  # of a file of 2**63 - 1 bytes


def _pads() -> tuple[bytes, ...]:
    found = [bytes(HASH)]
    while len(found) <= MAX_HEIGHT:
        found.append(hash_spans("sha256", found[-1] * 2, 2 * HASH))
    return tuple(found)


_PADS = _pads()


def pad_hash(level: int) -> bytes:
    """The root of 2**level missing leaves: what stands where a layer ends before the tree does."""
    return _PADS[level]


def leaf_hashes(data: bytes | bytearray | memoryview) -> bytes:
    """Level 0 of `data`, which begins on a leaf's boundary; the last leaf may be short."""
    return hash_spans("sha256", data, LEAF)


def height_of(length: int) -> int:
    """The root's level in the tree of a file of `length` bytes, at least 1."""
    return (-(-length // LEAF) - 1).bit_length()


def layer_count(length: int, level: int) -> int:
    """Hashes of a level that stand for bytes of a file of `length` bytes: without padding."""
    return -(-length // (LEAF << level))


def piece_level(piece_length: int) -> int:
    """The level of the piece layer; `piece_length` is a power of two, at least LEAF."""
    return (piece_length // LEAF).bit_length() - 1


def layer_above(hashes: bytes, level: int) -> bytes:
    """The layer above `hashes`, which begin at a left child of `level` and end where the file or a pair does."""
    if len(hashes) % (2 * HASH):
        hashes += _PADS[level]
    return hash_spans("sha256", hashes, 2 * HASH)


def raised(hashes: bytes, level: int, to: int) -> bytes:
    """The hashes of level `to` above `hashes` of `level`, which begin below a hash of `to` and end as layers do."""
    for below in range(level, to):
        hashes = layer_above(hashes, below)
    return hashes


def piece_layer(leaves: bytes, piece_length: int) -> bytes:
    """The piece layer of a file from all of its leaves; of a file of one piece or less use root_of."""
    return raised(leaves, 0, piece_level(piece_length))


def root_of(hashes: bytes, level: int, length: int) -> bytes:
    """The root of a file of `length` bytes from its whole layer at `level`, which is not above the root.

    Raises ValueError for another number of hashes than that layer has.
    """
    count = layer_count(length, level)
    if len(hashes) != count * HASH:
        raise ValueError(f"{len(hashes)} bytes of hashes where level {level} has {count} hashes")
    return raised(hashes, level, height_of(length))


def piece_root(leaves: bytes, piece_length: int, length: int) -> bytes:
    """What one piece of a file of `length` bytes is compared with, from the leaves of that piece alone.

    It is the piece's place in the piece layer, or the file's root where the file is one piece or less.
    """
    return raised(leaves, 0, min(piece_level(piece_length), height_of(length)))


def fold(hashes: bytes, level: int, index: int, uncles: bytes) -> bytes:
    """The ancestor of a run of hashes: from a power of two of them, the first at `index` of `level`, and its uncles.

    The ancestor is at level + log2(count) + number of uncles. Raises ValueError when the run is no power of two long, or
    not aligned to its length.
    """
    count = len(hashes) // HASH
    if len(hashes) % HASH or len(uncles) % HASH or count & (count - 1) or not count or index % count:
        raise ValueError(f"{len(hashes)} bytes of hashes at {index}")
    steps = count.bit_length() - 1
    found = raised(hashes, level, level + steps)
    index >>= steps
    for start in range(0, len(uncles), HASH):
        uncle = uncles[start : start + HASH]
        found = hash_spans("sha256", uncle + found if index & 1 else found + uncle, 2 * HASH)
        index >>= 1
    return found


class Tree:
    """All layers of a file from `level` up to the root, padding left out: about twice the bytes of the given layer.

    Raises ValueError for another number of hashes than that layer has.
    """

    __slots__ = ("_layers", "height", "level")

    def __init__(self, hashes: bytes, level: int, length: int) -> None:
        count = layer_count(length, level)
        if len(hashes) != count * HASH:
            raise ValueError(f"{len(hashes)} bytes of hashes where level {level} has {count} hashes")
        self._grow(hashes, level, height_of(length))

    @classmethod
    def below(cls, hashes: bytes, level: int, height: int) -> Self:
        """The part of a tree below one hash of level `height`: its root is that hash."""
        tree = cls.__new__(cls)
        tree._grow(hashes, level, height)
        return tree

    def _grow(self, hashes: bytes, level: int, height: int) -> None:
        self.level = level
        self.height = height
        self._layers = [hashes]
        for below in range(level, height):
            self._layers.append(layer_above(self._layers[-1], below))

    @property
    def root(self) -> bytes:
        """Of the whole."""
        return self._layers[-1]

    def run(self, level: int, index: int, count: int) -> bytes:
        """`count` hashes of a level from place `index` on, with padding where the layer has ended."""
        found = self._layers[level - self.level][index * HASH : (index + count) * HASH]
        return found + _PADS[level] * (count - len(found) // HASH)

    def uncles(self, level: int, index: int, count: int) -> bytes:
        """What `fold` needs to lead `count` hashes, a power of two, at `index` of `level` up to the root, lowest first."""
        level += count.bit_length() - 1
        index //= count
        found = []
        while level < self.height:
            found.append(self.run(level, index ^ 1, 1))
            level += 1
            index >>= 1
        return b"".join(found)
