from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btfast.discovery.lsd import (
    A_POLL,
    INTERVAL,
    LEAST,
    MAX_DATAGRAM,
    MAX_HASHES,
    MAX_READ,
    START,
    Dampers,
    LsdSchedule,
    decode_lsd,
    encode_lsd,
    room,
)
from btfast.errors import RemoteError

calm = settings(deadline=None, derandomize=True)
HASHES = [number.to_bytes(20, "big") for number in range(300)]


def test_the_bytes_of_an_announce() -> None:
    assert encode_lsd([bytes(20)], v6=False, port=6881, cookie=b"me") == (
        b"BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\n"
        b"Infohash: 0000000000000000000000000000000000000000\r\ncookie: me\r\n\r\n\r\n"
    )
    assert b"\r\nHost: [ff15::efc0:988f]:6771\r\n" in encode_lsd([bytes(20)], v6=True, port=6881, cookie=b"me")


@pytest.mark.parametrize("v6", [False, True])
def test_as_many_as_fit_come_back(v6: bool) -> None:
    count = room(cookie=b"c" * 16)
    data = encode_lsd(HASHES[:count], v6=v6, port=65535, cookie=b"c" * 16)
    assert MAX_DATAGRAM - 60 < len(data) <= MAX_DATAGRAM
    assert decode_lsd(data) == (65535, tuple(HASHES[:count]), b"c" * 16)


def test_headers_of_others() -> None:
    """libtorrent and aria2 differ in order and case; unknown headers are left, wrong info-hashes too."""
    data = (
        b"BT-SEARCH * HTTP/1.1\r\nHOST:239.192.152.143:6771\r\nX: y\r\nINFOHASH: " + b"Ab" * 20
        + b"\r\ninfohash: short\r\nport:  51413 \r\n\r\n\r\n"
    )  # fmt: skip
    assert decode_lsd(data) == (51413, (b"\xab" * 20,), b"")


@pytest.mark.parametrize(
    "data",
    [
        b"", b"HTTP/1.1 200 OK\r\n", b"BT-SEARCH * HTTP/1.1\r\n\r\n", b"BT-SEARCH * HTTP/1.1\r\nPort: 1\r\n\r\n",
        b"BT-SEARCH * HTTP/1.1\r\nPort: 0\r\nInfohash: " + b"0" * 40, b"BT-SEARCH * HTTP/1.1\r\nInfohash: " + b"0" * 40,
        b"BT-SEARCH * HTTP/1.1\r\nPort: 99999\r\nInfohash: " + b"0" * 40, bytes(MAX_READ + 1),
        b"BT-SEARCH * HTTP/1.1\r\nPort: -1\r\nInfohash: " + b"0" * 40,
    ],
)  # fmt: skip
def test_what_is_no_announce(data: bytes) -> None:
    with pytest.raises(RemoteError, match="it is ignored"):
        decode_lsd(data)


@calm
@given(st.binary(max_size=300))
def test_hostile_bytes_raise_nothing_else(data: bytes) -> None:
    with suppress(RemoteError):
        decode_lsd(b"BT-SEARCH * HTTP/1.1\r\n" + data)


def test_no_more_hashes_are_read_than_some() -> None:
    data = b"BT-SEARCH * HTTP/1.1\r\nPort: 6881\r\n" + b"".join(b"infohash:%b\r\n" % h.hex().encode() for h in HASHES[:75])
    assert len(data) < MAX_READ
    assert len(decode_lsd(data).info_hashes) == MAX_HASHES


def test_a_torrent_is_announced_after_a_while_and_then_every_five_minutes() -> None:
    schedule = LsdSchedule(24)
    schedule.add(HASHES[0], 100.0)
    assert schedule.poll(100.0 + START - 0.1) == []
    assert schedule.poll(100.0 + START) == [[HASHES[0]]]
    assert schedule.poll(100.0 + START + INTERVAL - 0.1) == []
    assert schedule.poll(100.0 + START + INTERVAL) == [[HASHES[0]]]


def test_who_wants_peers_is_announced_once_a_minute() -> None:
    schedule = LsdSchedule(24)
    schedule.add(HASHES[0], 0.0)
    schedule.want(HASHES[0], 0.0)
    times = []
    for second in range(301):
        if schedule.poll(float(second)):
            times.append(second)
        schedule.want(HASHES[0], float(second))
    assert times == [START + minute * LEAST for minute in range(5)]


def test_many_torrents_share_datagrams_which_are_spread() -> None:
    schedule = LsdSchedule(24)
    for info_hash in HASHES:
        schedule.add(info_hash, 0.0)
    sent = [schedule.poll(START + second) for second in range(8)]
    assert [len(batches) for batches in sent] == [A_POLL] * 6 + [1, 0]
    assert [len(batch) for batches in sent for batch in batches] == [24] * 12 + [12]
    assert sorted(one for batches in sent for batch in batches for one in batch) == HASHES


def test_short_torrents_leave_nothing_behind() -> None:
    schedule = LsdSchedule(24)
    for turn in range(10_000):
        schedule.add(HASHES[turn % 300], turn / 100)
        schedule.remove(HASHES[turn % 300])
        assert schedule.poll(turn / 100) == []
    assert len(schedule) == 0
    assert len(schedule._queue) < 500


def test_one_host_is_heard_a_few_times_in_a_while() -> None:
    dampers = Dampers(most=3, seconds=10.0, hosts=2)
    assert [dampers.hears("a", 0.0) for _ in range(5)] == [True] * 3 + [False] * 2
    assert dampers.hears("b", 1.0)
    assert not dampers.hears("c", 1.0)
    assert dampers.hears("a", 10.0)
