"""A web seed on a virtual clock: when it is asked again, what it has, and when it is given up."""

from __future__ import annotations

from btfast.metainfo.geometry import Geometry
from btfast.swarm.web_seed import (
    BROKEN,
    BUSY_WAIT,
    FAST,
    HOPELESS,
    LONGEST_WAIT,
    MOST_RETRY_AFTER,
    STRANGE,
    WIDEST,
    WebSeed,
)

PIECE = 65_536


class Told:
    """A picker that keeps the field of what the peer has, as the real one does."""

    def __init__(self) -> None:
        self.seed: WebSeed
        self.lacks: list[int] = []

    def peer_lacks(self, peer: int, index: int, count: int = 1) -> None:
        assert peer == 5
        self.lacks.extend(lost for lost in range(index, index + count) if self.seed.have.clear(lost))


def seed(*lengths: int) -> tuple[WebSeed, Told]:
    told = Told()
    told.seed = WebSeed(5, "http://h/", Geometry(PIECE, list(lengths or (10 * PIECE,))), told)
    return told.seed, told


def test_failures_are_waited_for_longer_each_time_and_success_forgets_them() -> None:
    one, _ = seed()
    now = 100.0
    waits = []
    for _ in range(12):
        assert one.ready(now)
        one.handle_failure(now, "refused")
        assert not one.ready(now)
        waits.append(one.ready_at - now)
        now = one.ready_at
    assert waits[:4] == [1, 2, 4, 8]
    assert waits[-1] == LONGEST_WAIT
    one.handle_progress(16384)
    one.handle_failure(now, "refused")
    assert one.ready_at == now + 1


def test_it_is_hopeless_after_some_failures_in_a_row_and_again_of_use_after_one_success() -> None:
    one, _ = seed()
    for _ in range(HOPELESS):
        assert not one.exhausted
        one.handle_failure(0.0, "refused")
    assert one.exhausted
    assert not one.gone
    one.handle_progress(1)
    assert not one.exhausted


def test_patience_is_as_long_as_the_server_asks_within_reason() -> None:
    one, _ = seed()
    one.handle_busy(0.0, "503", 30.0)
    assert one.ready_at == 30
    one.handle_busy(30.0, "503", None)
    assert one.ready_at == 30 + BUSY_WAIT
    one.handle_busy(100.0, "503", 1e9)
    assert one.ready_at == 100 + MOST_RETRY_AFTER
    one.handle_busy(5000.0, "503", 0.0)
    assert one.ready_at == 5001
    assert not one.exhausted


def test_the_last_file_is_not_given_up_for_errors_of_the_server() -> None:
    one, _ = seed(PIECE, PIECE)
    assert [one.handle_broken(0, "500") for _ in range(BROKEN)] == [False] * (BROKEN - 1) + [True]
    assert not any(one.handle_broken(1, "500") for _ in range(9))
    assert one.lacking == {0: "500"}


def test_strange_answers_are_counted_until_one_is_right() -> None:
    one, _ = seed()
    for _ in range(STRANGE - 1):
        one.handle_strange(0.0, "lies")
    one.handle_progress(1)
    for _ in range(STRANGE):
        assert not one.gone
        one.handle_strange(0.0, "lies")
    assert one.gone == "lies"


def test_a_file_that_is_not_there_takes_its_pieces_along_and_the_last_one_the_seed() -> None:
    one, told = seed(PIECE + 1, PIECE - 1, 2 * PIECE)
    one.handle_missing(0, "HTTP 404")
    assert told.lacks == [0, 1]
    one.handle_missing(0, "HTTP 404")
    assert told.lacks == [0, 1]
    one.handle_stale(1, "longer")
    assert told.lacks == [0, 1]
    assert one.stale == {1: "longer"}
    assert not one.gone
    one.handle_missing(2, "HTTP 404")
    assert told.lacks == [0, 1, 2, 3]
    assert one.gone == "HTTP 404"
    assert one.newly_lost == [0, 1, 2]


def test_one_wrong_piece_may_be_chance_and_two_are_another_file() -> None:
    one, _ = seed(5 * PIECE, 5 * PIECE)
    assert one.handle_wrong(0) == []
    assert one.handle_wrong(3) == [0]
    other, _ = seed(5 * PIECE)
    assert other.handle_wrong(2) == []
    assert other.handle_wrong(2) == [0]


def test_a_wrong_piece_of_two_files_is_not_laid_to_the_one_that_was_right_so_far() -> None:
    one, _ = seed(2 * PIECE + 1, 2 * PIECE)
    one.handle_right(0)
    one.handle_wrong(2)
    assert one.handle_wrong(2) == [1]
    two, _ = seed(2 * PIECE + 1, 2 * PIECE)
    two.handle_wrong(2, {0})
    assert two.handle_wrong(2, {0}) == [0]


def test_one_connection_is_enough_on_a_short_way_and_several_fill_a_long_one() -> None:
    one, _ = seed()
    one.latency = 0.0005
    assert one.width(0.0, 0) == 1
    assert one.width(2 * FAST, 1) == 1
    assert one.width(FAST / 4, 1) == 2
    one.latency = 0.1
    assert one.width(0.0, 1) == WIDEST
    one.ranges = False
    assert one.width(0.0, 1) == 1
    one.ranges = True
    one.handle_failure(0.0, "x")
    assert one.width(0.0, 1) == 1


def test_requests_are_sent_ahead_until_a_connection_was_closed_under_them() -> None:
    one, _ = seed()
    assert not one.pipelines
    one.handle_kept(kept=True)
    assert one.pipelines
    one.handle_kept(kept=False)
    one.handle_kept(kept=True)
    assert not one.pipelines
