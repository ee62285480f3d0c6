"""The bitfield against a plain list of bools, and what it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btfast._bitfield import Bitfield

calm = settings(deadline=None, derandomize=True, max_examples=300)
bit_lists = st.integers(0, 300).flatmap(lambda n: st.lists(st.booleans(), min_size=n, max_size=n))
pairs = st.integers(0, 300).flatmap(
    lambda n: st.tuples(*[st.lists(st.booleans(), min_size=n, max_size=n) for _ in range(2)])
)


def made(bits: list[bool]) -> Bitfield:
    field = Bitfield(len(bits))
    for index, bit in enumerate(bits):
        if bit:
            field.set(index)
    return field


def packed(bits: list[bool]) -> bytes:
    data = bytearray(-(-len(bits) // 8))
    for index, bit in enumerate(bits):
        data[index // 8] |= bit << (7 - index % 8)
    return bytes(data)


def holds(field: Bitfield, bits: list[bool]) -> None:
    ones = [index for index, bit in enumerate(bits) if bit]
    assert len(field) == field.length == len(bits)
    assert [field[index] for index in range(len(bits))] == bits
    assert field.count == len(ones)
    assert field.all() == all(bits)
    assert field.none() == (not any(bits))
    assert field.indices() == ones
    assert list(field.iter_set()) == ones
    assert field.to_bytes() == packed(bits)


def test_bit_zero_is_the_high_bit_of_byte_zero() -> None:
    field = Bitfield(10, b"\x80\x40")
    assert field.indices() == [0, 9]
    assert field[0] is True
    assert field[1] is False


def test_set_and_clear_say_whether_they_changed_anything() -> None:
    field = Bitfield(9)
    assert field.set(8)
    assert not field.set(8)
    assert field.count == 1
    assert field.clear(8)
    assert not field.clear(8)
    assert field.count == 0


@pytest.mark.parametrize("index", [-1, 9, 64, 2**40])
def test_an_index_outside_is_an_index_error(index: int) -> None:
    field = Bitfield(9)
    for call in (field.set, field.clear, field.__getitem__):
        with pytest.raises(IndexError):
            call(index)


@pytest.mark.parametrize(
    ("length", "data"), [(8, b""), (8, b"\0\0"), (9, b"\0"), (0, b"\0"), (9, b"\0\x40"), (1, b"\x7f")]
)
def test_data_of_another_size_or_with_a_spare_bit_set_is_refused(length: int, data: bytes) -> None:
    with pytest.raises(ValueError, match="bitfield of"):
        Bitfield(length, data)


@pytest.mark.parametrize("length", [-1, 2**32 + 1, 2**62])
def test_a_length_that_no_torrent_has_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="bitfield of"):
        Bitfield(length)


def test_data_can_be_any_buffer() -> None:
    for kind in (bytes, bytearray, memoryview):
        assert Bitfield(16, kind(b"\x01\x80")).indices() == [7, 8]
    with pytest.raises(TypeError):
        Bitfield(8, "x")  # type: ignore[arg-type]


def test_fields_of_different_lengths_do_not_go_together() -> None:
    for call in (Bitfield.and_not, Bitfield.any_and_not, Bitfield.first_and_not, Bitfield.__or__, Bitfield.__and__):
        with pytest.raises(ValueError, match="do not go together"):
            call(Bitfield(8), Bitfield(9))
    assert Bitfield(8) != Bitfield(9)


def test_other_types_do_not_compare_or_combine() -> None:
    assert Bitfield(8) != b"\0"
    with pytest.raises(TypeError):
        Bitfield(8) | b"\0"  # type: ignore[operator]
    with pytest.raises(TypeError):
        Bitfield(8).and_not(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        hash(Bitfield(8))


def test_a_copy_shares_nothing() -> None:
    field = Bitfield(70, b"\xff" * 8 + b"\x04")
    twin = field.copy()
    assert twin == field
    twin.clear(0)
    assert field[0]
    assert twin != field


def test_a_walk_sees_bits_that_change_ahead_of_it() -> None:
    field = Bitfield.full(200)
    walk = field.iter_set()
    assert next(walk) == 0
    field.clear_all()
    field.set(150)
    assert list(walk) == [150]
    field.set(199)
    assert list(walk) == []


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 63, 64, 65, 127, 128, 129, 1000])
def test_full_and_cleared_fields_of_every_shape(length: int) -> None:
    holds(Bitfield.full(length), [True] * length)
    field = Bitfield.full(length)
    field.clear_all()
    holds(field, [False] * length)
    field.set_all()
    assert field == Bitfield.full(length)
    assert Bitfield(length, field.to_bytes()) == field
    assert field.first_set(length) == -1
    assert not field.any_and_not(field)


@calm
@given(bit_lists)
def test_a_field_holds_what_was_set(bits: list[bool]) -> None:
    holds(made(bits), bits)
    holds(Bitfield(len(bits), packed(bits)), bits)


@calm
@given(pairs)
def test_set_operations_agree_with_lists(two: tuple[list[bool], list[bool]]) -> None:
    left, right = two
    a, b = made(left), made(right)
    difference = [x and not y for x, y in zip(left, right, strict=True)]
    holds(a.and_not(b), difference)
    holds(a | b, [x or y for x, y in zip(left, right, strict=True)])
    holds(a & b, [x and y for x, y in zip(left, right, strict=True)])
    assert a.any_and_not(b) == any(difference)
    assert (a == b) == (left == right)
    for start in (-3, 0, 1, 63, 64, 65, len(left) - 1, len(left), len(left) + 5):
        later = [index for index, bit in enumerate(difference) if bit and index >= start]
        assert a.first_and_not(b, start) == (later[0] if later else -1)


@calm
@given(bit_lists, st.integers(-5, 310))
def test_the_first_set_bit_from_any_start(bits: list[bool], start: int) -> None:
    later = [index for index, bit in enumerate(bits) if bit and index >= start]
    assert made(bits).first_set(start) == (later[0] if later else -1)


@calm
@given(st.integers(1, 200), st.lists(st.tuples(st.sampled_from("scSC"), st.integers(0, 10_000)), max_size=60))
def test_any_sequence_of_changes_keeps_field_and_list_equal(length: int, changes: list[tuple[str, int]]) -> None:
    field = Bitfield(length)
    bits = [False] * length
    for change, place in changes:
        index = place % length
        match change:
            case "s":
                assert field.set(index) == (not bits[index])
                bits[index] = True
            case "c":
                assert field.clear(index) == bits[index]
                bits[index] = False
            case "S":
                field.set_all()
                bits = [True] * length
            case _:
                field.clear_all()
                bits = [False] * length
        assert field.count == sum(bits)
    holds(field, bits)
