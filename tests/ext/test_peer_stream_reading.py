"""What a PeerStream makes of the bytes that a peer sends: each case whole, byte by byte, at every split, at random."""

from __future__ import annotations

import socket
import struct
import sys

import pytest
from stream_harness import (
    BLOCK,
    HANDSHAKE,
    KEEP_ALIVE,
    Case,
    Event,
    Pair,
    Request,
    allocated,
    block,
    blocks_of,
    content,
    cuts,
    expand,
    have,
    message,
    piece,
    run_case,
    triple,
)

from btfast._arena import Arena
from btfast._peer_stream import BLOCK_EVENT, CLOSED_EVENT, HANDSHAKE_EVENT, INFO_HASH_EVENT, PeerStream

SMALL = 60  # a piece of one short block: streams short enough to be cut at every byte
ROOT = bytes(range(100, 132))
EVENTS_OF_SMALL: list[tuple[bytes, Event]] = [
    (message(0), (0,)),
    (message(1), (1,)),
    (message(2), (2,)),
    (message(3), (3,)),
    (have(9), (4, 9)),
    (message(5, b"\xff\x80"), (5, b"\xff\x80")),
    (message(5), (5, b"")),
    (triple(6, 1, 2, 3), (6, 1, 2, 3)),
    (triple(8, 4, 5, 6), (8, 4, 5, 6)),
    (message(9, b"\x1a\xe1"), (9, 6881)),
    (message(13, struct.pack(">I", 5)), (13, 5)),
    (message(14), (14,)),
    (message(15), (15,)),
    (triple(16, 2**32 - 1, 2**31, 0), (16, 2**32 - 1, 2**31, 0)),
    (message(17, struct.pack(">I", 6)), (17, 6)),
    (message(20, b"\0d1:ai1ee"), (20, 0, b"d1:ai1ee")),
    (message(20, b"\3"), (20, 3, b"")),
    (message(21, ROOT + struct.pack(">IIII", 0, 512, 4, 2**32 - 1)), (21, ROOT, 0, 512, 4, 2**32 - 1)),
    (message(22, ROOT + struct.pack(">IIII", 2, 0, 2, 1) + bytes(range(96))), (22, ROOT, 2, 0, 2, 1, bytes(range(96)))),
    (message(22, ROOT + bytes(16)), (22, ROOT, 0, 0, 0, 0, b"")),
    (message(23, ROOT + struct.pack(">IIII", 1, 2, 3, 4)), (23, ROOT, 1, 2, 3, 4)),
]


def landed(index: int, begin: int = 0, length: int = SMALL) -> Event:
    return (7, index, begin, length)


def small(name: str, count: int, data: bytes, events: list[Event], lands: list[int], **more: object) -> Case:
    """`count` pieces of one short block each, all asked for in order."""
    return Case(
        name,
        {i: SMALL for i in range(count)},
        [Request(i, 0, SMALL) for i in range(count)],
        data,
        events,
        [(i, 0, SMALL) for i in lands],
        **more,  # type: ignore[arg-type]
    )


def whole(index: int, length: int) -> tuple[bytes, list[Event], list[tuple[int, int, int]]]:
    """A piece's blocks in order, the events and the places."""
    parts = list(blocks_of(0, length))
    return (
        b"".join(block(index, at, n) for at, n in parts),
        [(7, index, at, n) for at, n in parts],
        [(index, at, n) for at, n in parts],
    )


def aside(index: int, length: int) -> list[Event]:
    return [(BLOCK_EVENT, index, at, content(index, at, n)) for at, n in blocks_of(0, length)]


def small_cases() -> list[Case]:
    s = [block(i, 0, SMALL) for i in range(12)]
    every_message = b"".join(data for data, _ in EVENTS_OF_SMALL)
    cases = [
        small("in order", 12, b"".join(s), [landed(i) for i in range(12)], list(range(12))),
        small("only some have come", 5, s[0] + s[1], [landed(0), landed(1)], [0, 1]),
        small("backwards", 5, b"".join(s[4::-1]), [landed(i) for i in (4, 3, 2, 1, 0)], list(range(5))),
        small("the last first", 4, s[3] + s[0] + s[1] + s[2], [landed(i) for i in (3, 0, 1, 2)], list(range(4))),
        small("one left out", 4, s[0] + s[2] + s[3], [landed(0), landed(2), landed(3)], [0, 2, 3]),
        small("a block twice", 3, s[0] + s[0] + s[1], [landed(0), landed(1)], [0, 1]),
        small("nothing was asked for", 0, s[0] + have(1), [(4, 1)], []),
        small("another piece", 2, s[9] + s[0], [landed(0)], [0]),
        small("another offset", 2, block(0, 20, SMALL) + s[0], [landed(0)], [0]),
        small("an offset off the block's start", 1, block(0, 1, SMALL - 1) + s[0], [landed(0)], [0]),
        small("a shorter block", 2, block(0, 0, SMALL - 1) + s[0], [landed(0)], [0]),
        small("a longer block", 2, block(0, 0, SMALL + 1) + s[0], [landed(0)], [0]),
        small("an empty block", 2, block(0, 0, 0) + s[0] + block(1, 0, 0) + s[1], [landed(0), landed(1)], [0, 1]),
        small("an empty block after a good one", 2, s[0] + block(1, 0, 0) + s[1], [landed(0), landed(1)], [0, 1]),
        small("keep-alives", 2, KEEP_ALIVE * 3 + s[0] + KEEP_ALIVE + s[1] + KEEP_ALIVE, [landed(0), landed(1)], [0, 1]),
        small("every message", 0, every_message, [event for _, event in EVENTS_OF_SMALL], []),
        small("unknown messages", 1, message(99, bytes(50)) + message(24, bytes(48)) + message(255) + message(10)
              + s[0],
              [landed(0)], [0]),
    ]  # fmt: skip
    for data, event in [*EVENTS_OF_SMALL[:7], (have(8), (4, 8)), (message(20, b"\1abc"), (20, 1, b"abc"))]:
        for before in range(4):
            stream = b"".join(s[:before]) + data + b"".join(s[before:3])
            events = [*(landed(i) for i in range(before)), event, *(landed(i) for i in range(before, 3))]
            cases.append(small(f"message {event} before block {before}", 3, stream, events, [0, 1, 2]))
    indirect = Case(
        "direct and indirect by turns",
        {i: SMALL for i in range(4)},
        [Request(0, 0, SMALL), Request(1, 0, SMALL, False), Request(2, 0, SMALL, False), Request(3, 0, SMALL)],
        s[0] + s[1] + s[2] + s[3],
        [landed(0), (BLOCK_EVENT, 1, 0, content(1, 0, SMALL)), (BLOCK_EVENT, 2, 0, content(2, 0, SMALL)), landed(3)],
        [(0, 0, SMALL), (3, 0, SMALL)],
    )
    cases.append(indirect)
    cases.append(
        indirect._replace(
            name="indirect out of order",
            data=s[2] + s[3] + s[1] + s[0],
            events=[indirect.events[2], indirect.events[3], indirect.events[1], indirect.events[0]],
        )
    )
    cases.append(
        small("cancelled before it came", 3, b"".join(s[:3]), [landed(0), landed(2)], [0, 2],
              before=lambda stream: stream.cancel(1, 0, SMALL))
    )  # fmt: skip
    return cases


def large_cases() -> list[Case]:
    tail = 3 * BLOCK + 100
    pieces = [whole(i, tail) for i in range(3)]
    asked = [Request(i, 0, tail) for i in range(3)]
    slots = {i: tail for i in range(3)}
    lands = [place for p in pieces for place in p[2]]
    many = 80 * BLOCK  # more than one readv predicts
    noisy = b"".join(
        have(i) + block(i, at, n) + KEEP_ALIVE + message(0) for i in range(3) for at, n in blocks_of(0, tail)
    )
    noisy_events: list[Event] = [
        event for i in range(3) for at, n in blocks_of(0, tail) for event in [(4, i), (7, i, at, n), (0,)]
    ]
    swapped = [(i, at, n) for i in range(3) for at, n in [*reversed(list(blocks_of(0, tail)))]]
    return [
        Case("pieces in order", slots, asked, b"".join(p[0] for p in pieces), [e for p in pieces for e in p[1]], lands),
        Case("a long piece", {5: many}, [Request(5, 0, many)], *whole(5, many)),
        Case("a run at a time", {5: tail}, [Request(5, 0, BLOCK), Request(5, BLOCK, tail - BLOCK)], *whole(5, tail)),
        Case("messages between all blocks", slots, asked, noisy, noisy_events, lands),
        Case("each piece backwards", slots, asked, b"".join(block(*b) for b in swapped),
             [(7, *b) for b in swapped], lands),
        Case("the last piece first", slots, asked, b"".join(p[0] for p in pieces[::-1]),
             [e for p in pieces[::-1] for e in p[1]], lands),
        Case("a block of the middle first", {0: tail}, [Request(0, 0, tail)],
             block(0, BLOCK) + block(0, 0) + block(0, 3 * BLOCK, 100) + block(0, 2 * BLOCK),
             [(7, 0, BLOCK, BLOCK), (7, 0, 0, BLOCK), (7, 0, 3 * BLOCK, 100), (7, 0, 2 * BLOCK, BLOCK)],
             whole(0, tail)[2]),
        Case("a block of the largest size that nobody wants", {0: tail}, [Request(0, 0, tail)],
             piece(0, 0, bytes(131072)) + whole(0, tail)[0] + piece(1, 0, bytes(131072)), *whole(0, tail)[1:]),
        Case("a long bitfield", {0: tail}, [Request(0, 0, tail)], message(5, bytes(100_000)) + whole(0, tail)[0],
             [(5, bytes(100_000)), *whole(0, tail)[1]], whole(0, tail)[2]),
        Case("indirect", {0: tail}, [Request(0, 0, tail, False)], whole(0, tail)[0],
             aside(0, tail), []),
        Case("indirect between direct", {0: tail, 1: tail},
             [Request(0, 0, BLOCK), Request(1, 0, tail, False), Request(0, BLOCK, tail - BLOCK)],
             block(0, 0) + whole(1, tail)[0] + b"".join(block(*b) for b in pieces[0][2][1:]),
             [(7, 0, 0, BLOCK), *aside(1, tail), *pieces[0][1][1:]], whole(0, tail)[2]),
    ]  # fmt: skip


def bad_cases() -> list[Case]:
    """Each is one good block and then something that must end the stream."""
    good = block(0, 0, SMALL)
    wrong = {
        "a length of 4 GiB": b"\xff\xff\xff\xff\x05",
        "an unknown message of 4 GiB": b"\xff\xff\xff\xff\x63",
        "a piece message of 4 GiB": b"\xff\xff\xff\xff\x07",
        "a piece message without room for its header": struct.pack(">IB", 8, 7),
        "a block of more than 128 KiB": struct.pack(">IB", 9 + 131073, 7),
        "a long choke": message(0, b"x"),
        "a long have_all": message(14, b"x"),
        "a short have": message(4, b"abc"),
        "a long have": message(4, b"abcde"),
        "an empty have": message(4),
        "a short request": message(6, bytes(11)),
        "a long cancel": message(8, bytes(13)),
        "a short reject": message(16, bytes(8)),
        "a long port": message(9, bytes(3)),
        "a long bitfield": struct.pack(">IB", 1 + 11, 5),
        "an extended message without its id": message(20),
        "an extended message of more than 1 MiB": struct.pack(">IB", (1 << 20) + 2, 20),
        "a short hash request": message(21, bytes(47)),
        "a long hash reject": message(23, bytes(49)),
        "hashes without all of their head": message(22, bytes(47)),
        "hashes that are not whole": message(22, bytes(48 + 33)),
        "hashes of 4 GiB": b"\xff\xff\xff\xf1\x16",
        "more hashes than we ever ask for": struct.pack(">IB", 1 + 48 + 32 * 577, 22),
        "an unknown message of more than 1 MiB": struct.pack(">IB", (1 << 20) + 2, 98),
    }
    return [
        small(name, 2, good + data + block(1, 0, SMALL), [landed(0)], [0], closes=True, bitfield_limit=10)
        for name, data in wrong.items()
    ]


@pytest.mark.parametrize("case", small_cases(), ids=lambda case: case.name)
def test_small_streams_at_every_cut(case: Case) -> None:
    run_case(case)


@pytest.mark.parametrize("case", large_cases(), ids=lambda case: case.name)
def test_large_streams_at_random_cuts(case: Case) -> None:
    run_case(case)


@pytest.mark.parametrize("case", bad_cases(), ids=lambda case: case.name)
def test_what_breaks_the_protocol_ends_the_stream_with_a_reason(case: Case) -> None:
    run_case(case)


def test_blocks_byte_by_byte() -> None:
    length = BLOCK + 10
    arena = Arena.create(2 * BLOCK)
    slot = allocated(arena, length)
    with Pair() as pair:
        pair.stream.request(0, 0, length, slot)
        data, events, _ = whole(0, length)
        assert expand(pair.feed_cut(data, [1] * len(data))) == events
    assert bytes(slot) == content(0, 0, BLOCK) + content(0, BLOCK, 10)


def test_blocks_that_come_in_one_read_are_one_event() -> None:
    arena = Arena.create(8 * BLOCK)
    slot = allocated(arena, 4 * BLOCK)
    with Pair() as pair:
        pair.stream.request(3, 0, 4 * BLOCK, slot)
        assert pair.feed(whole(3, 4 * BLOCK)[0]) == [(7, 3, 0, 4 * BLOCK)]
        assert (pair.stream.payload, pair.stream.wasted, pair.stream.messages) == (4 * BLOCK, 0, 4)


@pytest.mark.parametrize("size", [BLOCK, 65536, 65537, 100_000, 131072])
@pytest.mark.parametrize("ahead", [0, 1, 500])
def test_payload_that_looks_like_an_expected_block_is_payload(size: int, ahead: int) -> None:
    """Of a block that nobody wants, filled with headers of one that somebody does."""
    slot = allocated(Arena.create(4 * BLOCK), BLOCK)
    header = block(0, 0)[:13]
    for shift in range(13):
        with Pair() as pair:
            pair.stream.request(0, 0, BLOCK, slot)
            unwanted = piece(9, 0, (b"?" * shift + header * (size // 13 + 1))[:size])
            assert pair.feed(unwanted[: 13 + ahead]) == []
            assert pair.feed(unwanted[13 + ahead :]) == []
            assert (pair.stream.payload, pair.stream.wasted, pair.stream.outstanding) == (0, size, BLOCK)
            assert pair.feed(block(0, 0)) == [(7, 0, 0, BLOCK)]
            assert bytes(slot) == content(0, 0, BLOCK)


def test_unwanted_blocks_are_counted_as_wasted() -> None:
    with Pair() as pair:
        assert pair.feed(block(0, 0, 500) + have(1)) == [(4, 1)]
        assert (pair.stream.payload, pair.stream.wasted, pair.stream.messages) == (0, 500, 2)


def test_over_tcp_from_one_write_to_the_next() -> None:
    arena = Arena.create(64 * BLOCK)
    slot = allocated(arena, 60 * BLOCK)
    with Pair(tcp=True) as pair:
        pair.stream.request(0, 0, 60 * BLOCK, slot)
        data, events, _ = whole(0, 60 * BLOCK)
        assert expand(pair.feed_cut(data, [50_000] * 40)) == events
        assert bytes(slot) == b"".join(content(0, at, n) for at, n in blocks_of(0, 60 * BLOCK))


@pytest.mark.parametrize("after", [b"", have(3), have(3) + message(1)])
def test_handshake_at_every_cut_with_messages_behind_it(after: bytes) -> None:
    events: list[Event] = [(INFO_HASH_EVENT, HANDSHAKE[:48]), (HANDSHAKE_EVENT, HANDSHAKE)]
    events += [(4, 3), (1,)][: {0: 0, 9: 1, 14: 2}[len(after)]]
    data = HANDSHAKE + after
    for name, sizes in cuts(len(data)):
        with Pair(handshake=False) as pair:
            assert pair.feed_cut(data, sizes) == events, name


def test_the_info_hash_comes_out_before_the_peer_id_is_there() -> None:
    with Pair(handshake=False) as pair:
        assert pair.feed(HANDSHAKE[:47]) == []
        assert pair.feed(HANDSHAKE[47:50]) == [(INFO_HASH_EVENT, HANDSHAKE[:48])]
        assert pair.feed(HANDSHAKE[50:67]) == []
        assert pair.feed(HANDSHAKE[67:] + message(14)) == [(HANDSHAKE_EVENT, HANDSHAKE), (14,)]


def test_an_end_in_the_middle_of_a_block_is_told_after_what_came_before() -> None:
    arena = Arena.create(8 * BLOCK)
    slot = allocated(arena, 3 * BLOCK)
    with Pair() as pair:
        pair.stream.request(0, 0, 3 * BLOCK, slot)
        assert pair.feed(block(0, 0) + block(0, BLOCK)[:5000]) == [(7, 0, 0, BLOCK)]
        pair.peer.close()
        assert pair.stream.handle_readable() == [(CLOSED_EVENT, "closed by the peer")]
        assert pair.stream.error == "closed by the peer"
        assert pair.stream.handle_readable() == []
        assert pair.stream.cancel(0, 0, 3 * BLOCK, tell=False) == 2 * BLOCK
    del pair, slot
    assert arena.used == 0


def test_data_and_the_end_in_one_wake_up() -> None:
    with Pair() as pair:
        pair.peer.sendall(have(1) + have(2)[:5])
        pair.peer.shutdown(socket.SHUT_WR)
        events = pair.stream.handle_readable() + pair.stream.handle_readable()
        assert events == [(4, 1), (CLOSED_EVENT, "closed by the peer")]


def test_a_reset_is_told_with_its_reason() -> None:
    with Pair(tcp=True) as pair:
        pair.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        pair.peer.close()
        assert pair.stream.handle_readable() == [(CLOSED_EVENT, "Connection reset by peer")]


def test_a_descriptor_that_is_none_is_told_with_its_reason() -> None:
    assert PeerStream(2**30).handle_readable() == [(CLOSED_EVENT, "Bad file descriptor")]


def test_one_wake_up_does_not_read_for_ever() -> None:
    arena = Arena.create(4 << 20)
    slot = allocated(arena, 4 << 20)
    with Pair() as pair:
        for s in (pair.ours, pair.peer):
            s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 << 20)
        pair.stream.request(0, 0, 4 << 20, slot)
        pair.peer.setblocking(False)
        sent = pair.peer.send(whole(0, 4 << 20)[0])
        pair.stream.handle_readable()
        assert pair.stream.received <= 68 + min(sent, 2 << 20)


@pytest.mark.parametrize("most", [1, 12, 14, 1000, BLOCK, 100_000])
def test_a_wake_up_reads_no_more_than_it_may(most: int) -> None:
    arena = Arena.create(1 << 20)
    slot = allocated(arena, 4 * BLOCK)
    data = whole(0, 4 * BLOCK)[0]
    with Pair() as pair:
        pair.stream.request(0, 0, 4 * BLOCK, slot)
        events = pair.feed(have(3) + data + have(4), most)
        assert expand(events) == [(4, 3), *((7, 0, n * BLOCK, BLOCK) for n in range(4)), (4, 4)]
        assert bytes(slot) == b"".join(content(0, n * BLOCK, BLOCK) for n in range(4))
        assert pair.feed(b"") == []
        pair.peer.send(have(5))
        assert pair.stream.handle_readable(0) == []
        assert pair.stream.handle_readable() == [(4, 5)]


def test_what_a_peer_promises_takes_no_memory() -> None:
    with Pair() as pair:
        start = sys.getsizeof(pair.stream)
        assert pair.feed(struct.pack(">IB", 1 + (2 << 20), 5) + b"\xff" * 10) == []
        assert sys.getsizeof(pair.stream) <= start + 64
        assert pair.feed(b"\xff" * 5000) == []
        assert sys.getsizeof(pair.stream) <= start + 16384


def test_an_idle_stream_is_small_also_after_it_was_busy() -> None:
    arena = Arena.create(1 << 20)
    slot = allocated(arena, 1 << 20)
    with Pair() as pair:
        assert sys.getsizeof(pair.stream) < 1024
        pair.feed(message(5, bytes(60000)) + message(20, b"\0" + bytes(30000)))
        pair.stream.request(0, 0, 1 << 20, slot)
        assert pair.stream.flush()
        for at, n in blocks_of(0, 1 << 20):
            pair.feed(block(0, at, n))
        assert pair.stream.outstanding == 0
        assert sys.getsizeof(pair.stream) < 2048


def test_messages_flood_in_any_number() -> None:
    with Pair() as pair:
        count = 20_000
        events = pair.feed_cut(have(7) * count, [65536] * 100)
        assert events == [(4, 7)] * count
        assert pair.stream.messages == count
