"""Bencode: what is read, what is refused and where, and that writing is the inverse of reading."""

from __future__ import annotations

import gc
import json
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btfast._bencode import BencodeError, decode, decode_prefix, decode_with_info, encode, info_span

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "vectors"

calm = settings(deadline=None, derandomize=True, max_examples=300)

scalars = st.integers() | st.binary(max_size=40)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.binary(max_size=20), inner, max_size=6),
    max_leaves=40,
)
# Garbage that looks enough like bencode to get past the first byte.
almost = st.lists(
    st.sampled_from(
        [b"i", b"e", b"l", b"d", b"-", b"0", b"1", b"2", b":", b"4:info", b"1:a", b"1:b", b"i1e", b"le", b"\xff"]
    ),
    max_size=24,
).map(b"".join)


def reference(data: bytes) -> Any:
    """Reads strict bencode the plain way; raises ValueError."""

    def number(at: int, end: int) -> int:
        text = data[at:end]
        digits = text.removeprefix(b"-")
        if not digits.isdigit() or (digits[0] == 48 and (len(digits) > 1 or text != digits)):
            raise ValueError("number")
        return int(text)

    def string(at: int) -> tuple[bytes, int]:
        colon = data.index(b":", at)
        if data[at : at + 1] == b"-":
            raise ValueError("length")
        length = number(at, colon)
        if colon + 1 + length > len(data):
            raise ValueError("short")
        return data[colon + 1 : colon + 1 + length], colon + 1 + length

    def value(at: int) -> tuple[Any, int]:
        kind = data[at : at + 1]
        if kind == b"i":
            end = data.index(b"e", at)
            return number(at + 1, end), end + 1
        if kind == b"l":
            items = []
            at += 1
            while data[at : at + 1] != b"e":
                item, at = value(at)
                items.append(item)
            return items, at + 1
        if kind == b"d":
            pairs: dict[bytes, Any] = {}
            at += 1
            while data[at : at + 1] != b"e":
                key, at = string(at)
                if pairs and key <= list(pairs)[-1]:
                    raise ValueError("order")
                pairs[key], at = value(at)
            return pairs, at + 1
        return string(at)

    found, end = value(0)
    if end != len(data):
        raise ValueError("trailing")
    return found


def refused(data: bytes, **how: Any) -> BencodeError:
    with pytest.raises(BencodeError) as caught:
        decode(data, **how)
    return caught.value


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"0:", b""),
        (b"4:spam", b"spam"),
        (b"10:0123456789", b"0123456789"),
        (b"i0e", 0),
        (b"i-1e", -1),
        (b"i9223372036854775807e", 2**63 - 1),
        (b"i-9223372036854775808e", -(2**63)),
        (b"i18446744073709551616e", 2**64),
        (b"le", []),
        (b"de", {}),
        (b"l4:spami42elee", [b"spam", 42, []]),
        (b"d0:1:x1:Ai1e1:ai2ee", {b"": b"x", b"A": 1, b"a": 2}),
        (b"d2:aai1e1:bi2ee", {b"aa": 1, b"b": 2}),
        (b"d1:ad1:bd1:cleeee", {b"a": {b"b": {b"c": []}}}),
    ],
)
def test_valid_values_read_and_write_back_the_same(data: bytes, value: object) -> None:
    assert decode(data) == value
    assert encode(value) == data


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (b"", 0),
        (b"i", 1),
        (b"ie", 1),
        (b"i-e", 2),
        (b"i-0e", 1),
        (b"i00e", 1),
        (b"i03e", 1),
        (b"i-03e", 1),
        (b"i+1e", 1),
        (b"i 1e", 1),
        (b"i1.5e", 2),
        (b"01:a", 0),
        (b"-1:a", 0),
        (b"1:", 0),
        (b"1", 0),
        (b"4:spa", 0),
        (b"4spam", 1),
        (b"e", 0),
        (b"x", 0),
        (b"l", 1),
        (b"d", 1),
        (b"d1:ae", 4),
        (b"d1:a", 4),
        (b"di1e1:ae", 1),
        (b"dlei1ee", 1),
        (b"d1:b1:x1:a1:ye", 7),
        (b"d1:a1:x1:a1:ye", 7),
        (b"de ", 2),
        (b"i1ei2e", 3),
    ],
)
def test_malformed_input_is_refused_with_the_place_of_the_fault(data: bytes, offset: int) -> None:
    error = refused(data)
    assert error.offset == offset
    assert str(error).startswith("bencode: ")
    assert str(error.offset) in str(error)


def test_lenient_mode_takes_keys_in_any_order_and_bytes_after_the_value() -> None:
    assert decode(b"d1:bi1e1:ai2ee\n", strict=False) == {b"b": 1, b"a": 2}


def test_lenient_mode_keeps_the_first_of_two_equal_keys() -> None:
    assert decode(b"d1:ai1e1:ai2e1:bi3ee", strict=False) == {b"a": 1, b"b": 3}
    assert decode(b"d1:ai1e1:bi3e1:ai2ee", strict=False) == {b"a": 1, b"b": 3}


@pytest.mark.parametrize("data", [b"i-0ee", b"i03e", b"01:a", b"d1:ae"])
def test_lenient_mode_does_not_take_numbers_and_dicts_that_are_malformed(data: bytes) -> None:
    assert isinstance(refused(data, strict=False), BencodeError)


def test_a_huge_length_prefix_allocates_nothing() -> None:
    tracemalloc.start()
    try:
        for data in (
            b"99999999999:a",
            b"d99999999999:a",
            b"9" * 5000 + b":",
            b"l9223372036854775807:",
            b"18446744073709551617:a",
        ):
            refused(data)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_depth_is_limited_exactly() -> None:
    assert decode(b"l" * 64 + b"e" * 64)
    assert refused(b"l" * 65 + b"e" * 65).why == "nested too deeply"
    assert decode(b"d1:al" + b"e" * 2, max_depth=2)
    assert refused(b"d1:alee", max_depth=1)
    assert decode(b"l" * 256 + b"e" * 256, max_depth=256)
    assert refused(b"l" * 1_000_000, max_depth=256)
    assert refused(b"d1:a" * 1_000_000, max_depth=256)


def test_tokens_are_limited_exactly() -> None:
    assert decode(b"li1ei2ee", max_tokens=4) == [1, 2]
    assert refused(b"li1ei2ee", max_tokens=3).why == "too many values"
    assert decode(b"d1:ai1ee", max_tokens=4) == {b"a": 1}
    assert refused(b"d1:ai1ee", max_tokens=3)
    assert refused(b"l" + b"le" * 3_000_000 + b"e")


def test_limits_out_of_range_are_the_callers_error() -> None:
    for how in ({"max_depth": 257}, {"max_depth": -1}, {"max_tokens": 0}):
        with pytest.raises(ValueError, match="max_depth"):
            decode(b"le", **how)
    with pytest.raises(ValueError, match="max_depth"):
        encode([], max_depth=257)


def test_integers_of_a_thousand_digits_pass_and_of_more_do_not() -> None:
    for number in (10**999, 10**1000 - 1, -(10**1000 - 1)):
        assert decode(encode(number)) == number
    assert refused(b"i1" + b"0" * 1000 + b"e").why == "an integer of too many digits"
    with pytest.raises(BencodeError, match="too many digits"):
        encode(10**1000)
    with pytest.raises(BencodeError, match="too many digits"):
        encode(-(10**100_000))


def test_every_kind_of_buffer_is_read() -> None:
    data = b"d1:ali1e2:xyee"
    for kind in (bytes, bytearray, memoryview):
        assert decode(kind(data)) == {b"a": [1, b"xy"]}
        assert decode_prefix(kind(data + b"..")) == ({b"a": [1, b"xy"]}, len(data))
    with pytest.raises(TypeError):
        decode("i1e")  # type: ignore[arg-type]


def test_a_prefix_ends_where_its_value_ends() -> None:
    data = b"d8:msg_typei1e5:piecei0e10:total_sizei3425ee" + b"d4:name...raw bytes"
    value, end = decode_prefix(data)
    assert value == {b"msg_type": 1, b"piece": 0, b"total_size": 3425}
    assert data[end:] == b"d4:name...raw bytes"
    assert decode_prefix(b"..i7e..", offset=2) == (7, 5)


def test_a_prefix_from_an_offset_counts_faults_from_the_start() -> None:
    with pytest.raises(BencodeError) as caught:
        decode_prefix(b"....i0xe", offset=4)
    assert caught.value.offset == 6
    for offset in (-1, 9):
        with pytest.raises(BencodeError):
            decode_prefix(b"....i0xe", offset=offset)


def test_the_span_of_info_is_its_raw_bytes() -> None:
    data = b"d8:announce3:url4:infod4:name1:x6:pieces2:..e5:other4:infoe"
    start, end = info_span(data)
    assert data[start:end] == b"d4:name1:x6:pieces2:..e"
    assert decode_with_info(data) == (decode(data), start, end)


def test_only_the_top_level_info_counts_and_the_first_of_two() -> None:
    data = b"d1:ad4:infoi1ee4:infoi2e4:infoi3ee"
    start, end = info_span(data)
    assert data[start:end] == b"i2e"
    value, start, end = decode_with_info(data)
    assert value[b"info"] == 2
    assert data[start:end] == b"i2e"


def test_info_spans_where_there_is_none() -> None:
    assert decode_with_info(b"d1:ai1ee") == ({b"a": 1}, -1, -1)
    assert decode_with_info(b"l4:infoi1ee") == ([b"info", 1], -1, -1)
    for data in (
        b"",
        b"d",
        b"de",
        b"le",
        b"i1e",
        b"d4:info",
        b"d4:infol",
        b"di1ei2ee",
        b"d1:ad1:be4:infoi1ee",
        b"d4:infoi-ee",
    ):
        with pytest.raises(BencodeError):
            info_span(data)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ("\u00fc", b"2:\xc3\xbc"),
        (True, b"i1e"),
        ((1, (2,)), b"li1eli2eee"),
        (bytearray(b"ab"), b"2:ab"),
        (memoryview(b"ab"), b"2:ab"),
        ({"b": 1, b"a": 2, "": 3}, b"d0:i3e1:ai2e1:bi1ee"),
        ({b"\xff": 1, b"a": 2}, b"d1:ai2e1:\xffi1ee"),
        ({b"aa": 1, b"a": 2}, b"d1:ai2e2:aai1ee"),
        (-(2**63), b"i-9223372036854775808e"),
    ],
)
def test_writing_sorts_keys_by_raw_bytes_and_takes_text(value: object, data: bytes) -> None:
    assert encode(value) == data


@pytest.mark.parametrize(
    "value", [None, 1.5, {1: 2}, {None: 1}, [object()], {"a": {b"b": [set()]}}, "\ud800", {"\ud800": 1}]
)
def test_what_has_no_bencoding_is_refused(value: object) -> None:
    with pytest.raises(BencodeError):
        encode(value)


def test_two_keys_that_encode_the_same_are_refused() -> None:
    with pytest.raises(BencodeError, match="equal"):
        encode({"a": 1, b"a": 2})


def test_a_cycle_ends_in_an_error() -> None:
    loop: list[Any] = []
    loop.append({b"again": loop})
    with pytest.raises(BencodeError, match="holds itself"):
        encode(loop)


def test_subclasses_are_written_as_what_they_hold_without_running_their_code() -> None:
    class Number(int):
        def __int__(self) -> int:
            raise AssertionError

        __str__ = __repr__ = __index__ = __int__  # type: ignore[assignment]

    class Mapping(dict[bytes, int]):
        def __iter__(self) -> Any:
            raise AssertionError

    assert encode(Mapping({b"a": Number(2**70)})) == b"d1:ai1180591620717411303424ee"


def test_large_dicts_and_lists_of_any_order_are_written_sorted() -> None:
    value = {b"%d" % (i * 7919 % 1000): [i] * (i % 5) for i in range(1000)}
    data = encode(value)
    assert decode(data) == value
    assert list(decode(data)) == sorted(value)


def test_errors_leak_neither_references_nor_memory() -> None:
    key, item = b"a key of some length", [b"item"]
    bad = {key: item, b"z": [object()]}
    broken = b"d1:al5:aaaaai1000eld2:xxi100000eee1:b" + b"l4:dddd" * 30

    def work() -> None:
        for _ in range(200):
            for call, argument in ((encode, bad), (decode, broken), (decode, b"d1:a300:" + b"x" * 300)):
                with pytest.raises(BencodeError):
                    call(argument)

    before = sys.getrefcount(key), sys.getrefcount(item)
    work()
    gc.collect()
    tracemalloc.start()
    try:
        work()
        gc.collect()
        first = tracemalloc.get_traced_memory()[0]
        work()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - first < 20_000
    finally:
        tracemalloc.stop()
    assert (sys.getrefcount(key), sys.getrefcount(item)) == before


def test_the_cycle_collector_is_left_as_it_was() -> None:
    large = encode([b"x" * 10] * 10_000)
    assert gc.isenabled()
    decode(large)
    assert gc.isenabled()
    refused(large[:-1])
    assert gc.isenabled()
    gc.disable()
    try:
        decode(large)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_keys_of_every_length_come_back_whole_when_read_again_and_again() -> None:
    keys = sorted({bytes([a]) * length + bytes([b]) for length in range(40) for a in (0, 97, 255) for b in (0, 98)})
    value = {key: index for index, key in enumerate(keys)}
    data = encode(value)
    for _ in range(3):
        assert decode(data) == value


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared vectors are not here")
def test_the_strict_vectors_read_or_are_refused_as_they_say() -> None:
    rows = json.loads((SHARED / "bep" / "bep_vectors.json").read_text())["bencode_strict"]
    assert len(rows) > 30
    for row in rows:
        data = row["i"].encode("latin-1")
        if row["ok"]:
            assert encode(decode(data)) == data
        else:
            refused(data)


@calm
@given(values)
def test_reading_undoes_writing(value: object) -> None:
    data = encode(value)
    assert decode(data) == value
    assert decode(data, strict=False) == value
    assert decode_prefix(data + b"tail") == (value, len(data))


@calm
@given(values)
def test_every_proper_prefix_is_refused(value: object) -> None:
    data = encode(value)
    for end in range(len(data)):
        refused(data[:end])
        refused(data[:end], strict=False)


@calm
@given(st.binary(max_size=60) | almost)
def test_garbage_reads_as_the_plain_reader_says_or_raises_bencode_error(data: bytes) -> None:
    try:
        expected = reference(data)
    except ValueError:
        refused(data)
    else:
        assert decode(data) == expected
    for lenient in (decode_with_info, info_span):
        fault = None
        try:
            lenient(data)
        except BencodeError as error:
            fault = error
        assert fault is None or 0 <= fault.offset <= len(data)


@calm
@given(values, st.integers(0, 10_000), st.integers(0, 255))
def test_one_wrong_byte_reads_as_the_plain_reader_says_or_raises_bencode_error(
    value: object, at: int, byte: int
) -> None:
    data = bytearray(encode(value))
    data[at % len(data)] = byte
    try:
        expected = reference(bytes(data))
    except ValueError:
        refused(bytes(data))
    else:
        assert decode(data) == expected


@calm
@given(st.dictionaries(st.binary(max_size=8), values, max_size=5), values)
def test_the_span_of_info_holds_for_any_torrent(top: dict[bytes, Any], info: object) -> None:
    top[b"info"] = info
    data = encode(top)
    start, end = info_span(data)
    assert data[start:end] == encode(info)
    assert decode_with_info(data) == (top, start, end)
