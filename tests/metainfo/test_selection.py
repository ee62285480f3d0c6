"""What is wanted of a torrent: files, levels, and what follows for its pieces."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btfast._bencode import encode
from btfast.errors import InputError
from btfast.metainfo.selection import (
    END,
    FIRST,
    HIGH,
    LOW,
    NORMAL,
    SKIP,
    Selection,
    Wanted,
    parse_priority,
    parse_ranges,
)
from btfast.metainfo.torrent import Torrent

PIECE = 100


def torrent(*lengths: int, pads: tuple[int, ...] = ()) -> Torrent:
    files: list[dict[str, Any]] = [{"length": length, "path": [f"{n}.bin"]} for n, length in enumerate(lengths)]
    for n in pads:
        files[n]["attr"] = "p"
    info = {"name": "t", "piece length": PIECE, "files": files, "pieces": bytes(20 * -(-sum(lengths) // PIECE))}
    return Torrent.parse(encode({"info": info}))


def chosen(source: Torrent, **wanted: Any) -> Selection:
    return Selection(source, Wanted.of(**wanted))


def test_without_a_choice_all_is_wanted_alike() -> None:
    for selection in (Selection(torrent(150, 0, 50)), chosen(torrent(150, 0, 50))):
        assert not selection.partial
        assert selection.piece_levels is None
        assert (selection.total, selection.files) == (200, [0, 1, 2])
        assert [selection.piece_bytes(index) for index in range(2)] == [100, 100]


def test_a_piece_is_wanted_for_any_of_its_files_and_counts_the_bytes_of_those() -> None:
    selection = chosen(torrent(150, 100, 30, 170), files="1")
    assert selection.piece_levels == bytes([SKIP, NORMAL, NORMAL, SKIP, SKIP])
    assert [selection.piece_bytes(index) for index in range(5)] == [0, 50, 50, 0, 0]
    assert (selection.total, selection.partial, selection.files) == (100, True, [1])


def test_files_between_that_are_not_wanted_are_not_counted() -> None:
    selection = chosen(torrent(20, 20, 20, 20, 70), files="0,2,4")
    assert selection.piece_levels == bytes([NORMAL, NORMAL])
    assert [selection.piece_bytes(index) for index in range(2)] == [60, 50]


def test_pad_files_are_wanted_only_where_all_is() -> None:
    source = torrent(50, 150, 100, pads=(1,))
    assert Selection(source).total == 300
    part = chosen(source, files="0-1")
    assert (part.files, part.total) == ([0], 50)
    assert part.piece_levels == bytes([NORMAL, SKIP, SKIP])
    whole = chosen(source, files="0,2", priorities={"2.bin": "high"})
    assert not whole.partial
    assert whole.piece_levels == bytes([NORMAL, LOW, HIGH])


def test_a_shared_piece_is_as_urgent_as_the_most_urgent_file() -> None:
    selection = chosen(torrent(150, 100, 150), priorities=[("*", "low"), ("1.bin", "high")])
    assert selection.piece_levels == bytes([LOW, HIGH, HIGH, LOW])


def test_the_last_priority_that_names_a_file_counts_and_none_makes_it_wanted() -> None:
    selection = chosen(torrent(100, 100, 100), files="0-1", priorities=[("*", "high"), ("0.bin", "normal")])
    assert selection.levels == bytes([NORMAL, HIGH, SKIP])


def test_first_and_last_pieces_come_before_all_others() -> None:
    selection = chosen(torrent(350, 50, 100, 0), exclude="1.bin", priorities={"2.bin": "high"}, first_last=True)
    assert selection.piece_levels == bytes([FIRST, NORMAL, NORMAL, FIRST, FIRST])


def test_exclude_goes_before_select() -> None:
    assert chosen(torrent(1, 1, 1, 1), files=[0], select=["[23].bin"], exclude="3*").files == [0, 2]


def test_a_range_may_end_behind_the_last_file() -> None:
    assert chosen(torrent(1, 1, 1), files="1-99").files == [1, 2]
    assert chosen(torrent(1, 1, 1), files="1-").files == [1, 2]
    assert chosen(torrent(1, 1, 1), files=["0", 2]).files == [0, 2]
    with pytest.raises(InputError, match="has no file 3: its files are 0 to 2"):
        chosen(torrent(1, 1, 1), files="3-99")


@pytest.mark.parametrize("wanted", [{"select": "*.iso"}, {"exclude": "*"}, {"files": "1"}])
def test_nothing_wanted_is_an_error(wanted: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="no file is wanted"):
        chosen(torrent(50, 50, pads=(1,)), **wanted)


def test_ranges() -> None:
    assert parse_ranges("0, 3-7,12-") == [(0, 0), (3, 7), (12, END)]
    for text in ("", "a", "1,", "-1", "2-1", "1-2-3", "9999999999"):
        with pytest.raises(InputError, match="not an index or a range"):
            parse_ranges(text)


def test_priorities_are_written_with_the_last_equals_sign() -> None:
    assert parse_priority("a=b=high") == ("a=b", "high")
    for text in ("high", "=high"):
        with pytest.raises(InputError, match="not understood"):
            parse_priority(text)
    with pytest.raises(InputError, match="no such priority"):
        Wanted.of(priorities={"*": "skip"})
    with pytest.raises(InputError, match="not indices"):
        Wanted.of(files=[-1])


@given(
    lengths=st.lists(st.integers(0, 250), min_size=1, max_size=12).filter(any),
    levels=st.lists(st.sampled_from(["skip", "low", "normal", "high"]), min_size=12, max_size=12),
    first_last=st.booleans(),
)
def test_pieces_follow_from_files(lengths: list[int], levels: list[str], first_last: bool) -> None:
    source = torrent(*lengths)
    named = {f"{n}.bin": level for n, level in enumerate(levels[: len(lengths)])}
    if "skip" in named.values() and len(set(named.values())) == 1:
        return
    selection = chosen(
        source,
        exclude=[name for name, level in named.items() if level == "skip"],
        priorities={name: level for name, level in named.items() if level != "skip"},
        first_last=first_last,
    )
    rank = {"skip": SKIP, "low": LOW, "normal": NORMAL, "high": HIGH}
    for index in range(source.piece_count):
        spans = source.geometry.piece_spans(index)
        level = max(rank[levels[file]] for file, _, _ in spans)
        assert selection.piece_bytes(index) == sum(length for file, _, length in spans if levels[file] != "skip")
        if selection.piece_levels is not None and selection.piece_levels[index] != FIRST:
            assert selection.piece_levels[index] == level
    assert selection.total == sum(n for n, level in zip(lengths, levels, strict=False) if level != "skip")
    assert sum(map(selection.piece_bytes, range(source.piece_count))) == selection.total


def test_files_that_are_left_out_besides_are_wanted_as_little_as_the_others() -> None:
    source = torrent(150, 50, 100)
    left = Selection(source, without=[1])
    assert left.files == [0, 2]
    assert (left.partial, left.total, left.piece_levels) == (True, 250, chosen(source, files="0,2").piece_levels)
    assert Selection(source, Wanted.of(files="0-1"), [0]).files == [1]
