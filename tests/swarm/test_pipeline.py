from __future__ import annotations

from btfast.swarm.pipeline import Pipeline

BLOCK = 16384


def serve(pipe: Pipeline, *, rate: float, rtt: float, seconds: float, now: float = 0.0) -> float:
    """A peer that answers in order at `rate` blocks a second, `rtt` away; requests whenever there is room."""
    end = now + seconds
    free_at = now
    due: list[float] = []
    while now < end:
        room = pipe.room(now)
        if room:
            pipe.handle_requested(now, room)
            for _ in range(room):
                free_at = max(free_at, now + rtt / 2) + 1 / rate
                due.append(free_at + rtt / 2)
        if not due:
            break
        now = due.pop(0)
        pipe.handle_received(now, 1)
    return now


def test_a_new_pipeline_asks_for_two_mebibytes() -> None:
    pipe = Pipeline(0.0)
    assert pipe.room(0.0) == 128
    assert (pipe.rate, pipe.rtt) == (0.0, 0.0)


def test_depth_settles_near_the_bandwidth_delay_product() -> None:
    pipe = Pipeline(0.0, reqq=5000)
    serve(pipe, rate=2000.0, rtt=0.1, seconds=4.0)
    assert 200 * 1.3 <= pipe.depth(4.0) <= 200 * 2.5
    assert abs(pipe.rate / BLOCK - 2000) < 100
    assert 0.1 <= pipe.rtt < 0.11


def test_depth_never_passes_reqq() -> None:
    pipe = Pipeline(0.0)
    pipe.set_reqq(100)
    assert pipe.depth(0.0) == 99
    serve(pipe, rate=5000.0, rtt=0.1, seconds=2.0)
    assert pipe.depth(2.0) == 99
    tiny = Pipeline(0.0)
    tiny.set_reqq(1)
    assert tiny.room(0.0) == 1


def test_a_slow_peer_keeps_few_requests_and_gives_the_rest_back() -> None:
    pipe = Pipeline(0.0)
    pipe.handle_requested(0.0, 128)
    now = 0.1
    for _ in range(6):
        pipe.handle_received(now, 1)
        now += 0.4
    assert pipe.depth(now) <= 10
    assert pipe.surplus(now) >= 100
    pipe.handle_returned(pipe.surplus(now))
    assert pipe.surplus(now) == 0
    assert 4 <= pipe.outstanding <= 20


def test_a_peer_that_stops_gives_back_what_waits() -> None:
    pipe = Pipeline(0.0, reqq=5000)
    now = serve(pipe, rate=2000.0, rtt=0.1, seconds=3.0)
    assert pipe.surplus(now + 0.5) == 0
    assert pipe.surplus(now + 10.0) >= pipe.outstanding - 200


def test_a_peer_that_never_answered_gets_one_request_next_time() -> None:
    pipe = Pipeline(0.0)
    pipe.handle_requested(50.0, 128)
    assert pipe.pace(50.5) >= 128 * BLOCK
    assert pipe.pace(60.0) < 128 * BLOCK / 5
    pipe.handle_returned(128)
    assert pipe.room(66.0) == 128
    pipe.handle_requested(66.0, 128)
    assert pipe.depth(66.0) == 1
    assert pipe.pace(66.0) == 0
    pipe.handle_received(66.1, 1)
    assert pipe.depth(66.1) > 100


def test_with_short_memory_everything_above_the_depth_is_surplus() -> None:
    pipe = Pipeline(0.0, reqq=5000)
    now = serve(pipe, rate=200.0, rtt=0.1, seconds=3.0)
    pipe.handle_requested(now, 100)
    assert pipe.surplus(now) == 0
    assert pipe.surplus(now, tight=True) >= 80


def test_crumbs_of_room_are_held_back_until_a_chunk_is_free() -> None:
    pipe = Pipeline(0.0)
    pipe.handle_requested(0.0, 128)
    assert pipe.room(0.0) == 0
    pipe.handle_returned(24)
    assert pipe.room(0.0) == 0
    pipe.handle_returned(8)
    assert pipe.room(0.0) == 32  # a quarter of the depth


def test_silence_for_long_is_snubbed_and_a_block_ends_it() -> None:
    pipe = Pipeline(0.0)
    assert not pipe.snubbed(100.0)
    pipe.handle_requested(100.0, 10)
    assert not pipe.snubbed(114.0)
    assert pipe.snubbed(116.0)
    assert pipe.depth(116.0) == 4
    pipe.handle_received(116.5, 1)
    assert not pipe.snubbed(117.0)


def test_the_time_without_requests_is_no_silence() -> None:
    pipe = Pipeline(0.0)
    pipe.handle_requested(0.0, 1)
    pipe.handle_received(0.1, 1)
    pipe.handle_requested(500.0, 1)
    assert not pipe.snubbed(501.0)


def test_pace_falls_while_requests_wait_in_vain() -> None:
    pipe = Pipeline(0.0, reqq=5000)
    now = serve(pipe, rate=200.0, rtt=0.1, seconds=2.0)
    assert pipe.outstanding
    assert pipe.pace(now) == pipe.rate
    assert pipe.pace(now + 3.0) < pipe.rate / 5


def test_a_reject_lowers_the_limit_to_what_was_accepted() -> None:
    pipe = Pipeline(0.0, reqq=2000)
    pipe.handle_requested(0.0, 128)
    pipe.handle_rejected(28)
    assert pipe.outstanding == 100
    assert pipe.depth(0.0) == 100


def test_a_pause_of_ours_does_not_forget_what_the_peer_can_do() -> None:
    pipe = Pipeline(0.0, reqq=5000)
    now = serve(pipe, rate=2000.0, rtt=0.1, seconds=4.0)
    before = pipe.depth(now)
    pipe.handle_returned(pipe.outstanding)
    assert pipe.depth(now + 60.0) == before
    later = serve(pipe, rate=2000.0, rtt=0.1, seconds=1.0, now=now + 60.0)
    assert pipe.depth(later) >= before * 0.8
