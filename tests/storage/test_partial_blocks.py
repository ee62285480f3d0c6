"""Blocks of pieces that are not whole, read back: only those whose bytes have their sums."""

from __future__ import annotations

from pathlib import Path

import pytest
import xxhash
from disk_harness import Content

from btfast._arena import Arena
from btfast.metainfo.geometry import BLOCK
from btfast.storage.messages import PartialPiece
from btfast.storage.partial import blocks_of, mask_bytes, read_blocks

CONTENT = Content({"t/a": 5 * BLOCK + 100, "t/pad": BLOCK - 100, "t/b": 4 * BLOCK + 7}, 4 * BLOCK, pads=("t/pad",))


def partial(index: int, blocks: list[int]) -> PartialPiece:
    piece = CONTENT.piece(index)
    sums = [xxhash.xxh3_64_digest(piece[BLOCK * block : BLOCK * (block + 1)]) for block in blocks]
    return PartialPiece(index, mask_bytes(sum(1 << block for block in blocks)), b"".join(sums))


@pytest.mark.parametrize("index", [0, 1, 2])
def test_they_land_in_their_places(tmp_path: Path, index: int) -> None:
    CONTENT.put_on_disk(tmp_path, ".part")
    arena = Arena.create(1 << 20)
    slot = arena.allocate(CONTENT.geometry.piece_size(index))
    assert slot is not None
    blocks = [block for block in (0, 2, 3) if block < CONTENT.geometry.block_count(index)]
    wanted = sum(1 << block for block in blocks)
    assert read_blocks(CONTENT.layout(tmp_path), partial(index, blocks), arena, slot.offset) == wanted
    for block in blocks:
        part = slice(BLOCK * block, BLOCK * (block + 1))
        assert bytes(memoryview(slot)[part]) == CONTENT.piece(index)[part]


def test_those_that_changed_are_left_out(tmp_path: Path) -> None:
    CONTENT.put_on_disk(tmp_path, ".part")
    with (tmp_path / "t" / "a.part").open("r+b") as file:
        file.seek(BLOCK + 5)
        file.write(b"wrong")
    assert read_blocks(CONTENT.layout(tmp_path), partial(0, [0, 1, 2]), Arena.create(1 << 20), -1) == 0b101


def test_files_that_are_gone_or_short_have_none(tmp_path: Path) -> None:
    CONTENT.put_on_disk(tmp_path, ".part")
    (tmp_path / "t" / "b.part").unlink()
    (tmp_path / "t" / "a.part").write_bytes(CONTENT.files["t/a"][: BLOCK + 9])
    arena, layout = Arena.create(1 << 20), CONTENT.layout(tmp_path)
    assert read_blocks(layout, partial(0, [0, 1, 2]), arena, -1) == 0b001
    assert read_blocks(layout, partial(2, [0, 1]), arena, -1) == 0


@pytest.mark.parametrize(
    "claim",
    [
        PartialPiece(-1, b"\x01", bytes(8)),
        PartialPiece(99, b"\x01", bytes(8)),
        PartialPiece(0, b"", b""),
        PartialPiece(0, b"\xff" * 1000, bytes(80)),
        PartialPiece(0, b"\x0f", b"short"),
        PartialPiece(2, bytes(100) + b"\x01", bytes(8)),
    ],
)
def test_claims_that_make_no_sense_lead_nowhere(tmp_path: Path, claim: PartialPiece) -> None:
    CONTENT.put_on_disk(tmp_path, ".part")
    assert read_blocks(CONTENT.layout(tmp_path), claim, Arena.create(1 << 16), 0) == 0


def test_masks_are_bytes_and_back() -> None:
    assert list(blocks_of(PartialPiece(0, mask_bytes(0b1001), b"a" * 8 + b"b" * 8))) == [(0, b"a" * 8), (3, b"b" * 8)]
    assert mask_bytes(0) == b""
