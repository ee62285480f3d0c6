from __future__ import annotations

from btfast.metainfo.addresses import PeerAddress
from btfast.swarm.peers import KnownPeers, Source


def at(number: int, port: int = 6881) -> PeerAddress:
    return PeerAddress(f"10.0.{number >> 8}.{number & 255}", port)


def test_addresses_are_dialed_once_best_source_first() -> None:
    known = KnownPeers()
    assert known.add(at(1), Source.PEX, 0.0)
    assert known.add(at(2), Source.TRACKER, 0.0)
    assert known.add(at(3), Source.OPTION, 0.0)
    assert not known.add(at(2), Source.PEX, 0.0)
    assert [known.next_dial(0.0) for _ in range(4)] == [at(3), at(2), at(1), None]
    assert known.dialing == 3
    assert known.source(at(2)) is Source.TRACKER


def test_half_open_connections_are_limited() -> None:
    known = KnownPeers(half_open=2)
    for number in range(3):
        known.add(at(number), Source.TRACKER, 0.0)
    assert known.next_dial(0.0)
    assert known.next_dial(0.0)
    assert known.next_dial(0.0) is None
    known.connected(at(0))
    assert known.connected_count == 1
    assert known.next_dial(0.0, half_open=1) is None
    assert known.next_dial(0.0) == at(2)


def test_failures_back_off_and_double() -> None:
    known = KnownPeers(backoff=5.0, backoff_cap=60.0)
    known.add(at(1), Source.TRACKER, 0.0)
    now = 0.0
    waits = []
    for _ in range(6):
        assert known.next_dial(now) == at(1)
        assert known.next_dial(now) is None
        known.failed(at(1), now)
        due = known.next_time()
        assert due is not None
        assert known.next_dial(due - 0.01) is None
        waits.append(due - now)
        now = due
    assert waits == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]


def test_a_useful_connection_that_ended_is_tried_again_soon() -> None:
    known = KnownPeers(backoff=5.0)
    known.add(at(1), Source.TRACKER, 0.0)
    for _ in range(4):
        due = known.next_time()
        assert due is not None
        assert known.next_dial(due) == at(1)
        known.failed(at(1), due)
    due = known.next_time()
    assert due is not None
    known.next_dial(due)
    known.connected(at(1))
    assert known.next_time() is None
    known.disconnected(at(1), due + 100)
    assert known.next_time() == due + 105
    assert known.connected_count == 0


def test_banned_and_own_addresses_are_never_dialed() -> None:
    known = KnownPeers()
    for number in range(4):
        known.add(at(number), Source.TRACKER, 0.0)
    known.add(at(3, 7000), Source.TRACKER, 0.0)
    known.banned(at(0))
    known.set_own(at(1))
    known.banned(at(3), whole_host=True)
    assert [known.next_dial(0.0), known.next_dial(0.0)] == [at(2), None]
    assert known.is_banned(at(0))
    assert not known.is_banned(at(0, 1))
    assert known.is_banned(at(3, 1))
    assert known.is_own(at(1))
    assert not known.add(at(0), Source.OPTION, 0.0)
    assert not known.add(at(1), Source.OPTION, 0.0)
    assert not known.add(at(3, 2), Source.OPTION, 0.0)
    assert not known.add(PeerAddress("10.9.9.9", 0), Source.OPTION, 0.0)


def test_banning_a_dialed_or_connected_address_frees_its_place() -> None:
    known = KnownPeers()
    known.add(at(1), Source.TRACKER, 0.0)
    known.add(at(2), Source.TRACKER, 0.0)
    known.next_dial(0.0)
    known.next_dial(0.0)
    known.connected(at(2))
    known.banned(at(1))
    known.banned(at(2))
    assert (known.dialing, known.connected_count, len(known)) == (0, 0, 0)
    known.failed(at(1), 1.0)
    known.disconnected(at(2), 1.0)
    assert known.next_dial(1e9) is None


def test_the_number_of_addresses_is_bounded_and_each_source_has_a_share() -> None:
    known = KnownPeers(limit=100)
    assert sum(known.add(at(n), Source.PEX, 0.0) for n in range(500)) == 50
    assert sum(known.add(at(n), Source.INCOMING, 0.0) for n in range(500, 1000)) == 25
    assert sum(known.add(at(n), Source.TRACKER, 0.0) for n in range(1000, 2000)) == 75
    assert len(known) == 94
    assert sum(known.add(at(n), Source.OPTION, 0.0) for n in range(2000, 3000)) > 6


def test_a_full_table_drops_an_address_that_keeps_failing() -> None:
    known = KnownPeers(limit=2)
    known.add(at(1), Source.TRACKER, 0.0)
    known.add(at(2), Source.TRACKER, 0.0)
    assert known.next_dial(0.0) == at(1)
    for _ in range(3):
        known.failed(at(1), 0.0)
    assert known.add(at(3), Source.TRACKER, 0.0)
    assert len(known) == 2
    assert known.next_dial(0.0) == at(2)
    assert known.next_dial(0.0) == at(3)
    assert known.next_dial(1e9) is None


def test_an_address_that_proved_useful_is_not_dropped() -> None:
    known = KnownPeers(limit=1)
    known.add(at(1), Source.TRACKER, 0.0)
    for _ in range(3):
        known.failed(at(1), 0.0)
    known.connected(at(1))
    known.disconnected(at(1), 0.0)
    assert not known.add(at(2), Source.TRACKER, 0.0)
    for _ in range(3):
        known.failed(at(1), 0.0)
    assert known.add(at(2), Source.TRACKER, 0.0)
    assert known.add(at(3), Source.TRACKER, 0.0) is False


def test_fresh_addresses_come_before_ones_that_failed_twice() -> None:
    known = KnownPeers(backoff=1.0)
    known.add(at(1), Source.TRACKER, 0.0)
    known.next_dial(0.0)
    known.failed(at(1), 0.0)
    known.next_dial(1.0)
    known.failed(at(1), 1.0)
    known.add(at(2), Source.PEX, 1.0)
    assert known.next_dial(10.0) == at(2)
    assert known.next_dial(10.0) == at(1)


def test_who_comes_and_goes_leaves_nothing_behind_one_that_waits_for_long() -> None:
    known = KnownPeers()
    for number in range(2):
        known.add(at(number), Source.TRACKER, 0.0)
    known.next_dial(0.0)
    for _ in range(6):
        known.failed(at(0), 0.0)
    for _ in range(10_000):
        known.connected(at(1))
        known.disconnected(at(1), 0.0)
    assert len(known._later) <= 2 * 2 + 64
    assert known.next_dial(5.0) == at(1)
    assert known.next_dial(160.0) == at(0)
