"""Torrents of generated data: the .torrent, the bytes that peers serve, and whether they arrived."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from btfast._bencode import encode

PIECE = 65536


class Made(NamedTuple):
    """A v1 torrent. `data` is the stream of all its files; `files` maps paths below the directory to lengths."""

    name: str
    torrent: bytes
    info_hash: bytes
    data: bytes
    piece_length: int
    files: dict[str, int]

    @property
    def pieces(self) -> int:
        return -(-len(self.data) // self.piece_length)

    def save(self, folder: Path, name: str = "") -> Path:
        """Writes the .torrent into `folder`."""
        path = folder / f"{name or self.name}.torrent"
        path.write_bytes(self.torrent)
        return path

    def contents(self) -> dict[str, bytes]:
        """The bytes of each file."""
        found, at = {}, 0
        for path, length in self.files.items():
            found[path] = self.data[at : at + length]
            at += length
        return found

    def lay_out(self, folder: Path) -> None:
        """Writes all files below `folder`, complete."""
        for name, content in self.contents().items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)

    def block(self, index: int, begin: int, length: int) -> bytes:
        start = index * self.piece_length + begin
        return self.data[start : start + length]


def make(
    files: int | Mapping[str, int] = 1 << 20,
    *,
    name: str = "data.bin",
    piece_length: int = PIECE,
    seed: int = 0,
    announce: Sequence[Sequence[str]] = (),
    private: bool = False,
    info_bytes: int = 0,
    nodes: Sequence[tuple[str, int]] = (),
) -> Made:
    """A single-file torrent of that many bytes, or a directory `name` of files by path and length.

    The bytes are pseudo-random and the same each time. `announce` holds tiers of tracker URLs. `info_bytes`: how much
    longer the info dict is to be than it needs to. `nodes`: DHT nodes.
    """
    lengths = {name: files} if isinstance(files, int) else {f"{name}/{path}": n for path, n in files.items()}
    data = random.Random(f"{name} {seed}").randbytes(sum(lengths.values()))
    hashes = [hashlib.sha1(data[at : at + piece_length]).digest() for at in range(0, len(data), piece_length)]
    info: dict[str, object] = {"name": name, "piece length": piece_length, "pieces": b"".join(hashes)}
    if info_bytes:
        info["x_filler"] = random.Random(seed).randbytes(info_bytes)
    if private:
        info["private"] = 1
    if isinstance(files, int):
        info["length"] = files
    else:
        info["files"] = [{"length": n, "path": path.split("/")} for path, n in files.items()]
    trackers: dict[str, object] = {"announce-list": [list(tier) for tier in announce]} if announce else {}
    if nodes:
        trackers["nodes"] = [list(node) for node in nodes]
    info_hash = hashlib.sha1(encode(info)).digest()
    return Made(name, encode({"info": info, **trackers}), info_hash, data, piece_length, lengths)


def some_written(made: Made, path: Path) -> bool:
    """Whether a piece of the torrent, which is one file, is on disk."""
    found, length = path.read_bytes() if path.exists() else b"", made.piece_length
    return any(found[at : at + length] == made.data[at : at + length] for at in range(0, len(found), length))


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` with its bytes; a link shows as where it leads to."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = b"-> " + str(path.readlink()).encode()
        elif path.is_file():
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def assert_arrived(made: Made, folder: Path) -> None:
    """Everything is there byte by byte, under its final name, and nothing else is."""
    found, expected = tree(folder), made.contents()
    assert sorted(found) == sorted(expected)
    wrong = [name for name in expected if found[name] != expected[name]]
    assert wrong == []
