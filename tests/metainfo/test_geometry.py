"""Geometry against a model that walks every byte."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btfast.errors import InputError
from btfast.metainfo.geometry import BLOCK, FileSpan, Geometry

calm = settings(deadline=None, derandomize=True, max_examples=200)
shapes = st.tuples(st.integers(1, 40), st.lists(st.integers(0, 30), max_size=12))


def owners(lengths: list[int]) -> list[tuple[int, int]]:
    """(file, offset in it) of each byte of the stream."""
    return [(number, offset) for number, length in enumerate(lengths) for offset in range(length)]


def walked(spans: list[FileSpan]) -> list[tuple[int, int]]:
    return [(span.file, span.offset + n) for span in spans for n in range(span.length)]


@calm
@given(shapes)
def test_pieces_and_files_agree_with_the_walk(shape: tuple[int, list[int]]) -> None:
    piece_length, lengths = shape
    geometry = Geometry(piece_length, lengths)
    stream = owners(lengths)
    pieces = [stream[at : at + piece_length] for at in range(0, len(stream), piece_length)]
    assert geometry.total_length == len(stream)
    assert geometry.piece_count == len(pieces)
    assert geometry.file_count == len(lengths)
    for index, piece in enumerate(pieces):
        assert geometry.piece_size(index) == len(piece)
        assert walked(geometry.piece_spans(index)) == piece
        files = geometry.piece_files(index)
        assert (files[0], files[-1]) == (piece[0][0], piece[-1][0])
    for number in range(len(lengths)):
        assert geometry.file_offset(number) == sum(lengths[:number])
        held = [index for index, piece in enumerate(pieces) if any(file == number for file, _ in piece)]
        assert list(geometry.file_pieces(number)) == held


@calm
@given(shapes)
def test_aligned_files_begin_with_a_piece_and_leave_gaps(shape: tuple[int, list[int]]) -> None:
    piece_length, lengths = shape
    geometry = Geometry(piece_length, lengths, aligned=True)
    pieces = [
        [(number, offset) for offset in range(begin, min(begin + piece_length, length))]
        for number, length in enumerate(lengths)
        for begin in range(0, length, piece_length)
    ]
    assert geometry.total_length == sum(lengths)
    assert geometry.piece_count == len(pieces)
    for index, piece in enumerate(pieces):
        assert geometry.piece_size(index) == len(piece)
        assert geometry.padded_size(index) == piece_length
        assert Geometry(piece_length, lengths).padded_size(0) == Geometry(piece_length, lengths).piece_size(0)
        assert geometry.block_count(index) == -(-len(piece) // BLOCK)
        assert walked(geometry.piece_spans(index)) == piece
        assert geometry.piece_files(index) == range(piece[0][0], piece[0][0] + 1)
        if len(piece) < piece_length:
            with pytest.raises(IndexError):
                geometry.spans(index * piece_length, len(piece) + 1)
            with pytest.raises(IndexError):
                geometry.spans(index * piece_length + len(piece), 1)
    for number in range(len(lengths)):
        held = [index for index, piece in enumerate(pieces) if piece[0][0] == number]
        assert list(geometry.file_pieces(number)) == held
        if held:
            assert geometry.file_offset(number) == held[0] * piece_length


@calm
@given(shapes, st.data())
def test_any_range_falls_into_the_right_spans(shape: tuple[int, list[int]], data: st.DataObject) -> None:
    piece_length, lengths = shape
    stream = owners(lengths)
    offset = data.draw(st.integers(0, len(stream)))
    length = data.draw(st.integers(0, len(stream) - offset))
    spans = Geometry(piece_length, lengths).spans(offset, length)
    assert walked(spans) == stream[offset : offset + length]
    assert all(span.length > 0 for span in spans)
    assert len({span.file for span in spans}) == len(spans)


@calm
@given(st.integers(1, 5 * BLOCK), st.integers(1, 12 * BLOCK))
def test_blocks_fill_each_piece_exactly(piece_length: int, total: int) -> None:
    geometry = Geometry(piece_length, [total])
    for index in range(geometry.piece_count) if geometry.piece_count < 50 else (0, geometry.piece_count - 1):
        sizes = [geometry.block_size(index, block) for block in range(geometry.block_count(index))]
        assert sum(sizes) == geometry.piece_size(index)
        assert all(size == BLOCK for size in sizes[:-1])
        assert 0 < sizes[-1] <= BLOCK
        with pytest.raises(IndexError):
            geometry.block_size(index, len(sizes))


def test_indices_outside_are_index_errors() -> None:
    geometry = Geometry(16, [20, 0, 12])
    for index in (-1, 2, 2**40):
        for call in (geometry.piece_size, geometry.block_count, geometry.piece_spans, geometry.piece_files):
            with pytest.raises(IndexError):
                call(index)
    for file in (-1, 3):
        for call in (geometry.file_offset, geometry.file_pieces):
            with pytest.raises(IndexError):
                call(file)
    for offset, length in ((-1, 1), (0, 33), (33, 0), (0, -1), (2**63, 2**63)):
        with pytest.raises(IndexError):
            geometry.spans(offset, length)
    with pytest.raises(IndexError):
        geometry.block_size(0, -1)


@pytest.mark.parametrize("lengths", [[], [0], [0, 0, 0]])
def test_a_stream_without_bytes_has_no_pieces(lengths: list[int]) -> None:
    geometry = Geometry(16, lengths)
    assert (geometry.total_length, geometry.piece_count) == (0, 0)
    assert geometry.spans(0, 0) == []
    for index in (-1, 0):
        with pytest.raises(IndexError):
            geometry.piece_size(index)


@pytest.mark.parametrize(
    ("piece_length", "lengths"), [(0, [1]), (-1, [1]), (16, [5, -1]), (16, [2**62, 2**62]), (16, [2**63]), (1, [2**70])]
)
def test_impossible_shapes_are_refused(piece_length: int, lengths: list[int]) -> None:
    with pytest.raises(InputError):
        Geometry(piece_length, lengths)


def test_the_largest_torrent_is_exact_to_the_byte() -> None:
    geometry = Geometry(16384, [2**63 - 2, 1])
    last = geometry.piece_count - 1
    assert geometry.piece_size(last) == 16383
    assert geometry.piece_spans(last) == [FileSpan(0, last * 16384, 16382), FileSpan(1, 0, 1)]


def test_a_range_among_very_many_empty_files_skips_them() -> None:
    geometry = Geometry(16, [8] + [0] * 100_000 + [8])
    assert geometry.piece_spans(0) == [FileSpan(0, 0, 8), FileSpan(100_001, 0, 8)]
    assert list(geometry.file_pieces(50_000)) == []
