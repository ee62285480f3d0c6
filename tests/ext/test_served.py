"""Runs of blocks out of files: windows on large files, a buffer for small ones, and what a peer takes back of a run."""

from __future__ import annotations

import os
import random
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from stream_harness import BLOCK, Pair, have, message, piece, triple

from btfast._peer_stream import REQUESTS_EVENT
from btfast._served import MOST_WINDOWS, ServedFile, close_unused, keep, open_windows
from btfast._splice import MOST_PIPES, pipes_taken, set_use

SIZE = (3 << 20) + 777
DATA = random.Random(5).randbytes(SIZE)
MIB = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    target = tmp_path / "served"
    target.write_bytes(DATA)
    before = open_windows()
    yield target
    assert open_windows() == before, "a window outlives its file"


def opened(path: Path) -> ServedFile:
    return ServedFile(os.open(path, os.O_RDONLY))


def framed(index: int, begin: int, data: bytes) -> bytes:
    """A run of blocks as it must leave."""
    return b"".join(piece(index, begin + at, data[at : at + BLOCK]) for at in range(0, len(data), BLOCK))


def drained(pair: Pair, step: int = 1 << 20, *, already: int = 0) -> bytes:
    """All that the stream has to say; `already`: bytes of it that were read before."""
    found = bytearray()
    while not pair.stream.flush():
        assert pair.stream.error is None
        if select.select([pair.peer], [], [], 20)[0]:
            found += pair.read(step)
    while len(found) + already < pair.stream.sent:
        found += pair.read(step)
    return bytes(found)


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize(
    ("offset", "length"), [(0, SIZE), (5, 3 << 20), (MIB - 1, 5 * BLOCK), (MIB - BLOCK, 200_000), (SIZE - 9, 9), (7, BLOCK + 1)]
)
def test_a_run_of_blocks_leaves_whole(path: Path, offset: int, length: int, encrypted: bool) -> None:
    with Pair(encrypted=encrypted) as pair:
        file = opened(path)
        pair.stream.send_blocks(4, 2 * BLOCK, length, [(file, file.fd, offset, length)])
        del file
        assert pair.stream.uploads == -(-length // BLOCK)
        assert drained(pair) == framed(4, 2 * BLOCK, DATA[offset : offset + length])
        assert (pair.stream.uploads, pair.stream.payload_sent) == (0, length)


def test_a_run_over_many_segments(path: Path) -> None:
    rng = random.Random(3)
    for _ in range(60):
        with Pair() as pair:
            file = opened(path)
            segments, wanted = [], b""
            for _ in range(rng.randint(1, 6)):
                length = rng.choice([0, 1, 100, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 70_000, 300_000])
                offset = rng.randrange(SIZE - length)
                zeros = rng.random() < 0.3
                segments.append((file, -1 if zeros else file.fd, offset, length))
                wanted += bytes(length) if zeros else DATA[offset : offset + length]
            if not wanted:
                continue
            pair.stream.send_blocks(0, 0, len(wanted), segments)
            del file, segments
            assert drained(pair, rng.choice([5000, 1 << 20])) == framed(0, 0, wanted)
            assert pair.stream.uploads == 0


def test_few_windows_serve_many_files(tmp_path: Path) -> None:
    """And a window that is laid out for a call is not taken for another file before the call."""
    length, count = 5 * BLOCK, MOST_WINDOWS + 8
    files = []
    with Pair(tcp=True) as pair:
        for n in range(count):
            (tmp_path / str(n)).write_bytes(n.to_bytes(2, "big") * (length // 2))
            files.append(opened(tmp_path / str(n)))
            pair.stream.send_blocks(n, 0, length, [(files[n], files[n].fd, 0, length)])
        wanted = b"".join(framed(n, 0, n.to_bytes(2, "big") * (length // 2)) for n in range(count))
        assert drained(pair) == wanted
        assert open_windows() == MOST_WINDOWS
        for n, file in enumerate(files):
            pair.stream.send_block(n, 0, 100, [(file, file.fd, 0, 100)])
        small = b"".join(piece(n, 0, n.to_bytes(2, "big") * 50) for n in range(count))
        assert drained(pair, already=len(wanted)) == small
    del file
    files.clear()
    assert open_windows() == 0


@pytest.mark.parametrize("most", [0, 1, 3])
def test_no_more_windows_are_open_than_are_to_be_kept(path: Path, most: int) -> None:
    try:
        with Pair(tcp=True) as pair:
            file = opened(path)
            pair.stream.send_blocks(0, 0, SIZE, [(file, file.fd, 0, SIZE)])
            sent = drained(pair)
            assert open_windows() == 3
            keep(most)
            assert open_windows() == most
            for _ in range(3):
                pair.stream.send_blocks(0, 0, SIZE, [(file, file.fd, 0, SIZE)])
                more = drained(pair, already=len(sent))
                assert more == sent[: len(more)] == framed(0, 0, DATA)
                sent += more
                assert open_windows() == most
    finally:
        keep(MOST_WINDOWS)
    del file


def test_a_window_is_closed_with_its_file_or_when_nobody_uses_it(path: Path) -> None:
    """In whatever order: what is sent is what stands in the file."""
    rng = random.Random(11)
    files: list[ServedFile] = []
    with Pair(tcp=True) as pair:
        found = wanted = 0
        for n in range(400):
            action = rng.random()
            if action < 0.2 and files:
                files.pop(rng.randrange(len(files)))
            elif action < 0.3:
                close_unused()
            elif action < 0.6 and len(files) < 5:
                files.append(opened(path))
            elif files:
                file = rng.choice(files)
                offset = rng.choice([0, MIB, 2 * MIB])
                pair.stream.send_blocks(n, 0, 5 * BLOCK, [(file, file.fd, offset, 5 * BLOCK)])
                del file
                sent = drained(pair, already=wanted)
                assert sent == framed(n, 0, DATA[offset : offset + 5 * BLOCK])
                wanted += len(sent)
                found += 1
            assert open_windows() <= 3 * len(files)
    assert found > 50
    files.clear()
    used = opened(path)
    with Pair(tcp=True) as pair:
        pair.stream.send_blocks(0, 0, 2 * MIB, [(used, used.fd, 0, 2 * MIB)])
        first = drained(pair)
        before = open_windows()
        close_unused()
        pair.stream.send_blocks(0, 0, MIB, [(used, used.fd, 0, MIB)])
        drained(pair, already=len(first))
        assert open_windows() == before
        close_unused()
        assert open_windows() < before, "the second was not used since the call before"
        close_unused()
        close_unused()
        assert open_windows() == 0
    del used


def test_a_file_cut_short_ends_the_stream_and_nothing_else(path: Path) -> None:
    with Pair() as pair:
        file = opened(path)
        pair.stream.send_blocks(0, 0, 3 * MIB, [(file, file.fd, 0, 3 * MIB)])
        assert not pair.stream.flush()
        os.truncate(path, 100)
        while pair.stream.error is None:
            pair.sent()
            assert not pair.stream.flush()
        assert pair.stream.error == "a file that is being served has become shorter"
    del file


def test_a_file_that_cannot_be_read_ends_the_stream_with_the_reason(path: Path) -> None:
    with Pair() as pair:
        file = ServedFile(os.open(path, os.O_WRONLY))
        pair.stream.send_blocks(0, 0, MIB, [(file, file.fd, 0, MIB)])
        assert not pair.stream.flush()
        assert pair.stream.error == "Bad file descriptor"
    del file


def test_one_peer_has_its_turn_and_then_others_theirs(path: Path) -> None:
    with Pair(tcp=True) as pair:
        pair.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        pair.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        file = opened(path)
        pair.stream.send_blocks(0, 0, SIZE, [(file, file.fd, 0, SIZE)])
        assert not pair.stream.flush()
        assert pair.stream.payload_sent <= MIB + 2 * BLOCK
        assert drained(pair) == framed(0, 0, DATA)
    del file


def test_reading_ahead_changes_nothing(path: Path) -> None:
    file = opened(path)
    file.read_ahead(0, SIZE)
    file.read_ahead(SIZE, MIB)
    with Pair() as pair:
        pair.stream.send_blocks(0, 0, BLOCK, [(file, file.fd, 0, BLOCK)])
        assert drained(pair) == framed(0, 0, DATA[:BLOCK])
    del file


def test_what_is_no_descriptor_closes_no_other() -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ValueError, match="descriptor"):
        ServedFile(-1)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("seed", range(40))
def test_what_is_taken_back_never_leaves_and_all_else_does(path: Path, seed: int) -> None:
    """Runs, single blocks, cancels, chokes and messages at random, through a socket that takes little at a time."""
    rng = random.Random(seed)
    file = opened(path)
    waiting: list[tuple[int, int, int]] = []
    taken_back: list[tuple[int, int, int]] = []
    asked: list[tuple[int, int, int]] = []
    offsets: dict[int, int] = {}
    found = b""
    with Pair(encrypted=seed % 4 == 3) as pair:
        pair.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 if seed % 2 else 1 << 17)
        for index in range(60):
            action = rng.random()
            if action < 0.5:
                count, last = rng.randint(1, 12), rng.choice([1, 777, BLOCK])
                length = (count - 1) * BLOCK + last
                begin, offset = rng.randrange(40) * BLOCK, rng.randrange(SIZE - length)
                cut = rng.randrange(length + 1)
                where = [(file, file.fd, offset, cut), (file, file.fd, offset + cut, length - cut)]
                pair.stream.send_blocks(index, begin, length, where)
                offsets[index] = offset - begin
                blocks = [(index, begin + at, min(BLOCK, length - at)) for at in range(0, length, BLOCK)]
                waiting += blocks
                asked += blocks
            elif action < 0.8 and waiting:
                for block in rng.sample(waiting, min(len(waiting), rng.randint(1, 4))):
                    assert not pair.stream.cancel_block(block[0], block[1], block[2] + 1)
                    assert not pair.stream.cancel_block(block[0], block[1] + 1, block[2])
                    before = pair.stream.uploads
                    if pair.stream.cancel_block(*block):
                        taken_back.append(block)
                        waiting.remove(block)
                        assert pair.stream.uploads == before - 1
            elif action < 0.85:
                dropped = pair.stream.drop_blocks()
                taken_back += dropped
                waiting = [block for block in waiting if block not in dropped]
            pair.stream.flush()
            found += pair.read(rng.randint(1, 60_000)) if select.select([pair.peer], [], [], 0)[0] else b""
            if rng.random() < 0.2:
                pair.stream.send(have(index))
        found += drained(pair, already=len(found))
        assert pair.stream.uploads == 0
    del file, where
    left, haves = [], 0
    while found:
        size = int.from_bytes(found[:4], "big")
        body, found = found[4 : 4 + size], found[4 + size :]
        if body[0] == 4:
            haves += 1
            continue
        index, begin = int.from_bytes(body[1:5], "big"), int.from_bytes(body[5:9], "big")
        at = offsets[index] + begin
        assert body[9:] == DATA[at : at + size - 9]
        left.append((index, begin, size - 9))
    assert sorted(left + taken_back) == sorted(asked)
    assert left == [block for block in asked if block in left], "in the order in which they were asked for"


def requests(*blocks: tuple[int, int, int]) -> bytes:
    return b"".join(triple(6, *block) for block in blocks)


def test_requests_that_follow_one_another_are_one_event() -> None:
    run = [(2, at, BLOCK) for at in range(0, 5 * BLOCK, BLOCK)]
    with Pair() as pair:
        assert pair.feed(requests(*run)) == [(REQUESTS_EVENT, 2, 0, 5 * BLOCK)]
        assert pair.feed(requests(*run, (2, 5 * BLOCK, 9), (2, 5 * BLOCK + 9, BLOCK))) == [
            (REQUESTS_EVENT, 2, 0, 5 * BLOCK + 9),
            (6, 2, 5 * BLOCK + 9, BLOCK),
        ]
        assert pair.feed(requests((2, 0, BLOCK), (2, 0, BLOCK), (3, BLOCK, BLOCK))) == [
            (6, 2, 0, BLOCK),
            (6, 2, 0, BLOCK),
            (6, 3, BLOCK, BLOCK),
        ]


def test_other_messages_keep_their_place_between_requests() -> None:
    one, two = (1, 0, BLOCK), (1, BLOCK, BLOCK)
    with Pair() as pair:
        assert pair.feed(requests(one, two) + triple(8, *two) + requests(two, (1, 2 * BLOCK, BLOCK)) + have(9)) == [
            (REQUESTS_EVENT, 1, 0, 2 * BLOCK),
            (8, *two),
            (REQUESTS_EVENT, 1, BLOCK, 2 * BLOCK),
            (4, 9),
        ]
        assert pair.feed(requests(one) + bytes(4) + message(99) + requests(two)) == [(REQUESTS_EVENT, 1, 0, 2 * BLOCK)]


@pytest.mark.parametrize(
    "blocks",
    [
        [(0, 0, 2 * BLOCK), (0, 2 * BLOCK, BLOCK)],
        [(0, 0, 100), (0, 100, 100)],
        [(0, 0, BLOCK), (0, BLOCK, 2 * BLOCK)],
        [(0, 0, BLOCK), (0, BLOCK, 0)],
        [(0, 0, BLOCK), (1, BLOCK, BLOCK)],
        [(0, 2**32 - BLOCK, BLOCK), (0, 0, BLOCK)],
        [(0, 0, 2**32 - 1), (0, 2**32 - 1, 1)],
    ],
)
def test_requests_of_other_shapes_stay_apart(blocks: list[tuple[int, int, int]]) -> None:
    with Pair() as pair:
        assert pair.feed(requests(*blocks)) == [(6, *block) for block in blocks]


def test_a_run_to_the_end_of_what_can_be_named() -> None:
    with Pair() as pair:
        asked = [(0, 2**32 - 2 * BLOCK, BLOCK), (0, 2**32 - BLOCK, BLOCK)]
        assert pair.feed(requests(*asked)) == [(REQUESTS_EVENT, 0, 2**32 - 2 * BLOCK, 2 * BLOCK)]


def test_a_stream_has_a_pipe_as_long_as_something_is_in_it(path: Path) -> None:
    if not set_use(True):
        pytest.skip("this kernel takes no pages from pipes, or one a call")
    with Pair(tcp=True) as pair:
        file = opened(path)
        for n in range(12):  # more than both ends of the socket hold
            pair.stream.send_blocks(n, 0, SIZE, [(file, file.fd, 0, SIZE)])
        while pipes_taken() == 0:
            assert not pair.stream.flush(), "all has left, and nothing was ever left in a pipe"
        assert drained(pair) == b"".join(framed(n, 0, DATA) for n in range(12))
        assert pipes_taken() == 0
    del file


def test_who_gets_no_pipe_copies(path: Path) -> None:
    """And what lies in the pipe of a stream that ends goes with it."""
    with ExitStack() as stack:
        file = opened(path)
        pairs = [stack.enter_context(Pair(tcp=True)) for _ in range(MOST_PIPES + 3)]
        for pair in pairs:
            for n in range(12):
                pair.stream.send_blocks(n, 0, SIZE, [(file, file.fd, 0, SIZE)])
            before = -1
            while before < pair.stream.sent:
                before = pair.stream.sent
                assert not pair.stream.flush()
        assert pipes_taken() == (MOST_PIPES if set_use(True) else 0)
        for pair in reversed(pairs[1:]):
            assert drained(pair) == b"".join(framed(n, 0, DATA) for n in range(12))
        del file
    del pair, pairs
    assert (pipes_taken(), open_windows()) == (0, 0)


@pytest.mark.parametrize("use", [False, True])
def test_what_leaves_is_the_same_with_pipes_and_without(path: Path, use: bool) -> None:
    rng = random.Random(5)
    set_use(use)
    try:
        with Pair(tcp=True) as pair:
            file = opened(path)
            wanted = bytearray()
            read = 0
            for n in range(60):
                length = rng.choice([1, BLOCK, 5 * BLOCK, 300_000, MIB])
                offset = rng.randrange(SIZE - length)
                if rng.random() < 0.5:
                    pair.stream.send(b"text %d" % n)
                    assert drained(pair, already=read) == b"text %d" % n
                    read += len(b"text %d" % n)
                pair.stream.send_blocks(n, 0, length, [(file, file.fd, offset, length)])
                wanted = framed(n, 0, DATA[offset : offset + length])
                assert drained(pair, rng.choice([5000, 1 << 20]), already=read) == wanted
                read += len(wanted)
            del file
    finally:
        set_use(True)
    assert pipes_taken() == 0
