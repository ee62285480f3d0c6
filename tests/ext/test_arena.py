"""Slots: where they lie, that they never overlap, and who keeps them."""

from __future__ import annotations

import ctypes
import gc
import itertools
import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import btfast
from btfast._arena import Arena, Slot, shared_memory

PAGE = 4096
PAGES = 64
HUGE = 2 << 20
MADV_COLLAPSE = 25
ROOT = Path(btfast.__file__).resolve().parents[1]  # the build under test, for children


def allocated(arena: Arena, length: int, file_offset: int = 0) -> Slot:
    slot = arena.allocate(length, file_offset)
    assert slot is not None
    return slot


def free_runs(arena: Arena) -> list[tuple[int, int]]:
    return [(page, pages) for page, pages, free in arena.runs_for_test() if free]


def test_a_slot_is_zeroed_memory_congruent_to_its_file_offset() -> None:
    arena = Arena.create(PAGES * PAGE)
    for offset in (0, 1, 4095, 4096, 5000, 2**40 + 17):
        slot = allocated(arena, 10_000, offset)
        assert (slot.offset - offset) % PAGE == 0
        assert (slot.length, len(slot), slot.arena) == (10_000, 10_000, arena)
        assert bytes(slot) == bytes(10_000)
        assert memoryview(slot).nbytes == 10_000
        assert not memoryview(slot).readonly
        del slot
        assert arena.used == 0


def test_the_most_that_was_ever_used_is_remembered() -> None:
    arena = Arena.create(PAGES * PAGE)
    assert arena.peak == 0
    slots = [allocated(arena, 10 * PAGE), allocated(arena, PAGE)]
    del slots[0]
    slots.append(allocated(arena, PAGE))
    assert (arena.used, arena.peak) == (2 * PAGE, 11 * PAGE)


def huge_pages_are_given() -> bool:
    """Whether this kernel makes huge pages for who asks: Linux 6.1 and later do, if it has any left."""
    with mmap.mmap(-1, 2 * HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        memory[-start % HUGE] = 1
        libc = ctypes.CDLL(None)
        return libc.madvise(ctypes.c_void_p(start + -start % HUGE), ctypes.c_size_t(HUGE), MADV_COLLAPSE) == 0


def huge_bytes(address: int) -> int:
    """How much of the mapping at `address` this process sees in huge pages."""
    _, _, rest = Path("/proc/self/smaps").read_text().partition(f"\n{address:x}-")
    return int(rest.partition("ShmemPmdMapped:")[2].split()[0]) * 1024


def address_of(arena: Arena) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(arena.view(0, 1)))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives huge pages for the asking")
def test_memory_comes_in_huge_pages_as_far_as_it_is_used() -> None:
    if not huge_pages_are_given():
        pytest.skip("this kernel has no huge page for us")
    arena = Arena.create(3 * HUGE + HUGE // 2)
    address = address_of(arena)
    first = allocated(arena, 5000)
    assert huge_bytes(address) == HUGE
    second = allocated(arena, HUGE - 8 * PAGE)
    assert huge_bytes(address) == HUGE
    third = allocated(arena, HUGE)
    assert huge_bytes(address) == 2 * HUGE
    rest = allocated(arena, HUGE + HUGE // 4)  # what is left at the end is no huge page
    assert huge_bytes(address) == 3 * HUGE
    for slot in (first, second, third, rest):
        assert bytes(slot) == bytes(slot.length)
    other = Arena(arena.fd, arena.size)
    assert bytes(other.view(HUGE, 1)) == bytes(1)
    assert huge_bytes(address_of(other)) == HUGE


@pytest.mark.parametrize("size", [PAGE, HUGE - PAGE, HUGE, HUGE + PAGE])
def test_an_arena_of_any_size_can_be_filled(size: int) -> None:
    arena = Arena.create(size)
    slots = [allocated(arena, PAGE) for _ in range(size // PAGE)]
    assert arena.allocate(1) is None
    for slot in slots:
        slot.write(0, b"x" * PAGE)
    assert bytes(arena.view(0, size)) == b"x" * size


def test_a_slot_and_a_view_are_the_same_memory_and_so_is_a_second_mapping() -> None:
    arena = Arena.create(PAGES * PAGE)
    other = Arena(arena.fd, arena.size)
    allocated(arena, PAGE)
    first = allocated(arena, PAGE)
    slot = allocated(arena, 100, 50)
    slot.write(10, b"payload")
    assert bytes(arena.view(slot.offset + 10, 7)) == b"payload"
    assert bytes(other.view(slot.offset + 10, 7)) == b"payload"
    other.view(slot.offset, 1)[:] = b"x"
    assert bytes(slot)[:1] == b"x"
    assert (first.offset, slot.offset) == (0, PAGE + 50)


def test_the_memory_goes_to_a_child_by_its_descriptor_alone() -> None:
    arena = Arena.create(4 * PAGE)
    slot = allocated(arena, 5000, 7)
    code = (
        "import sys; from btfast._arena import Arena; fd, size, offset = map(int, sys.argv[1:]);"
        "view = Arena(fd, size).view(offset, 5000); view[:] = view.tobytes().replace(b'q', b'a')"
    )
    slot.write(0, b"q" * 5000)
    arguments = [sys.executable, "-c", code, str(arena.fd), str(arena.size), str(slot.offset)]
    subprocess.run(arguments, pass_fds=[arena.fd], check=True, cwd=ROOT, timeout=60)
    assert bytes(slot) == b"a" * 5000


def test_first_fit_from_the_lowest_address() -> None:
    arena = Arena.create(10 * PAGE)
    a, b, c = allocated(arena, 2 * PAGE), allocated(arena, PAGE), allocated(arena, 3 * PAGE)
    assert (a.offset, b.offset, c.offset) == (0, 2 * PAGE, 3 * PAGE)
    del a
    assert free_runs(arena) == [(0, 2), (6, 4)]
    big = allocated(arena, 3 * PAGE)
    assert big.offset == 6 * PAGE
    small = allocated(arena, PAGE)
    assert small.offset == 0
    del b
    assert free_runs(arena) == [(1, 2), (9, 1)]
    assert allocated(arena, 2 * PAGE).offset == PAGE


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1)])
@pytest.mark.parametrize("pages", [1, 2, 3])
def test_neighbours_grow_together_again(order: tuple[int, int, int], pages: int) -> None:
    arena = Arena.create(3 * pages * PAGE)
    slots = {n: allocated(arena, pages * PAGE) for n in range(3)}
    for n in order:
        del slots[n]
        free_runs(arena)
    assert free_runs(arena) == [(0, 3 * pages)]
    assert allocated(arena, 3 * pages * PAGE).offset == 0


def test_a_full_arena_says_none_until_something_is_free() -> None:
    arena = Arena.create(4 * PAGE)
    slots = [allocated(arena, PAGE) for _ in range(4)]
    assert arena.allocate(1) is None
    assert arena.allocate(PAGE) is None
    slots.pop(1)
    assert arena.allocate(PAGE + 1) is None
    assert arena.allocate(PAGE, 1) is None  # one byte more than a page
    assert allocated(arena, PAGE).offset == PAGE
    assert arena.used == 3 * PAGE
    assert arena.allocate(5 * PAGE) is None
    assert arena.allocate(2**63) is None
    slots.clear()
    assert arena.allocate(4 * PAGE, 1) is None
    assert allocated(arena, 4 * PAGE).length == 4 * PAGE


def test_a_memoryview_keeps_its_slot_held() -> None:
    arena = Arena.create(4 * PAGE)
    slot = allocated(arena, 2 * PAGE)
    view = memoryview(slot)[5:10]
    del slot
    assert arena.used == 2 * PAGE
    assert allocated(arena, PAGE).offset == 2 * PAGE
    view.release()
    assert arena.used == 0


def test_the_memory_outlives_the_names_of_its_arena() -> None:
    arena = Arena.create(4 * PAGE)
    slot = allocated(arena, PAGE)
    view = arena.view(0, PAGE)
    del arena
    gc.collect()
    slot.write(0, b"still here")
    assert bytes(view[:10]) == b"still here"
    assert slot.arena.used == PAGE


def test_a_collected_cycle_gives_its_slots_back() -> None:
    arena = Arena.create(16 * PAGE)
    for _ in range(3):
        cycle: list[object] = [allocated(arena, PAGE), {"slot": allocated(arena, PAGE)}]
        cycle.append(cycle)
    del cycle
    gc.collect()
    assert arena.used == 0
    assert free_runs(arena) == [(0, 16)]


@pytest.mark.parametrize(("begin", "data"), [(0, b"x" * 101), (100, b"x"), (101, b""), (50, bytes(51)), (2**63, b"x")])
def test_a_write_outside_the_slot_is_refused(begin: int, data: bytes) -> None:
    arena = Arena.create(PAGE)
    slot = allocated(arena, 100)
    with pytest.raises(ValueError, match="outside"):
        slot.write(begin, data)
    assert bytes(arena.view(0, PAGE)) == bytes(PAGE)


def test_a_write_takes_any_bytes_up_to_the_end() -> None:
    slot = allocated(Arena.create(PAGE), 100)
    slot.write(0, b"a" * 100)
    slot.write(98, bytearray(b"bb"))
    slot.write(1, memoryview(b"ccc"))
    slot.write(100, b"")
    assert bytes(slot) == b"accc" + b"a" * 94 + b"bb"


@pytest.mark.parametrize(("offset", "length"), [(0, PAGE + 1), (PAGE, 1), (PAGE + 1, 0), (2**63, 2**63), (1, PAGE)])
def test_a_view_outside_the_arena_is_refused(offset: int, length: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        Arena.create(PAGE).view(offset, length)


def test_a_view_may_be_all_or_nothing() -> None:
    arena = Arena.create(PAGE)
    assert len(arena.view(0, PAGE)) == PAGE
    assert len(arena.view(PAGE, 0)) == 0


def test_sizes_that_are_no_arena_are_refused_and_leave_no_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for size in (0, 2**63):
        with pytest.raises((ValueError, OverflowError, OSError)):
            Arena.create(size)
    fd = shared_memory("test", 2 * PAGE)
    for size in (0, 100, PAGE + 1, 3 * PAGE, PAGE * 2**31):
        with pytest.raises(ValueError, match="arena of"):
            Arena(fd, size)
    with pytest.raises(OSError, match="Bad file descriptor"):
        Arena(2**30, PAGE)
    os.close(fd)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_created_arena_closes_its_memory_and_a_given_one_does_not() -> None:
    arena = Arena.create(1)
    fd = arena.fd
    assert arena.size == PAGE
    assert os.fstat(fd).st_size == PAGE
    del arena
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    fd = shared_memory("test", PAGE)
    arena = Arena(fd, PAGE)
    del arena
    os.close(fd)


def test_only_the_owner_allocates() -> None:
    arena = Arena.create(PAGE)
    with pytest.raises(ValueError, match="owner"):
        Arena(arena.fd, PAGE).allocate(1)
    with pytest.raises(ValueError, match="owner"):
        arena.allocate(0)
    with pytest.raises(TypeError):
        Slot()


def test_shared_memory_has_no_name_and_can_be_mapped() -> None:
    fd = shared_memory("test", PAGE)
    with mmap.mmap(fd, PAGE) as mapped:
        assert mapped[:] == bytes(PAGE)
    assert os.fstat(fd).st_nlink == 0
    assert not os.get_inheritable(fd)
    os.close(fd)


class Picture:
    """The arena as a list: which slot holds each page."""

    def __init__(self) -> None:
        self.pages: list[int | None] = [None] * PAGES

    def first_fit(self, need: int) -> int | None:
        for start in range(PAGES - need + 1):
            if not any(holder is not None for holder in self.pages[start : start + need]):
                return start
        return None


OPERATIONS = st.one_of(
    st.tuples(st.just("allocate"), st.integers(1, 12 * PAGE), st.integers(0, 3 * PAGE)),
    st.tuples(st.just("allocate"), st.integers(1, 3).map(lambda n: n * PAGE), st.just(0)),
    st.tuples(st.just("free"), st.integers(0, 1000), st.just(0)),
    st.tuples(st.just("write"), st.integers(0, 1000), st.integers(0, 255)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(OPERATIONS, max_size=80))
def test_any_sequence_of_operations_keeps_slots_apart(operations: list[tuple[str, int, int]]) -> None:
    arena = Arena.create(PAGES * PAGE)
    picture = Picture()
    slots: dict[int, tuple[Slot, bytes]] = {}
    for number, (name, a, b) in enumerate(operations):
        if name == "allocate":
            slot = arena.allocate(a, b)
            need = (b % PAGE + a + PAGE - 1) // PAGE
            start = picture.first_fit(need)
            if start is None:
                assert slot is None
                continue
            assert slot is not None
            assert (slot.offset, slot.length) == (start * PAGE + b % PAGE, a)
            picture.pages[start : start + need] = [number] * need
            slots[number] = (slot, bytes(slot))
            del slot
        elif slots:
            chosen = list(slots)[a % len(slots)]
            if name == "free":
                del slots[chosen]
                picture.pages = [None if holder == chosen else holder for holder in picture.pages]
            else:
                data = bytes([b]) * len(slots[chosen][0])
                slots[chosen][0].write(0, data)
                slots[chosen] = (slots[chosen][0], data)
        assert arena.used == sum(holder is not None for holder in picture.pages) * PAGE
        runs = arena.runs_for_test()
        assert [free for _, pages, free in runs for _ in range(pages)] == [holder is None for holder in picture.pages]
        assert not any(free and after for (_, _, free), (_, _, after) in itertools.pairwise(runs))
        assert all(bytes(slot) == data for slot, data in slots.values())
    slots.clear()
    assert arena.used == 0
    assert free_runs(arena) == [(0, PAGES)]


def test_a_part_of_a_piece_is_written_by_its_places_in_the_piece() -> None:
    arena = Arena.create(PAGE)
    slot = arena.allocate(100, 0, 5000)
    assert slot is not None
    assert (slot.first, len(slot)) == (5000, 100)
    slot.write(5000, b"ab")
    slot.write(5099, b"z")
    assert bytes(slot) == b"ab" + bytes(97) + b"z"
    for begin, data in ((4999, b"x"), (5099, b"xx"), (0, b"x"), (5100, b"x")):
        with pytest.raises(ValueError, match="outside"):
            slot.write(begin, data)
    assert bytes(arena.view(100, PAGE - 100)) == bytes(PAGE - 100)
