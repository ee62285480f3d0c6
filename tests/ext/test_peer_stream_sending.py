"""What a PeerStream sends: messages and blocks in order, whole, through sockets that take a little at a time."""

from __future__ import annotations

import os
import select
import socket
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from stream_harness import BLOCK, Pair, allocated, content, have, message, piece

from btfast._arena import Arena
from btfast._peer_stream import CLOSED_EVENT

FILE_BYTES = 20 * BLOCK


class Owner:
    """Stands for whatever keeps a file open; says when nobody holds it any more."""

    alive = 0

    def __init__(self) -> None:
        Owner.alive += 1

    def __del__(self) -> None:
        Owner.alive -= 1


@pytest.fixture
def file() -> Iterator[int]:
    with tempfile.TemporaryFile() as handle:
        handle.write(content(0, 0, FILE_BYTES))
        handle.flush()
        yield handle.fileno()
    assert Owner.alive == 0


def part(fd: int, offset: int, length: int) -> tuple[object, int, int, int]:
    return (Owner(), fd, offset, length)


def narrow(pair: Pair) -> Pair:
    pair.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the kernel makes it its smallest
    return pair


def drain(pair: Pair, step: int) -> bytes:
    """Flushes to the end while the peer reads `step` bytes at a time."""
    found = b""
    for _ in range(1_000_000):
        if pair.stream.flush():
            return found + pair.sent()
        assert pair.stream.error is None
        readable, writable, _ = select.select([pair.peer], [pair.ours], [], 20)
        assert readable or writable
        if readable:
            found += pair.read(step)
    raise AssertionError("flush never came to an end")


def test_messages_leave_in_order() -> None:
    with Pair() as pair:
        pair.stream.send(have(1))
        pair.stream.send(bytearray(have(2)))
        pair.stream.send(memoryview(have(3)))
        pair.stream.send(b"")
        assert pair.stream.unsent == 27
        assert pair.stream.flush()
        assert pair.sent() == have(1) + have(2) + have(3)
        assert (pair.stream.unsent, pair.stream.sent) == (0, 27)
        assert pair.stream.flush()


@pytest.mark.parametrize("step", [1000, 4096, 100_000])
@pytest.mark.parametrize("tcp", [False, True])
def test_a_long_queue_of_messages_through_a_narrow_socket(step: int, tcp: bool) -> None:
    text = b"".join(have(n) for n in range(50_000))
    with narrow(Pair(tcp=tcp)) as pair:
        pair.stream.send(text[: len(text) // 2])
        assert not pair.stream.flush()
        assert 0 < pair.stream.unsent < len(text)
        pair.stream.send(text[len(text) // 2 :])
        found = drain(pair, step)
        pair.ours.shutdown(socket.SHUT_WR)
        while chunk := pair.read(1 << 20):
            found += chunk
        assert found == text
        assert pair.stream.sent == len(text)


def test_the_handshake_leaves_before_the_peer_has_spoken() -> None:
    with Pair(handshake=False) as pair:
        pair.stream.send(b"\x13BitTorrent protocol")
        assert pair.stream.flush()
        assert pair.sent() == b"\x13BitTorrent protocol"


def test_a_block_leaves_with_its_header(file: int) -> None:
    with Pair() as pair:
        assert pair.stream.uploading == -1
        pair.stream.send_block(5, BLOCK, BLOCK, [part(file, 3 * BLOCK, BLOCK)])
        assert (pair.stream.uploads, pair.stream.uploading) == (1, 5)
        assert pair.stream.flush()
        assert pair.stream.uploading == -1
        assert pair.sent() == piece(5, BLOCK, content(0, 0, FILE_BYTES)[3 * BLOCK : 4 * BLOCK])
        assert (pair.stream.uploads, pair.stream.payload_sent, pair.stream.sent) == (0, BLOCK, BLOCK + 13)


def segments(file: int) -> tuple[list[tuple[object, int, int, int]], bytes]:
    """A block over a file's end, padding, nothing, and another place."""
    data = content(0, 0, FILE_BYTES)
    parts = [part(file, 5, 6000), part(-1, 0, 3000), part(file, 9, 0), part(file, 7, BLOCK - 9001), part(-1, 0, 1)]
    return parts, data[5:6005] + bytes(3000) + data[7 : 7 + BLOCK - 9001] + bytes(1)


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("step", [13, 500, 4096, 1 << 20])
def test_blocks_and_messages_through_a_narrow_socket_stay_whole(file: int, step: int, encrypted: bool) -> None:
    data = content(0, 0, FILE_BYTES)
    parts, mixed = segments(file)
    count = 1 if step == 13 else 6
    with narrow(Pair(encrypted=encrypted)) as pair:
        pair.stream.send(have(1))
        for n in range(count):
            pair.stream.send_block(n, 0, BLOCK, [part(file, n * BLOCK, BLOCK)])
        pair.stream.send_block(9, 5, BLOCK, parts)
        pair.stream.send(have(2))
        pair.stream.send_block(10, 0, 100_000, [part(-1, 0, 100_000)])
        del parts
        blocks = b"".join(piece(n, 0, data[n * BLOCK : (n + 1) * BLOCK]) for n in range(count))
        expected = have(1) + have(2) + blocks + piece(9, 5, mixed) + piece(10, 0, bytes(100_000))
        assert drain(pair, step) == expected
        assert pair.stream.uploads == 0
        assert pair.stream.payload_sent == (count + 1) * BLOCK + 100_000
        assert pair.stream.sent == len(expected)


def test_a_message_overtakes_blocks_that_wait_but_not_the_one_that_leaves(file: int) -> None:
    data = content(0, 0, FILE_BYTES)
    with narrow(Pair()) as pair:
        for n in range(3):
            at = n * BLOCK
            pair.stream.send_block(n, 0, BLOCK, [part(file, at, 9000), part(file, at + 9000, BLOCK - 9000)])
        assert not pair.stream.flush()
        assert 13 < pair.stream.sent < 13 + BLOCK
        pair.stream.send(message(0))
        blocks = [piece(n, 0, data[n * BLOCK : (n + 1) * BLOCK]) for n in range(3)]
        assert drain(pair, 3000) == blocks[0] + message(0) + blocks[1] + blocks[2]


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("most", [1, 13, 1000, BLOCK, 2 * BLOCK - 1])
def test_no_more_of_blocks_leaves_than_is_allowed(file: int, most: int, encrypted: bool) -> None:
    data = content(0, 0, FILE_BYTES)
    size = BLOCK if most >= 1000 else 1000
    cut = size // 2 + 7
    with Pair(encrypted=encrypted) as pair:
        for n in range(3):
            pair.stream.send_block(n, 0, size, [part(file, n * BLOCK, cut), part(-1, 0, size - cut)])
        pair.stream.send(have(1))
        assert not pair.stream.flush(0)
        assert pair.stream.held
        assert pair.sent() == have(1)  # at once, and not kept back for a block that does not come
        found = b""
        while not pair.stream.flush(most):
            assert pair.stream.held
            assert pair.stream.payload_sent % most == 0
            found += pair.sent()
        assert not pair.stream.held
        blocks = [data[n * BLOCK : n * BLOCK + cut] + bytes(size - cut) for n in range(3)]
        assert found + pair.sent() == b"".join(piece(n, 0, block) for n, block in enumerate(blocks))


def test_a_block_that_is_held_back_can_be_taken_back(file: int) -> None:
    with Pair() as pair:
        pair.stream.send_block(0, 0, BLOCK, [part(file, 0, BLOCK)])
        assert not pair.stream.flush(0)
        assert pair.stream.cancel_block(0, 0, BLOCK)
        assert pair.stream.flush(0)
        assert not pair.stream.held
        assert pair.sent() == b""


def test_cancel_block_takes_back_what_has_not_begun(file: int) -> None:
    data = content(0, 0, FILE_BYTES)
    with narrow(Pair()) as pair:
        for n in range(5):
            pair.stream.send_block(n, 0, BLOCK, [part(file, 0, 4000), part(-1, 0, BLOCK - 4000)])
        assert not pair.stream.flush()
        assert pair.stream.uploading == 0
        assert not pair.stream.cancel_block(0, 0, BLOCK)  # is leaving
        assert not pair.stream.cancel_block(1, 0, BLOCK - 1)
        assert not pair.stream.cancel_block(1, 1, BLOCK)
        assert pair.stream.cancel_block(4, 0, BLOCK)
        assert pair.stream.cancel_block(2, 0, BLOCK)
        assert not pair.stream.cancel_block(2, 0, BLOCK)
        assert pair.stream.uploads == 3
        body = data[:4000] + bytes(BLOCK - 4000)
        assert drain(pair, 5000) == piece(0, 0, body) + piece(1, 0, body) + piece(3, 0, body)
        assert pair.stream.uploads == 0


def test_drop_blocks_takes_back_all_that_has_not_begun(file: int) -> None:
    with narrow(Pair()) as pair:
        assert pair.stream.drop_blocks() == []
        for n in range(3):
            pair.stream.send_block(n, 7, BLOCK, [part(-1, 0, 4000), part(-1, 0, BLOCK - 4000)])
        assert not pair.stream.flush()
        assert pair.stream.drop_blocks() == [(1, 7, BLOCK), (2, 7, BLOCK)]
        assert pair.stream.uploads == 1
        assert 1 <= Owner.alive <= 2  # of the block that is leaving
        assert drain(pair, 5000) == piece(0, 7, bytes(BLOCK))
        pair.stream.send_block(4, 0, 10, [part(file, 0, 10)])
        assert pair.stream.drop_blocks() == [(4, 0, 10)]
        assert (pair.stream.uploads, Owner.alive) == (0, 0)
        assert pair.stream.flush()
        assert pair.sent() == b""


def test_the_same_block_twice_is_cancelled_once(file: int) -> None:
    with Pair() as pair:
        for _ in range(2):
            pair.stream.send_block(1, 0, 10, [part(file, 0, 10)])
        assert pair.stream.cancel_block(1, 0, 10)
        assert pair.stream.uploads == 1
        assert pair.stream.flush()
        assert pair.sent() == piece(1, 0, content(0, 0, FILE_BYTES)[:10])


@pytest.mark.parametrize(
    ("length", "parts"),
    [
        (10, []),
        (10, [(-1, 0, 9)]),
        (10, [(-1, 0, 11)]),
        (10, [(-1, 0, 5), (-1, 0, 6)]),
        (0, [(-1, 0, 0)]),
        (0, []),
        (10, [(0, -1, 10)]),
        (10, [(-2, 0, 10)]),
        (10, [(-1, 0, 2**32 - 1), (-1, 0, 11)]),
    ],
)
def test_segments_that_are_no_block_are_refused(length: int, parts: list[tuple[int, int, int]]) -> None:
    with Pair() as pair:
        with pytest.raises(ValueError, match="segment"):
            pair.stream.send_block(0, 0, length, [(Owner(), *p) for p in parts])
        assert pair.stream.uploads == 0
        assert Owner.alive == 0
        assert pair.stream.flush()
        assert pair.sent() == b""


@pytest.mark.parametrize("bad", [(None, -1, 0, -1), (None, -1, 0, 2**32), (None, -1, 0), (None, "x", 0, 5), 3])
def test_a_segment_of_the_wrong_kind_leaves_no_half_block(bad: object) -> None:
    with Pair() as pair:
        with pytest.raises((ValueError, TypeError, OverflowError)):
            pair.stream.send_block(0, 0, 10, [(Owner(), -1, 0, 5), bad])  # type: ignore[list-item]
        assert (pair.stream.uploads, Owner.alive) == (0, 0)
        pair.stream.send_block(1, 0, 4, [(None, -1, 0, 4)])
        assert pair.stream.flush()
        assert pair.sent() == piece(1, 0, bytes(4))


def test_a_file_that_has_become_shorter_ends_the_stream_with_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "shrinking"
    path.write_bytes(bytes(BLOCK))
    fd = os.open(path, os.O_RDONLY)
    with Pair() as pair:
        pair.stream.send_block(0, 0, BLOCK, [(None, fd, 0, BLOCK)])
        os.truncate(path, 1000)
        assert not pair.stream.flush()
        assert pair.stream.error == "a file that is being served has become shorter"
        assert not pair.stream.flush()
        assert pair.stream.handle_readable() == [(CLOSED_EVENT, pair.stream.error)]
        assert pair.sent() == struct.pack(">IBII", 9 + BLOCK, 7, 0, 0) + bytes(1000)
    os.close(fd)


def test_a_peer_that_is_gone_ends_the_stream_with_a_reason(file: int) -> None:
    for tcp in (False, True):
        with Pair(tcp=tcp) as pair:
            if tcp:
                pair.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            pair.peer.close()
            pair.stream.send(have(1))
            pair.stream.send_block(0, 0, BLOCK, [part(file, 0, BLOCK)])
            assert not pair.stream.flush()
            assert pair.stream.error in ("Broken pipe", "Connection reset by peer")
            assert pair.stream.handle_readable() == [(CLOSED_EVENT, pair.stream.error)]


def test_a_stream_that_ends_with_blocks_queued_lets_go_of_their_files(file: int) -> None:
    pair = narrow(Pair())
    for n in range(30):
        pair.stream.send_block(n, 0, BLOCK, [part(file, 0, 4000), part(file, 0, BLOCK - 4000)])
    assert not pair.stream.flush()
    assert Owner.alive > 50
    pair.close()
    del pair
    assert Owner.alive == 0


def test_an_owner_whose_end_uses_the_stream_finds_it_in_order(file: int) -> None:
    class Meddler:
        def __del__(self) -> None:
            pair.stream.send(have(9))
            pair.stream.cancel_block(1, 0, 10)
            pair.stream.send_block(8, 0, 4, [(None, -1, 0, 4)])

    with Pair() as pair:
        pair.stream.send_block(0, 0, 10, [(Meddler(), file, 0, 10)])
        pair.stream.send_block(1, 0, 10, [(None, file, 0, 10)])
        assert pair.stream.flush()
        ten = content(0, 0, FILE_BYTES)[:10]  # both left in one call
        assert pair.sent() == piece(0, 0, ten) + piece(1, 0, ten) + have(9) + piece(8, 0, bytes(4))
        assert pair.stream.uploads == 0
        pair.stream.send_block(2, 0, 10, [(Meddler(), file, 0, 5), (None, -1, 0, 5)])
        assert pair.stream.drop_blocks() == [(2, 0, 10)]
        assert pair.stream.uploads == 1
        assert pair.stream.flush()
        assert pair.sent() == have(9) + piece(8, 0, bytes(4))


def test_requests_and_blocks_share_the_way_out(file: int) -> None:
    slot = allocated(Arena.create(1 << 20), 4 * BLOCK)
    with narrow(Pair()) as pair:
        pair.stream.send_block(0, 0, BLOCK, [part(file, 0, BLOCK)])
        pair.stream.request(2, 0, BLOCK, slot)
        request = message(6, struct.pack(">III", 2, 0, BLOCK))
        assert drain(pair, 900) == request + piece(0, 0, content(0, 0, FILE_BYTES)[:BLOCK])
