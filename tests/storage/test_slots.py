"""Where shared pieces lie in a parts file, and what a worker makes of one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from disk_harness import Content
from hypothesis import given
from hypothesis import strategies as st

from btfast.metainfo.geometry import Geometry
from btfast.storage.files import Files
from btfast.storage.layout import Layout
from btfast.storage.messages import IN_PARTS, TO_RESTORE
from btfast.storage.parts import look_into_parts, remove_parts, restore_piece
from btfast.storage.slots import Slots

PIECE = 16384
# Pieces: 0 a, 1 a|b, 2 b|pad (b alone), 3 c
CONTENT = Content({"t/a": PIECE + 100, "t/b": PIECE, "t/.pad": PIECE - 100, "t/c": 50}, PIECE, pads=("t/.pad",))


@given(st.lists(st.integers(0, 25), min_size=1, max_size=20).filter(any), st.sets(st.integers(0, 19)))
def test_each_shared_piece_has_a_slot_of_its_own(lengths: list[int], pads: set[int]) -> None:
    geometry = Geometry(10, lengths)
    slots = Slots(geometry, pads)
    shared = [
        piece
        for piece in range(geometry.piece_count)
        if sum(file not in pads for file, _, _ in geometry.piece_spans(piece)) > 1
    ]
    assert list(slots) == shared
    assert [slots.offset(piece) for piece in shared] == [10 * place for place in range(len(shared))]
    for piece in range(geometry.piece_count):
        assert (piece in slots) == (piece in shared)
        if piece not in slots:
            with pytest.raises(KeyError):
                slots.offset(piece)


@pytest.fixture
def files() -> Iterator[Files]:
    table = Files(16)
    yield table
    table.close()


def layout(tmp_path: Path, levels: bytes) -> Layout:
    return Layout(msgspec.structs.replace(CONTENT.order(tmp_path), parts=".t.btfast-parts", levels=levels))


def hashes(*pieces: int) -> list[bytes]:
    return [hashlib.sha1(CONTENT.piece(piece)).digest() for piece in pieces]


def test_a_piece_in_the_parts_file_is_believed_by_its_hash_and_restored(tmp_path: Path, files: Files) -> None:
    chosen = layout(tmp_path, bytes([2, 0, 0, 0]))
    assert look_into_parts(chosen, [1], hashes(1)) == [None]  # there is no such file
    (tmp_path / ".t.btfast-parts").write_bytes(CONTENT.piece(1))
    assert look_into_parts(chosen, [0, 1, 3], hashes(0, 1, 3)) == [None, TO_RESTORE, None]
    assert restore_piece(files, chosen, 1, hashes(1)[0])
    assert (tmp_path / "t/a.part").read_bytes()[PIECE:] == CONTENT.files["t/a"][PIECE:]
    assert not (tmp_path / "t/b.part").exists()
    assert look_into_parts(chosen, [1], hashes(1)) == [IN_PARTS]
    with (tmp_path / "t/a.part").open("r+b") as file:
        file.seek(PIECE)
        file.write(b"\0")
    assert look_into_parts(chosen, [1], hashes(1)) == [TO_RESTORE]


@pytest.mark.parametrize("damage", [b"", b"\xff" * PIECE, b"\xff"])
def test_a_damaged_slot_is_not_believed(tmp_path: Path, files: Files, damage: bytes) -> None:
    chosen = layout(tmp_path, bytes([2, 0, 0, 0]))
    (tmp_path / ".t.btfast-parts").write_bytes(damage)
    assert look_into_parts(chosen, [1], hashes(1)) == [None]
    assert not restore_piece(files, chosen, 1, hashes(1)[0])


def test_only_pieces_with_bytes_of_others_are_kept(tmp_path: Path) -> None:
    chosen = layout(tmp_path, bytes([2, 0, 0, 2]))
    assert [chosen.keeps(piece) for piece in range(4)] == [False, True, True, False]
    assert not any(layout(tmp_path, b"").keeps(piece) for piece in range(4))


def test_removing_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    chosen = layout(tmp_path, b"")
    remove_parts(chosen)
    (tmp_path / ".t.btfast-parts").touch()
    remove_parts(chosen)
    assert os.listdir(tmp_path) == []
