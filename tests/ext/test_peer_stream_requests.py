"""What a PeerStream asks for and takes back: the bytes it sends, what it still waits for, and where it may write."""

from __future__ import annotations

import gc

import pytest
from stream_harness import (
    BLOCK,
    CANARY,
    Pair,
    allocated,
    block,
    blocks_of,
    content,
    cuts,
    expand,
    have,
    message,
    triple,
)

from btfast._arena import Arena, Slot
from btfast._peer_stream import BLOCK_EVENT

LENGTH = 4 * BLOCK + 200


def canary_slot(length: int = LENGTH) -> Slot:
    slot = allocated(Arena.create((length // 4096 + 1) * 4096), length)
    slot.write(0, bytes([CANARY]) * length)
    return slot


def requests(kind: int, index: int, begin: int, length: int) -> bytes:
    return b"".join(triple(kind, index, at, n) for at, n in blocks_of(begin, length))


def test_a_run_is_sent_as_one_request_a_block() -> None:
    with Pair() as pair:
        pair.stream.request(7, 0, LENGTH, canary_slot())
        pair.stream.request(8, BLOCK, 2 * BLOCK, canary_slot())
        assert pair.stream.unsent == 7 * 17
        assert pair.stream.flush()
        assert pair.sent() == requests(6, 7, 0, LENGTH) + requests(6, 8, BLOCK, 2 * BLOCK)
        assert (pair.stream.unsent, pair.stream.sent, pair.stream.outstanding) == (0, 7 * 17, LENGTH + 2 * BLOCK)


@pytest.mark.parametrize(
    ("begin", "length"),
    [(0, 0), (1, BLOCK), (BLOCK // 2, 100), (0, LENGTH + 1), (4 * BLOCK, 201), (5 * BLOCK, 1), (2**32 - BLOCK, BLOCK)],
)
def test_a_run_that_does_not_fit_its_slot_is_refused(begin: int, length: int) -> None:
    with Pair() as pair:
        with pytest.raises(ValueError, match="slot"):
            pair.stream.request(0, begin, length, canary_slot())
        assert (pair.stream.outstanding, pair.stream.unsent, pair.stream.open_runs()) == (0, 0, [])


@pytest.mark.parametrize("arguments", [(-1, 0, 5), (0, -1, 5), (0, 0, -1), (2**32, 0, 5), (0, 0, 2**32)])
def test_numbers_that_do_not_fit_the_protocol_are_refused(arguments: tuple[int, int, int]) -> None:
    with Pair() as pair:
        with pytest.raises(OverflowError):
            pair.stream.request(*arguments, canary_slot())
        with pytest.raises(OverflowError):
            pair.stream.cancel(*arguments)
    with Pair() as pair, pytest.raises(TypeError):
        pair.stream.request(0, 0, 5, None)  # type: ignore[arg-type]


def test_open_runs_shrink_as_blocks_begin() -> None:
    slot = canary_slot()
    with Pair() as pair:
        pair.stream.request(3, 0, LENGTH, slot)
        pair.feed(block(3, 0) + block(3, BLOCK)[:12])
        assert pair.stream.open_runs() == [(3, BLOCK, LENGTH - BLOCK)]
        pair.feed(block(3, BLOCK)[12:13])
        assert pair.stream.open_runs() == [(3, 2 * BLOCK, LENGTH - 2 * BLOCK)]
        assert pair.stream.outstanding == LENGTH - 2 * BLOCK
        pair.feed(block(3, BLOCK)[13:] + block(3, 3 * BLOCK))
        assert pair.stream.open_runs() == [(3, 2 * BLOCK, BLOCK), (3, 4 * BLOCK, 200)]


def test_cancel_sends_the_cancels_of_what_was_open() -> None:
    with Pair() as pair:
        pair.stream.request(3, 0, LENGTH, canary_slot())
        pair.stream.flush()
        pair.sent()
        assert pair.stream.cancel(3, BLOCK, 2 * BLOCK) == 2 * BLOCK
        assert pair.stream.open_runs() == [(3, 0, BLOCK), (3, 3 * BLOCK, BLOCK + 200)]
        assert pair.stream.cancel(3, 0, LENGTH) == 2 * BLOCK + 200
        assert pair.stream.cancel(3, 0, LENGTH) == 0
        pair.stream.flush()
        rest = requests(8, 3, 0, BLOCK) + requests(8, 3, 3 * BLOCK, BLOCK + 200)
        assert pair.sent() == requests(8, 3, BLOCK, 2 * BLOCK) + rest
        assert (pair.stream.outstanding, pair.stream.open_runs()) == (0, [])


def test_cancel_without_telling_sends_nothing() -> None:
    with Pair() as pair:
        pair.stream.request(3, 0, LENGTH, canary_slot())
        pair.stream.flush()
        pair.sent()
        assert pair.stream.cancel(3, 0, LENGTH, tell=False) == LENGTH
        assert pair.stream.flush()
        assert pair.sent() == b""


@pytest.mark.parametrize(
    ("begin", "length", "taken"),
    [
        (0, BLOCK - 1, 0),
        (1, BLOCK, 0),
        (1, 2 * BLOCK, BLOCK),
        (0, BLOCK + 5, BLOCK),
        (4 * BLOCK, 199, 0),
        (4 * BLOCK, 200, 200),
        (4 * BLOCK, 201, 200),
        (0, 2**32 - 1, LENGTH),
        (2**32 - 1, 2**32 - 1, 0),
        (5 * BLOCK, BLOCK, 0),
    ],
)
def test_cancel_takes_only_whole_blocks(begin: int, length: int, taken: int) -> None:
    slot = canary_slot()
    with Pair() as pair:
        pair.stream.request(3, 0, LENGTH, slot)
        assert pair.stream.cancel(4, begin, length) == 0
        assert pair.stream.cancel(3, begin, length) == taken
        assert pair.stream.outstanding == LENGTH - taken
        events = expand(pair.feed(b"".join(block(3, at, n) for at, n in blocks_of(0, LENGTH))))
        assert sum(event[3] for event in events if isinstance(event[3], int)) == LENGTH - taken
        assert pair.stream.wasted == taken


def test_a_cancelled_block_that_comes_anyway_is_thrown_away() -> None:
    slot = canary_slot()
    with Pair() as pair:
        pair.stream.request(3, 0, LENGTH, slot)
        pair.stream.cancel(3, BLOCK, BLOCK)
        everything = b"".join(block(3, at, n) for at, n in blocks_of(0, LENGTH))
        assert pair.feed(everything) == [(7, 3, 0, BLOCK), (7, 3, 2 * BLOCK, 2 * BLOCK + 200)]
        assert (pair.stream.wasted, pair.stream.payload) == (BLOCK, LENGTH - BLOCK)


@pytest.mark.parametrize("got", [0, 1, 1000, BLOCK - 1])
@pytest.mark.parametrize("take_back", ["cancel", "drop_requests"])
def test_a_block_taken_back_while_it_arrives_is_written_no_further(got: int, take_back: str) -> None:
    slot = canary_slot()
    data = block(3, 0)
    with Pair() as pair:
        pair.stream.request(3, 0, 2 * BLOCK, slot)
        pair.feed(data[: 13 + got])
        if take_back == "cancel":
            assert pair.stream.cancel(3, 0, 2 * BLOCK) == 2 * BLOCK
        else:
            pair.stream.drop_requests()
        assert pair.stream.outstanding == 0
        before = bytes(slot)
        assert before[:got] == data[13 : 13 + got]
        assert pair.feed(data[13 + got :] + have(1) + block(3, BLOCK)) == [(4, 1)]
        assert bytes(slot) == before
        assert pair.stream.wasted == 2 * BLOCK


def test_what_was_dropped_lets_go_of_its_slot_at_once() -> None:
    slot = canary_slot()
    arena = slot.arena
    with Pair() as pair:
        pair.stream.request(3, 0, LENGTH, slot)
        pair.feed(block(3, 0)[:100])
        del slot
        assert arena.used > 0
        pair.stream.drop_requests()
        assert arena.used == 0
        assert pair.feed(block(3, 0)[100:]) == []


def test_each_end_of_a_stream_lets_go_of_its_slots() -> None:
    slot = canary_slot()
    arena = slot.arena
    pair = Pair()
    for index in range(40):
        pair.stream.request(index, 0, LENGTH, slot, direct=index % 3 != 0)
    pair.feed(block(1, BLOCK) + block(0, 0) + block(39, 0)[:500])
    cycle: list[object] = [pair.stream, slot]
    cycle.append(cycle)
    pair.close()
    del pair, slot, cycle
    gc.collect()
    assert arena.used == 0


def test_after_drop_requests_the_stream_goes_on() -> None:
    slot = canary_slot()
    with Pair() as pair:
        pair.stream.request(3, 0, LENGTH, slot)
        assert pair.feed(message(0)) == [(0,)]
        pair.stream.drop_requests()
        assert pair.feed(message(1)) == [(1,)]
        pair.stream.request(3, BLOCK, BLOCK, slot)
        assert pair.feed(block(3, 0) + block(3, BLOCK)) == [(7, 3, BLOCK, BLOCK)]
        assert bytes(slot)[BLOCK : 2 * BLOCK] == content(3, BLOCK, BLOCK)


def test_requests_made_while_a_predicted_header_is_cut() -> None:
    slot, other = canary_slot(), canary_slot()
    data = block(3, 0) + block(3, BLOCK)
    for cut in range(1, 13):
        with Pair() as pair:
            pair.stream.request(3, 0, BLOCK, slot)
            pair.stream.request(3, BLOCK, BLOCK, slot)
            assert pair.feed(data[: 13 + BLOCK + cut]) == [(7, 3, 0, BLOCK)]
            pair.stream.request(4, 0, LENGTH, other)
            pair.stream.cancel(3, BLOCK, BLOCK)
            before = bytes(slot)
            rest = data[13 + BLOCK + cut :]
            assert expand(pair.feed(rest + block(4, 0))) == [(7, 4, 0, BLOCK)]
            assert bytes(slot) == before
            assert pair.stream.wasted == BLOCK


def test_an_indirect_block_comes_as_bytes_and_leaves_the_slot_alone() -> None:
    slot = canary_slot()
    with Pair() as pair:
        pair.stream.request(3, BLOCK, BLOCK, slot, direct=False)
        assert pair.feed(block(3, BLOCK)[:5000]) == []
        assert pair.feed(block(3, BLOCK)[5000:]) == [(BLOCK_EVENT, 3, BLOCK, content(3, BLOCK, BLOCK))]
        assert pair.stream.payload == BLOCK
    assert bytes(slot) == bytes([CANARY]) * LENGTH


def test_an_indirect_block_cancelled_while_it_arrives_is_thrown_away() -> None:
    slot = canary_slot()
    with Pair() as pair:
        pair.stream.request(3, BLOCK, BLOCK, slot, direct=False)
        pair.feed(block(3, BLOCK)[:5000])
        assert pair.stream.cancel(3, BLOCK, BLOCK) == BLOCK
        assert pair.feed(block(3, BLOCK)[5000:] + have(2)) == [(4, 2)]
        assert (pair.stream.wasted, pair.stream.payload) == (BLOCK, 0)


def test_a_reject_is_told_and_the_block_can_be_taken_back() -> None:
    slot = canary_slot()
    with Pair() as pair:
        pair.stream.request(3, 0, 2 * BLOCK, slot)
        assert pair.feed(triple(16, 3, 0, BLOCK) + block(3, BLOCK)) == [(16, 3, 0, BLOCK), (7, 3, BLOCK, BLOCK)]
        assert pair.stream.cancel(3, 0, BLOCK, tell=False) == BLOCK
        assert pair.stream.outstanding == 0


def test_many_runs_come_and_go_in_any_order() -> None:
    arena = Arena.create(1 << 20)
    slot = allocated(arena, 1 << 20)
    with Pair() as pair:
        for index in range(300):
            pair.stream.request(index, 0, 3 * BLOCK, slot)
        for index in range(0, 300, 2):
            assert pair.stream.cancel(index, BLOCK, BLOCK, tell=False) == BLOCK
        left = 300 * 3 - 150
        assert pair.stream.outstanding == left * BLOCK
        for index in range(299, -1, -1):
            begin = 2 * BLOCK if index % 3 else 0
            assert pair.feed(block(index, begin)) == [(7, index, begin, BLOCK)]
        assert pair.stream.outstanding == (left - 300) * BLOCK
        assert sum(n for _, _, n in pair.stream.open_runs()) == (left - 300) * BLOCK


def test_streams_do_not_disturb_one_another() -> None:
    slots = [canary_slot() for _ in range(3)]
    with Pair() as a, Pair() as b, Pair() as c:
        pairs = (a, b, c)
        for pair, slot in zip(pairs, slots, strict=True):
            pair.stream.request(1, 0, LENGTH, slot)
        data = b"".join(block(1, at, n) for at, n in blocks_of(0, LENGTH))
        for at in range(0, len(data), 777):
            for pair in pairs:
                pair.feed(data[at : at + 777])
        assert [pair.stream.payload for pair in pairs] == [LENGTH] * 3
    assert {bytes(slot) for slot in slots} == {b"".join(content(1, at, n) for at, n in blocks_of(0, LENGTH))}


def test_parts_of_one_piece_land_in_slots_of_their_own() -> None:
    data = b"".join(block(7, at, n) for at, n in blocks_of(2 * BLOCK, 3 * BLOCK + 200))
    for name, sizes in cuts(len(data)):
        arena = Arena.create(32 * 4096)
        one, two = arena.allocate(2 * BLOCK, 0, 2 * BLOCK), arena.allocate(BLOCK + 200, 0, 4 * BLOCK)
        assert one is not None
        assert two is not None
        with Pair() as pair:
            pair.stream.request(7, 2 * BLOCK, 2 * BLOCK, one)
            pair.stream.request(7, 4 * BLOCK, BLOCK, two, direct=False)
            pair.stream.request(7, 5 * BLOCK, 200, two)
            events = expand(pair.feed_cut(data, sizes))
        assert events[:2] == [(7, 7, 2 * BLOCK, BLOCK), (7, 7, 3 * BLOCK, BLOCK)], name
        assert events[2] == (BLOCK_EVENT, 7, 4 * BLOCK, content(7, 4 * BLOCK, BLOCK)), name
        assert bytes(one) == content(7, 2 * BLOCK, BLOCK) + content(7, 3 * BLOCK, BLOCK), name
        assert bytes(two) == bytes(BLOCK) + content(7, 5 * BLOCK, 200), name


@pytest.mark.parametrize(("begin", "length"), [(0, BLOCK), (BLOCK, 2 * BLOCK), (3 * BLOCK, 2 * BLOCK), (5 * BLOCK, 1)])
def test_a_run_outside_its_part_of_the_piece_is_refused(begin: int, length: int) -> None:
    slot = Arena.create(16 * 4096).allocate(2 * BLOCK, 0, 2 * BLOCK)
    assert slot is not None
    with Pair() as pair, pytest.raises(ValueError, match="slot"):
        pair.stream.request(0, begin, length, slot)
