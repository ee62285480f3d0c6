"""Fetching metadata: shared work, liars found, claims bounded, nobody waited for without end."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from btfast.errors import RemoteError
from btfast.swarm import metadata as module
from btfast.swarm.metadata import LIMIT, PIECE, REST, SLOW, UNANSWERED, MetadataFetch, Room

REAL = random.Random(7).randbytes(5 * PIECE + 100)
WRONG = bytes(len(REAL))
Answer = Callable[[int], bytes | None]


def piece_of(data: bytes, piece: int) -> bytes:
    return data[piece * PIECE : (piece + 1) * PIECE]


def serves(data: bytes) -> Answer:
    return lambda piece: piece_of(data, piece)


class Bench:
    """A fetch and its peers, on a clock of its own."""

    def __init__(self, data: bytes = REAL, *, room: int = 1 << 30, limit: int = LIMIT) -> None:
        self.now = 100.0
        self.room = Room(room)
        self.whole_room = room
        self.fetch = MetadataFetch(lambda got: got == data, self.room, self.now, limit=limit)
        self.answers: dict[int, Answer] = {}
        self.asked: list[tuple[int, int]] = []
        self.banned: set[int] = set()

    def add(self, number: int, size: int | None, answer: Answer) -> None:
        self.answers[number] = answer
        self.fetch.peer_joined(number, size, self.now)

    def turn(self) -> bool:
        """Asks, and lets those that have an answer answer. Whether anything was asked."""
        requests = self.fetch.poll_requests(self.now)
        self.asked += requests
        for number, piece in requests:
            if number not in self.answers:
                continue
            data = self.answers[number](piece)
            if data is not None:
                self.fetch.handle_data(number, piece, None, data, self.now)
            self.ban()
        return bool(requests)

    def ban(self) -> None:
        for number in self.fetch.poll_liars():
            assert number not in self.banned
            self.banned.add(number)
            self.answers.pop(number, None)
            self.fetch.peer_left(number)

    def run(self, seconds: float = 0.0) -> bytes | None:
        """Until there is nothing more to ask, letting so much time pass."""
        until = self.now + seconds
        while self.fetch.metadata is None:
            if not self.turn():
                if self.now >= until:
                    break
                self.now += 1.0
        self.ban()
        return self.fetch.metadata


def test_one_peer_is_enough() -> None:
    bench = Bench()
    bench.add(1, len(REAL), serves(REAL))
    assert bench.run() == REAL
    assert sorted(bench.asked) == [(1, piece) for piece in range(6)]
    assert bench.room.free == bench.whole_room
    assert bench.fetch.poll_requests(bench.now) == []


def test_several_peers_share_the_pieces() -> None:
    bench = Bench()
    for number in range(3):
        bench.add(number, len(REAL), serves(REAL))
    assert bench.run() == REAL
    assert sorted(piece for _, piece in bench.asked) == list(range(6))
    assert {number for number, _ in bench.asked} == {0, 1, 2}


def test_metadata_of_whole_pieces_and_of_one_byte() -> None:
    for data in (REAL[: 2 * PIECE], REAL[:PIECE], b"x"):
        bench = Bench(data)
        bench.add(1, len(data), serves(data))
        assert bench.run() == data


def test_a_peer_is_not_asked_for_everything_at_once() -> None:
    bench = Bench(random.Random(1).randbytes(100 * PIECE))
    bench.fetch.peer_joined(1, 100 * PIECE, bench.now)
    assert len(bench.fetch.poll_requests(bench.now)) == module.FIRST_WINDOW
    assert bench.fetch.poll_requests(bench.now) == []


def test_a_peer_that_bears_one_request_is_asked_for_one_piece_after_the_other() -> None:
    """rTorrent 0.9.8 reads nothing more after a second one."""
    bench = Bench()
    bench.answers[1] = serves(REAL)
    bench.fetch.peer_joined(1, len(REAL), bench.now, most=1)
    while bench.fetch.metadata is None:
        before = len(bench.asked)
        assert bench.turn()
        assert len(bench.asked) == before + 1
    assert bench.fetch.metadata == REAL


def test_a_slow_peers_piece_is_asked_from_another_as_well() -> None:
    bench = Bench(REAL[:PIECE])
    bench.add(1, PIECE, lambda piece: None)
    bench.add(2, PIECE, serves(REAL))
    first = bench.fetch.poll_requests(bench.now)
    assert first == [(1, 0)]
    bench.now += SLOW + 1
    assert bench.run() == REAL[:PIECE]
    assert bench.asked == [(2, 0)]


def test_a_peer_that_leaves_gives_its_pieces_to_others() -> None:
    bench = Bench()
    bench.fetch.peer_joined(1, len(REAL), bench.now)
    assert len(bench.fetch.poll_requests(bench.now)) == 2
    bench.fetch.peer_left(1)
    bench.add(2, len(REAL), serves(REAL))
    assert bench.run() == REAL


def test_a_reject_means_not_now() -> None:
    bench = Bench(REAL[:PIECE])
    bench.fetch.peer_joined(1, PIECE, bench.now)
    assert bench.fetch.poll_requests(bench.now) == [(1, 0)]
    bench.fetch.handle_reject(1, 0, bench.now)
    assert bench.fetch.rejects == 1
    assert bench.fetch.poll_requests(bench.now + REST - 1) == []
    bench.now += REST
    bench.answers[1] = serves(REAL)
    assert bench.run() == REAL[:PIECE]


def test_a_reject_of_what_was_not_asked_changes_nothing() -> None:
    bench = Bench()
    bench.add(1, len(REAL), serves(REAL))
    bench.fetch.handle_reject(1, 3, bench.now)
    bench.fetch.handle_reject(9, 0, bench.now)
    assert bench.run() == REAL


def test_who_never_delivers_is_left_alone_for_a_while() -> None:
    bench = Bench()
    bench.fetch.peer_joined(1, len(REAL), bench.now)
    assert bench.run() is None
    bench.now += UNANSWERED + 1
    assert bench.fetch.poll_requests(bench.now) == []
    assert bench.fetch.unanswered == 1
    assert bench.fetch.poll_requests(bench.now + REST) != []
    assert bench.fetch.progress_at == 100.0


def test_a_lone_liar_is_found_at_once() -> None:
    bench = Bench()
    bench.add(1, len(WRONG), serves(WRONG))
    assert bench.run(1) is None
    assert bench.banned == {1}
    bench.add(2, len(REAL), serves(REAL))
    assert bench.run() == REAL
    assert bench.banned == {1}


def test_a_liar_among_others_is_found_by_asking_each_alone() -> None:
    bench = Bench()
    bench.add(1, len(WRONG), serves(WRONG))
    for number in (2, 3, 4):
        bench.add(number, len(REAL), serves(REAL))
    assert bench.run() == REAL
    assert bench.banned == {1}


def test_a_liar_that_left_is_convicted_by_what_it_had_sent() -> None:
    bench = Bench(REAL[: 2 * PIECE])
    bench.add(1, 2 * PIECE, lambda piece: bytes(PIECE))
    bench.add(2, 2 * PIECE, serves(REAL))
    assert bench.turn()  # a piece each, and the hash is wrong
    assert bench.fetch.metadata is None
    bench.answers.pop(1)
    bench.fetch.peer_left(1)
    assert bench.run() == REAL[: 2 * PIECE]
    assert bench.banned == {1}


def test_one_wrong_byte_is_enough() -> None:
    almost = REAL[:-1] + bytes([REAL[-1] ^ 1])
    bench = Bench()
    for number in range(4):
        bench.add(number, len(REAL), serves(almost if number == 2 else REAL))
    assert bench.run() == REAL
    assert bench.banned <= {2}


def test_many_liars_cannot_hide_one_honest_peer() -> None:
    bench = Bench()
    for number in range(50):
        bench.add(number, len(REAL), serves(REAL if number == 31 else random.Random(number).randbytes(len(REAL))))
    assert bench.run(60) == REAL
    assert 31 not in bench.banned


def test_a_crowd_with_another_size_does_not_keep_an_honest_peer_waiting() -> None:
    bench = Bench()
    for number in range(20):
        bench.add(number, 3 * PIECE, lambda piece: None)
    bench.add(50, len(REAL), serves(REAL))
    assert bench.run() == REAL


def test_many_sizes_are_tried_in_turn() -> None:
    bench = Bench()
    for number in range(20):
        bench.add(number, PIECE + number, lambda piece: None)
    bench.add(50, len(REAL), serves(REAL))
    assert bench.run(20 * (UNANSWERED + 2)) == REAL


def test_what_is_too_large_is_never_asked_for() -> None:
    bench = Bench()
    bench.add(1, 4 << 30, serves(REAL))
    bench.add(2, LIMIT + 1, serves(REAL))
    assert bench.run(100) is None
    assert bench.asked == []
    assert bench.fetch.oversize == 4 << 30


def test_who_does_not_know_the_size_is_asked_later() -> None:
    bench = Bench(REAL[:PIECE])
    bench.fetch.peer_joined(1, None, bench.now)
    assert bench.fetch.poll_requests(bench.now) == []
    bench.now += module.PROBE
    assert bench.fetch.poll_requests(bench.now) == [(1, 0)]
    bench.fetch.handle_data(1, 0, PIECE, REAL[:PIECE], bench.now)
    bench.answers[1] = serves(REAL)
    assert bench.run() == REAL[:PIECE]


def test_who_still_does_not_know_it_is_not_asked_all_the_time() -> None:
    bench = Bench()
    bench.fetch.peer_joined(1, None, bench.now)
    bench.now += module.PROBE
    for _ in range(5):
        assert bench.fetch.poll_requests(bench.now) == [(1, 0)]
        bench.fetch.handle_reject(1, 0, bench.now)
        assert bench.fetch.poll_requests(bench.now + REST - 1) == []
        bench.now += REST
    assert bench.fetch.poll_requests(bench.now) == [(1, 0)]
    bench.fetch.handle_data(1, 0, 4 << 30, b"", bench.now)
    assert bench.fetch.poll_requests(bench.now + 1) == []


def test_a_peer_may_say_its_size_later_or_anew() -> None:
    bench = Bench()
    bench.fetch.peer_joined(1, None, bench.now)
    bench.fetch.peer_joined(1, 10 * PIECE, bench.now)
    assert bench.fetch.poll_requests(bench.now) != []
    bench.add(1, len(REAL), serves(REAL))
    assert bench.run() == REAL


def test_an_empty_last_piece_is_left_to_another_peer() -> None:
    data = REAL[: 2 * PIECE]
    bench = Bench(data)
    bench.add(1, len(data), lambda piece: piece_of(data, piece) if piece == 0 else b"")
    bench.add(2, len(data), lambda piece: None if bench.now < 105 else piece_of(data, piece))
    assert bench.run(60) == data
    assert bench.banned == set()


def test_pieces_of_wrong_lengths_again_and_again_end_it() -> None:
    bench = Bench()
    bench.add(1, len(REAL), lambda piece: b"short")
    with pytest.raises(RemoteError, match="wrong lengths"):
        bench.run(200)


def test_a_flood_of_what_nobody_asked_for_ends_it() -> None:
    bench = Bench()
    bench.fetch.peer_joined(1, len(REAL), bench.now)

    def flood() -> None:
        for _ in range(1000):
            bench.fetch.handle_data(1, 5, None, bytes(100), bench.now)

    with pytest.raises(RemoteError, match="nobody asked for"):
        flood()
    assert bench.fetch.received == 0


def test_what_is_held_stays_within_the_room() -> None:
    bench = Bench(room=3 * PIECE)
    bench.add(1, len(REAL), serves(REAL))
    assert bench.run(20) is None
    assert bench.room.free <= bench.whole_room
    bench.room.free += 10 * PIECE  # somebody else has finished
    bench.whole_room += 10 * PIECE
    assert bench.run(20) == REAL
    assert bench.room.free == bench.whole_room


def test_closing_gives_the_memory_back() -> None:
    bench = Bench()
    bench.add(1, len(REAL), lambda piece: piece_of(REAL, piece) if piece < 3 else None)
    assert bench.run() is None
    assert bench.room.free < bench.whole_room
    bench.fetch.close()
    assert bench.room.free == bench.whole_room


@pytest.mark.parametrize("seed", range(60))
def test_any_mix_of_peers_ends_well(seed: int) -> None:
    """Honest ones, liars, mute ones, ones that reject, leave, come late: the metadata comes, no honest peer is banned."""
    rng = random.Random(seed)
    data = rng.randbytes(rng.randrange(1, 12 * PIECE))
    bench = Bench(data)
    honest = set()
    for number in range(rng.randrange(2, 12)):
        size = len(data) if rng.random() < 0.7 else rng.randrange(1, 12 * PIECE)
        kind = rng.choice(["honest", "liar", "mute", "subtle"]) if number else "honest"
        if kind == "honest":
            honest.add(number)
            bench.add(number, len(data), lambda piece: piece_of(data, piece) if rng.random() < 0.9 else None)
        elif kind == "mute":
            bench.add(number, size, lambda piece: None)
        elif kind == "liar":
            lie = rng.randbytes(size)
            bench.add(number, size, serves(lie))
        else:
            position = rng.randrange(len(data))
            lie = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
            bench.add(number, len(data), serves(lie))
    for _ in range(5000):
        if bench.fetch.metadata is not None:
            break
        if not bench.turn():
            bench.now += 1.0
        leaver = rng.randrange(1, 12)
        if rng.random() < 0.05 and leaver in bench.answers:
            bench.fetch.peer_left(leaver)
            bench.answers.pop(leaver)
    bench.ban()
    assert bench.fetch.metadata == data
    assert bench.banned.isdisjoint(honest)
    assert bench.room.free == bench.whole_room
