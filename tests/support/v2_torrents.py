"""Torrents of generated data in BitTorrent v2, and hybrids (BEP 52): made from the definitions, slowly, with hashlib."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from typing import Any

from support.torrents import PIECE, Made

from btfast._bencode import encode

LEAF = 16384


def leaves(data: bytes) -> list[bytes]:
    """SHA-256 of each block."""
    return [hashlib.sha256(data[at : at + LEAF]).digest() for at in range(0, len(data), LEAF)]


def root(hashes: list[bytes], width: int) -> bytes:
    """Over `hashes` and as many zeros as make them `width`, a power of two."""
    hashes = hashes + [bytes(32)] * (width - len(hashes))
    while len(hashes) > 1:
        hashes = [hashlib.sha256(hashes[n] + hashes[n + 1]).digest() for n in range(0, len(hashes), 2)]
    return hashes[0]


def file_root(data: bytes) -> bytes:
    """The pieces root of a file."""
    hashes = leaves(data)
    return root(hashes, 1 << (len(hashes) - 1).bit_length())


def piece_layer(data: bytes, piece_length: int) -> bytes:
    """The piece layer of a file longer than a piece."""
    some = piece_length // LEAF
    hashes = leaves(data)
    return b"".join(root(hashes[at : at + some], some) for at in range(0, len(hashes), some))


def beyond_its_end(*, hybrid: bool = False) -> tuple[Made, bytes]:
    """A file of three pieces whose root was made over a fourth hash, which stands for nothing, and those four hashes."""
    length = 3 * PIECE - 5
    layer = piece_layer(make_v2(length).data, PIECE) + b"?" * 32
    top = root([layer[at : at + 32] for at in range(0, len(layer), 32)], 4)
    tree = {"data.bin": {"": {"length": length, "pieces root": top}}}
    return make_v2(length, hybrid=hybrid, layers=False, change={"file tree": tree}), layer


def make_v2(
    files: int | Mapping[str, int] = 1 << 20,
    *,
    name: str = "data.bin",
    piece_length: int = PIECE,
    hybrid: bool = False,
    seed: int = 0,
    announce: Sequence[Sequence[str]] = (),
    layers: bool = True,
    change: Mapping[str, object] | None = None,
) -> Made:
    """As torrents.make; `layers`: with piece layers; `change`: keys of the info dict that are to be something else.

    `data` is that of the files alone, in the order of the tree, `info_hash` the v1 hash of a hybrid, else the first 20
    bytes of the v2 hash.
    """
    lengths = {name: files} if isinstance(files, int) else dict(sorted(files.items(), key=lambda item: item[0].split("/")))
    data = random.Random(f"{name} {seed}").randbytes(sum(lengths.values()))
    tree: dict[str, Any] = {}
    found: dict[bytes, bytes] = {}
    listed: list[dict[str, object]] = []
    stream = bytearray()
    at = 0
    for path, length in lengths.items():
        content = data[at : at + length]
        at += length
        node = tree
        *parents, last = path.split("/")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = {"": {"length": length, "pieces root": file_root(content)} if length else {"length": 0}}
        if length > piece_length:
            found[file_root(content)] = piece_layer(content, piece_length)
        if length and len(stream) % piece_length:
            pad = -len(stream) % piece_length
            listed.append({"attr": "p", "length": pad, "path": [".pad", str(pad)]})
            stream += bytes(pad)
        listed.append({"length": length, "path": path.split("/")})
        stream += content
    info: dict[str, object] = {"file tree": tree, "meta version": 2, "name": name, "piece length": piece_length}
    if hybrid:
        pieces = [stream[begin : begin + piece_length] for begin in range(0, len(stream), piece_length)]
        info["pieces"] = b"".join(hashlib.sha1(piece).digest() for piece in pieces)
        info |= {"length": files} if isinstance(files, int) else {"files": listed}
    info |= change or {}
    top: dict[str, object] = {"info": info}
    if announce:
        top["announce-list"] = [list(tier) for tier in announce]
    if layers:
        top["piece layers"] = found
    raw = encode(info)
    info_hash = hashlib.sha1(raw).digest() if hybrid else hashlib.sha256(raw).digest()[:20]
    below = lengths if isinstance(files, int) else {f"{name}/{path}": length for path, length in lengths.items()}
    return Made(name, encode(top), info_hash, data, piece_length, below)
