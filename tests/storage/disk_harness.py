"""A torrent's data on a real directory: orders to open it, payload in a real arena, and a way to see what is on disk."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from pathlib import Path

from btfast._arena import Arena, Slot
from btfast.metainfo.geometry import Geometry
from btfast.storage.layout import Layout
from btfast.storage.messages import OpenTorrent
from btfast.storage.writer import VerifiedPiece

PAGE = 4096


class Content:
    """Generated data of a torrent: `lengths` by path, `pads` the paths that are padding (zeros, never on disk)."""

    def __init__(self, lengths: Mapping[str, int], piece_length: int, pads: tuple[str, ...] = ()) -> None:
        rng = random.Random(repr((lengths, piece_length)))
        self.lengths = dict(lengths)
        self.piece_length = piece_length
        self.pads = [number for number, path in enumerate(lengths) if path in pads]
        self.files = {path: bytes(n) if path in pads else rng.randbytes(n) for path, n in lengths.items()}
        self.data = b"".join(self.files.values())
        self.geometry = Geometry(piece_length, list(self.lengths.values()))
        self.count = self.geometry.piece_count

    def piece(self, index: int) -> bytes:
        return self.data[index * self.piece_length : (index + 1) * self.piece_length]

    def hashes(self, first: int = 0, count: int | None = None) -> bytes:
        last = self.count if count is None else first + count
        return b"".join(hashlib.sha1(self.piece(index)).digest() for index in range(first, last))

    def order(self, directory: Path, *, io: str = "auto", in_place: bool = False, number: int = 0) -> OpenTorrent:
        return OpenTorrent(
            torrent=number,
            directory=str(directory),
            paths=list(self.lengths),
            lengths=list(self.lengths.values()),
            pads=self.pads,
            piece_length=self.piece_length,
            in_place=in_place,
            io=io,
        )

    def layout(self, directory: Path, *, io: str = "auto", in_place: bool = False) -> Layout:
        directory.mkdir(exist_ok=True)
        return Layout(self.order(directory, io=io, in_place=in_place))

    def put_on_disk(self, directory: Path, suffix: str = "") -> None:
        """Writes every file whole, under its name plus `suffix`."""
        for number, (path, content) in enumerate(self.files.items()):
            if number not in self.pads:
                (directory / path).parent.mkdir(parents=True, exist_ok=True)
                (directory / f"{path}{suffix}").write_bytes(content)

    def slot(self, arena: Arena, index: int, *, misaligned: bool = False) -> Slot:
        """The piece in the arena, congruent with the largest file part in it as the engine places it."""
        lead = at = largest = 0
        for _, offset, length in self.geometry.piece_spans(index):
            if length > largest:
                largest, lead = length, (offset - at) % PAGE
            at += length
        slot = arena.allocate(self.geometry.piece_size(index), (lead + 13) % PAGE if misaligned else lead)
        assert slot is not None
        slot.write(0, self.piece(index))
        return slot


def verified(index: int, slot: Slot) -> VerifiedPiece:
    return VerifiedPiece(index, slot.offset, memoryview(slot))


def on_disk(directory: Path, suffix: str = ".part") -> dict[str, bytes]:
    """What lies under the names that end in `suffix`, by name without it."""
    paths = [path for path in directory.rglob("*") if path.is_file()]
    assert all(path.name.endswith(suffix) for path in paths), paths
    return {str(path.relative_to(directory)).removesuffix(suffix): path.read_bytes() for path in paths}
