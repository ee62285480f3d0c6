"""What is particular about an encrypted stream: the order of what has been encrypted, and memory for what waits."""

from __future__ import annotations

import random
import socket
import tempfile
from collections.abc import Iterator

import pytest
from stream_harness import BLOCK, HANDSHAKE, Event, Pair, allocated, block, content, have, piece

from btfast._arena import Arena
from btfast._peer_stream import CLOSED_EVENT, HANDSHAKE_EVENT, INFO_HASH_EVENT
from btfast._rc4 import Rc4

SEALED = 65536


@pytest.fixture
def file() -> Iterator[int]:
    with tempfile.TemporaryFile() as handle:
        handle.write(content(0, 0, 64 * BLOCK))
        handle.flush()
        yield handle.fileno()


def narrow(pair: Pair) -> Pair:
    pair.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    return pair


def test_nothing_readable_leaves() -> None:
    with Pair(encrypted=True) as pair:
        pair.stream.send(have(7))
        assert pair.stream.flush()
        wire = pair.peer.recv(100)
        assert wire != have(7)
        assert Rc4(b"from us").crypt(wire) == have(7)


def test_what_was_said_before_the_stream_had_the_socket_counts() -> None:
    with Pair(handshake=False, encrypted=True) as pair:
        assert pair.stream.handle_bytes(b"") == []
        assert pair.stream.handle_bytes(HANDSHAKE[:60]) == [(INFO_HASH_EVENT, HANDSHAKE[:48])]
        pair.fed += 60
        assert pair.feed(HANDSHAKE[60:] + have(1)) == [(HANDSHAKE_EVENT, HANDSHAKE), (4, 1)]
        assert pair.stream.handle_bytes(have(2)[:3]) == []
        assert pair.stream.received == 68 + 9 + 3


def test_a_block_that_is_thrown_away_does_not_upset_what_follows() -> None:
    """Its rest and what follows are read into the same scratch memory."""
    arena = Arena.create(1 << 20)
    slot = allocated(arena, 4 * BLOCK)
    haves: list[Event]
    for behind, haves in [(b"", []), (have(3), [(4, 3)]), (have(3) + block(1, BLOCK) + have(4), [(4, 3), (4, 4)])]:
        with Pair(encrypted=True) as pair:
            pair.stream.request(1, 0, 2 * BLOCK, slot)
            assert pair.feed(block(1, 0)[:700]) == []
            pair.stream.cancel(1, 0, BLOCK)
            events = pair.feed(block(1, 0)[700:] + behind)
            assert [event for event in events if event[0] == 4] == haves
            assert pair.stream.wasted == BLOCK
            assert pair.feed(have(9)) == [(4, 9)]


def test_what_has_been_encrypted_is_not_taken_back(file: int) -> None:
    with narrow(Pair(encrypted=True)) as pair:
        for n in range(8):
            pair.stream.send_block(n, 0, BLOCK, [(None, file, n * BLOCK, BLOCK)])
        assert not pair.stream.flush()
        taken = [index for index, _, _ in pair.stream.drop_blocks()]
        assert taken == [4, 5, 6, 7], "the first four, 64 KiB, are on their way"
        pair.stream.send(have(1))
        found = b""
        while not pair.stream.flush():
            found += pair.read(3000)
        found += pair.sent()
        data = content(0, 0, 64 * BLOCK)
        assert found == b"".join(piece(n, 0, data[n * BLOCK : (n + 1) * BLOCK]) for n in range(4)) + have(1)


def test_a_peer_that_does_not_read_costs_one_buffer(file: int) -> None:
    with narrow(Pair(encrypted=True)) as pair:
        before = pair.stream.__sizeof__()
        for n in range(64):
            pair.stream.send_block(n, 0, BLOCK, [(None, file, 0, BLOCK)])
        queued = pair.stream.__sizeof__()
        for _ in range(10):
            assert not pair.stream.flush()
        assert pair.stream.__sizeof__() - queued <= SEALED
        pair.stream.drop_blocks()
        while not pair.stream.flush():
            pair.read(1 << 20)
        assert pair.stream.__sizeof__() - before < 1024


def test_an_owner_whose_end_flushes_changes_no_order(file: int) -> None:
    class Meddler:
        def __del__(self) -> None:
            pair.stream.send(have(9))
            pair.stream.flush()

    with Pair(encrypted=True) as pair:
        pair.stream.send_block(0, 0, 10, [(Meddler(), file, 0, 10)])
        pair.stream.send_block(1, 0, 10, [(None, file, 0, 10)])
        assert pair.stream.flush()
        ten = content(0, 0, 64 * BLOCK)[:10]
        assert pair.sent() == piece(0, 0, ten) + have(9) + piece(1, 0, ten)


def test_a_file_that_has_become_shorter_ends_the_stream_with_a_reason() -> None:
    with tempfile.TemporaryFile() as file, Pair(encrypted=True) as pair:
        file.truncate(1000)
        pair.stream.send_block(0, 0, BLOCK, [(None, file.fileno(), 0, BLOCK)])
        assert not pair.stream.flush()
        assert pair.stream.error == "a file that is being served has become shorter"
        assert pair.stream.handle_readable() == [(CLOSED_EVENT, pair.stream.error)]


def test_noise_ends_it_like_any_other_noise() -> None:
    with Pair(encrypted=True) as pair:
        for _ in range(100):
            if pair.stream.error is None:
                pair.feed(random.Random(1).randbytes(5000))
        assert pair.stream.error is not None
