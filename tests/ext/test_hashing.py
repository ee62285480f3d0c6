from __future__ import annotations

import ctypes
import hashlib
import mmap
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btfast._hashing import Hasher, hash_many, hash_spans, kernels, update_many

ALGORITHMS = ("sha1", "sha256")
EVERY_KERNEL = [(a, k) for a in ALGORITHMS for k in (None, *kernels(a))]
RESUMABLE = [(a, k) for a, k in EVERY_KERNEL if k != "openssl"]
DATA = random.Random(1).randbytes(1 << 20)

each_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)
each_kernel = pytest.mark.parametrize(("algorithm", "kernel"), EVERY_KERNEL)
each_resumable_kernel = pytest.mark.parametrize(("algorithm", "kernel"), RESUMABLE)


def expected(algorithm: str, buffers: list) -> list[bytes]:
    return [hashlib.new(algorithm, b).digest() for b in buffers]


def cut(lengths: list[int], rng: random.Random) -> list[memoryview]:
    view = memoryview(DATA)
    starts = [rng.randrange(len(DATA) - n + 1) for n in lengths]
    return [view[s : s + n] for s, n in zip(starts, lengths, strict=True)]


@each_kernel
def test_published_digests_are_reproduced(algorithm, kernel):
    digests = {
        "sha1": ("da39a3ee5e6b4b0d3255bfef95601890afd80709", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        "sha256": (
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
    }
    found = hash_many(algorithm, [b"", b"abc"], kernel=kernel)
    assert tuple(d.hex() for d in found) == digests[algorithm]


@each_kernel
def test_every_length_up_to_1024_equals_hashlib(algorithm, kernel):
    rng = random.Random(2)
    buffers = cut(list(range(1025)), rng)
    assert hash_many(algorithm, buffers, kernel=kernel) == expected(algorithm, buffers)
    rng.shuffle(buffers)
    assert hash_many(algorithm, buffers, kernel=kernel) == expected(algorithm, buffers)


@each_kernel
@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 16, 17, 40])
def test_large_buffers_of_random_lengths_equal_hashlib(algorithm, kernel, count):
    rng = random.Random(count)
    buffers = cut([rng.randrange(120_000) for _ in range(count)], rng)
    assert hash_many(algorithm, buffers, kernel=kernel) == expected(algorithm, buffers)


@each_kernel
def test_buffers_at_every_alignment_equal_hashlib(algorithm, kernel):
    buffers = [memoryview(DATA)[start : start + 333] for start in range(65)]
    assert hash_many(algorithm, buffers, kernel=kernel) == expected(algorithm, buffers)


@each_kernel
def test_a_batch_with_one_long_buffer_among_short_ones_equals_hashlib(algorithm, kernel):
    for place in (0, 7, 19):
        buffers = cut([200_000 if i == place else 100 * i for i in range(20)], random.Random(place))
        assert hash_many(algorithm, buffers, kernel=kernel) == expected(algorithm, buffers)


@each_kernel
@pytest.mark.parametrize(("total", "length"), [(0, 64), (1, 64), (64, 64), (6400, 64), (64_001, 64), (100_000, 16384), (7, 1)])
def test_spans_of_one_buffer_equal_hashlib(algorithm, kernel, total, length):
    data = memoryview(DATA)[3 : 3 + total]
    wanted = b"".join(expected(algorithm, [data[i : i + length] for i in range(0, total, length)]))
    assert hash_spans(algorithm, data, length, kernel=kernel) == wanted
    assert hash_spans(algorithm, data.tobytes(), length, kernel=kernel) == wanted


def test_spans_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="0 bytes"):
        hash_spans("sha256", b"abc", 0)
    with pytest.raises(ValueError, match="unknown algorithm"):
        hash_spans("md5", b"abc", 1)
    with pytest.raises((TypeError, ValueError)):
        hash_spans("sha256", None, 1)
    with pytest.raises((BufferError, ValueError)):
        hash_spans("sha256", memoryview(DATA)[::2], 1)


@settings(max_examples=150, deadline=None)
@given(
    choice=st.sampled_from(EVERY_KERNEL),
    lengths=st.lists(st.one_of(st.integers(0, 200), st.integers(0, 20_000)), max_size=40),
    seed=st.integers(0, 1 << 30),
)
def test_any_mix_of_lanes_equals_hashlib(choice, lengths, seed):
    algorithm, kernel = choice
    buffers = cut(lengths, random.Random(seed))
    assert hash_many(algorithm, buffers, kernel=kernel) == expected(algorithm, buffers)


@each_kernel
def test_no_byte_outside_a_buffer_is_read(algorithm, kernel):
    """The buffers end where a page that may not be read begins, and begin where one ends."""
    page = mmap.PAGESIZE
    with mmap.mmap(-1, 3 * page) as area:
        area[page : 2 * page] = DATA[:page]
        handle = ctypes.c_char.from_buffer(area)
        base = ctypes.addressof(handle)
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        for guard in (base, base + 2 * page):
            assert libc.mprotect(guard, page, 0) == 0
        view = memoryview(area)
        lengths = [*range(300), page]
        ends = [view[2 * page - n : 2 * page] for n in lengths]
        starts = [view[page : page + n] for n in lengths]
        try:
            assert hash_many(algorithm, ends, kernel=kernel) == [
                hashlib.new(algorithm, DATA[page - n : page]).digest() for n in lengths
            ]
            assert hash_many(algorithm, starts, kernel=kernel) == [
                hashlib.new(algorithm, DATA[:n]).digest() for n in lengths
            ]
        finally:
            for part in (*ends, *starts, view):
                part.release()
            del handle


def test_a_message_of_more_than_2_to_the_32_bits_is_padded_with_its_whole_length():
    data = bytes((1 << 29) + 5)
    reference = hashlib.sha1(data).digest()
    assert hash_many("sha1", [data]) == [reference]
    hasher = Hasher("sha1")
    hasher.update(memoryview(data)[: 1 << 28])
    hasher.update(memoryview(data)[1 << 28 :])
    assert hasher.digest() == reference


@each_kernel
def test_no_buffers_give_no_digests(algorithm, kernel):
    assert hash_many(algorithm, [], kernel=kernel) == []


@each_algorithm
def test_any_iterable_of_any_contiguous_buffers_is_taken(algorithm):
    array = (ctypes.c_uint32 * 50)(*range(50))
    items = [b"abc", bytearray(b"abc"), memoryview(b"xabcx")[1:4], array]
    assert hash_many(algorithm, (i for i in items)) == expected(algorithm, items)


@each_algorithm
@pytest.mark.parametrize("bad", ["text", 7, None, memoryview(b"abcdef")[::2]])
def test_what_is_no_plain_buffer_is_refused_and_the_others_are_let_go(algorithm, bad):
    held = bytearray(b"resizable when nobody holds it")
    with pytest.raises((TypeError, BufferError)):
        hash_many(algorithm, [held, bad])
    with pytest.raises((TypeError, BufferError)):
        update_many([Hasher(algorithm), Hasher(algorithm)], [held, bad])
    held.extend(b"!")


@each_algorithm
def test_buffers_are_let_go_after_the_call(algorithm):
    held = bytearray(b"abc")
    hash_many(algorithm, [held])
    Hasher(algorithm).update(held)
    held.extend(b"d")
    assert held == b"abcd"


@each_algorithm
def test_kernels_lists_what_can_run_here(algorithm):
    names = kernels(algorithm)
    assert {"openssl", "portable"} <= set(names) <= {"avx512", "shani", "armv8", "avx2", "openssl", "portable"}
    assert len(names) == len(set(names))


@each_algorithm
def test_an_unknown_kernel_is_refused(algorithm):
    with pytest.raises(ValueError, match="unknown kernel 'mmx'"):
        hash_many(algorithm, [b""], kernel="mmx")
    with pytest.raises(ValueError, match="unknown kernel 'mmx'"):
        update_many([Hasher(algorithm)], [b""], kernel="mmx")


@each_algorithm
def test_a_kernel_that_this_cpu_lacks_is_refused(algorithm):
    missing = {"avx512", "shani", "armv8", "avx2"} - set(kernels(algorithm))
    assert missing, "no CPU has both x86 and ARM instructions"
    for name in missing:
        with pytest.raises(ValueError, match="cannot run on this CPU"):
            hash_many(algorithm, [b""], kernel=name)


def test_an_unknown_algorithm_is_refused():
    for call in (lambda: kernels("md5"), lambda: hash_many("md5", []), lambda: Hasher("md5")):
        with pytest.raises(ValueError, match="unknown algorithm 'md5'"):
            call()


@each_resumable_kernel
def test_a_message_cut_at_any_two_places_gives_the_same_digest(algorithm, kernel):
    message = memoryview(DATA)[:200]
    cuts = [(i, j) for i in range(201) for j in range(i, 201, 9)]
    hashers = [Hasher(algorithm) for _ in cuts]
    for part in ([message[:i] for i, _ in cuts], [message[i:j] for i, j in cuts], [message[j:] for _, j in cuts]):
        update_many(hashers, part, kernel=kernel)
    assert {h.digest() for h in hashers} == {hashlib.new(algorithm, message).digest()}
    assert {h.length for h in hashers} == {200}


@settings(max_examples=100, deadline=None)
@given(
    choice=st.sampled_from(RESUMABLE),
    rounds=st.lists(
        st.lists(st.one_of(st.integers(0, 130), st.integers(0, 9_000)), min_size=20, max_size=20), max_size=5
    ),
    seed=st.integers(0, 1 << 30),
)
def test_hashers_advanced_together_equal_hashlib(choice, rounds, seed):
    algorithm, kernel = choice
    rng = random.Random(seed)
    hashers = [Hasher(algorithm) for _ in range(20)]
    references = [hashlib.new(algorithm) for _ in range(20)]
    for lengths in rounds:
        count = rng.randrange(1, 21)
        parts = cut(lengths[:count], rng)
        update_many(hashers[:count], parts, kernel=kernel)
        for reference, part in zip(references, parts, strict=False):
            reference.update(part)
        assert [h.digest() for h in hashers] == [r.digest() for r in references]


@each_algorithm
def test_a_digest_does_not_end_a_message_and_a_copy_goes_its_own_way(algorithm):
    first = Hasher(algorithm)
    first.update(b"a" * 100)
    assert first.digest() == first.digest() == hashlib.new(algorithm, b"a" * 100).digest()
    second = first.copy()
    first.update(b"b")
    second.update(b"c" * 64)
    assert first.digest() == hashlib.new(algorithm, b"a" * 100 + b"b").digest()
    assert second.digest() == hashlib.new(algorithm, b"a" * 100 + b"c" * 64).digest()
    assert (first.algorithm, first.length, second.length) == (algorithm, 101, 164)


def test_update_many_refuses_what_has_no_single_meaning():
    a, b = Hasher("sha1"), Hasher("sha1")
    with pytest.raises(ValueError, match="2 hashers but 1 buffers"):
        update_many([a, b], [b"x"])
    with pytest.raises(ValueError, match="appears twice"):
        update_many([a, b, a], [b"x", b"y", b"z"])
    with pytest.raises(ValueError, match="different algorithms"):
        update_many([a, Hasher("sha256")], [b"x", b"y"])
    with pytest.raises(ValueError, match="openssl"):
        update_many([a], [b"x"], kernel="openssl")
    for stranger in (None, hashlib.sha1()):
        with pytest.raises(TypeError):
            update_many([a, stranger], [b"x", b"y"])
    assert (a.length, b.length) == (0, 0)
    update_many([], [])


@each_algorithm
def test_threads_hash_at_the_same_time(algorithm):
    batches = [cut([3_000 + 17 * i] * 9, random.Random(i)) for i in range(40)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda batch: hash_many(algorithm, batch), batches))
    assert found == [expected(algorithm, batch) for batch in batches]


def test_a_hasher_in_use_by_another_thread_says_so():
    hasher = Hasher("sha1")
    data = bytes(1 << 25)
    refused = threading.Event()
    message = ""

    def advance() -> None:
        while not refused.is_set() and hasher.length < 1 << 36:
            hasher.update(data)

    thread = threading.Thread(target=advance)
    thread.start()
    try:
        while thread.is_alive() and not refused.is_set():
            try:
                hasher.digest()
            except RuntimeError as error:
                message = str(error)
                refused.set()
    finally:
        refused.set()
        thread.join()
    assert "another thread" in message
    assert hasher.digest() == hashlib.sha1(bytes(hasher.length)).digest()
