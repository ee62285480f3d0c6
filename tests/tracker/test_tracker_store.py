from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btfast.errors import RemoteError
from btfast.tracker.store import SEEDS_FOR_SEEDS, Announced, Limits, Scraped, TrackerStore

HASH = b"h" * 20


def v4(n: int) -> bytes:
    return bytes([10, 0, n >> 8, n & 255]) + b"\x1a\xe1"


def v6(n: int) -> bytes:
    return b"\x20\x01\x0d\xb8" + n.to_bytes(12, "big") + b"\x1a\xe1"


def peer_id(n: int) -> bytes:
    return b"-XX0001-" + n.to_bytes(12, "big")


class Tracker:
    """A store with short calls; peer n announces from 10.0.x.x or 2001:db8::n."""

    def __init__(self, **limits: float) -> None:
        self.store = TrackerStore(random.Random(1), Limits(**limits))  # type: ignore[arg-type]
        self.now = 0.0

    def announce(
        self, n: int, *, left: int = 1, event: str | None = None, numwant: int | None = None, six: bool = False,
        info_hash: bytes = HASH,
    ) -> Announced:  # fmt: skip
        compact = v6(n) if six else v4(n)
        return self.store.announce(self.now, info_hash, compact, peer_id(n), left=left, event=event, numwant=numwant)


def addresses(announced: Announced) -> set[bytes]:
    found = [compact for compact, _ in announced.peers]
    assert len(set(found)) == len(found)
    return set(found)


def test_peers_hear_of_each_other_but_not_of_themselves() -> None:
    t = Tracker()
    assert addresses(t.announce(1, event="started")) == set()
    second = t.announce(2, event="started")
    assert second.peers == [(v4(1), peer_id(1))]
    assert (second.complete, second.incomplete) == (0, 2)
    assert addresses(t.announce(1)) == {v4(2)}


def test_a_peer_does_not_hear_of_its_other_address() -> None:
    t = Tracker()
    t.announce(1)
    assert addresses(t.announce(1, six=True)) == set()
    assert addresses(t.announce(2)) == {v4(1), v6(1)}


def test_a_seed_hears_of_leechers_and_of_few_seeds() -> None:
    """Not of none: aria2 says that nothing is left while it has not got the metadata of a magnet."""
    t = Tracker()
    for n in range(10):
        t.announce(n, left=0)
    seeds = {v4(n) for n in range(10)}
    t.announce(20, left=5)
    found = addresses(t.announce(1, left=0))
    assert v4(20) in found
    assert 1 <= len(found & seeds) <= SEEDS_FOR_SEEDS
    assert v4(1) not in found
    assert addresses(t.announce(20, left=5)) == seeds
    assert addresses(t.announce(1, left=0, numwant=1)) == {v4(20)}


def test_swarms_are_apart() -> None:
    t = Tracker()
    t.announce(1, info_hash=b"a" * 20)
    assert addresses(t.announce(2, info_hash=b"b" * 20)) == set()
    assert sorted(t.store.info_hashes()) == [b"a" * 20, b"b" * 20]


def test_stopped_removes_the_peer_and_gives_none() -> None:
    t = Tracker()
    t.announce(1)
    t.announce(2)
    stopped = t.announce(1, event="stopped")
    assert stopped.peers == []
    assert addresses(t.announce(2)) == set()
    assert t.store.peers == 1
    assert t.announce(7, event="stopped", info_hash=b"x" * 20).peers == []
    assert t.store.swarms == 1


def test_completed_counts_once_and_only_for_a_known_leecher() -> None:
    t = Tracker()
    t.announce(1, event="started")
    t.announce(1, left=0, event="completed")
    t.announce(1, left=0, event="completed")
    t.announce(2, left=0, event="completed")
    assert t.store.scrape(0.0, HASH) == Scraped(complete=2, downloaded=1, incomplete=0)


def test_silent_peers_are_forgotten() -> None:
    t = Tracker(expiry=100.0)
    t.announce(1)
    t.now = 60.0
    t.announce(2)
    t.now = 120.0
    assert addresses(t.announce(3)) == {v4(2)}
    t.now = 500.0
    assert t.store.scrape(t.now, HASH) is None
    assert (t.store.swarms, t.store.peers) == (0, 0)


def test_one_who_announces_again_stays() -> None:
    t = Tracker(expiry=100.0)
    for n in range(5):
        t.now = n * 60.0
        t.announce(1)
    assert addresses(t.announce(2)) == {v4(1)}


def test_numwant_is_obeyed_up_to_the_limit() -> None:
    t = Tracker(numwant=10, most_numwant=30)
    for n in range(100):
        t.announce(n, left=n % 2)
    assert len(addresses(t.announce(1))) == 10
    assert len(addresses(t.announce(1, numwant=5))) == 5
    assert len(addresses(t.announce(1, numwant=0))) == 0
    assert len(addresses(t.announce(1, numwant=-1))) == 10
    assert len(addresses(t.announce(1, numwant=1000))) == 30


def test_own_family_comes_first() -> None:
    t = Tracker()
    for n in range(40):
        t.announce(n)
        t.announce(100 + n, six=True)
    assert all(len(a) == 6 for a in addresses(t.announce(1, numwant=20)))
    assert all(len(a) == 18 for a in addresses(t.announce(101, six=True, numwant=20)))


def test_all_peers_are_drawn_sooner_or_later() -> None:
    t = Tracker()
    for n in range(60):
        t.announce(n)
    seen: Counter[bytes] = Counter()
    for _ in range(200):
        seen.update(addresses(t.announce(0, numwant=10)))
    assert len(seen) == 59


def test_a_full_tracker_refuses_newcomers_and_serves_the_rest() -> None:
    t = Tracker(swarms=2, peers=3)
    t.announce(1)
    t.announce(2)
    t.announce(3, info_hash=b"b" * 20)
    with pytest.raises(RemoteError, match="no more peers"):
        t.announce(4)
    with pytest.raises(RemoteError, match="no more torrents"):
        t.announce(4, info_hash=b"c" * 20)
    assert addresses(t.announce(1)) == {v4(2)}
    t.announce(2, event="stopped")
    assert addresses(t.announce(4)) == {v4(1)}


operation = st.tuples(
    st.sampled_from([b"a" * 20, b"b" * 20]),
    st.integers(0, 5),
    st.booleans(),
    st.integers(0, 1),
    st.sampled_from([None, "started", "completed", "stopped"]),
    st.floats(0, 80),
)


@given(st.lists(operation, max_size=60))
def test_any_sequence_agrees_with_a_plain_model(
    operations: list[tuple[bytes, int, bool, int, str | None, float]],
) -> None:
    t = Tracker(expiry=100.0)
    model: dict[tuple[bytes, bytes], tuple[float, int, int]] = {}
    for info_hash, n, six, left, event, pause in operations:
        t.now += pause
        announced = t.announce(n, left=left, event=event, six=six, info_hash=info_hash, numwant=100)
        compact = v6(n) if six else v4(n)
        model = {key: value for key, value in model.items() if value[0] > t.now - 100.0}
        model.pop((info_hash, compact), None)
        if event == "stopped":
            assert announced.peers == []
        else:
            model[info_hash, compact] = (t.now, left, n)
            expected = {
                address
                for (swarm, address), (_, other_left, other) in model.items()
                if swarm == info_hash and other != n and (left or other_left)
            }
            seeds = {
                address
                for (swarm, address), (_, other_left, other) in model.items()
                if swarm == info_hash and other != n and not other_left and len(address) == len(compact)
            }
            more = addresses(announced) - expected
            assert addresses(announced) >= expected
            assert more <= (set() if left else seeds)
            assert len(more) == (0 if left else min(SEEDS_FOR_SEEDS, len(seeds)))
        here = [value for (swarm, _), value in model.items() if swarm == info_hash]
        assert announced.complete == sum(1 for value in here if value[1] == 0)
        assert announced.incomplete == sum(1 for value in here if value[1])


@pytest.mark.parametrize(("seeds", "leechers"), [(1000, 0), (0, 1000), (500, 500), (7, 993), (60, 2)])
def test_a_large_swarm_gives_as_many_as_wanted_from_everywhere(seeds: int, leechers: int) -> None:
    t = Tracker(numwant=50)
    for n in range(seeds + leechers):
        t.announce(n, left=0 if n < seeds else 1, event="started")
    given_out: Counter[bytes] = Counter()
    for _ in range(1000):
        found = addresses(t.announce(2000, left=1))
        assert len(found) == 50
        assert len(found & {v4(n) for n in range(seeds)}) == pytest.approx(50 * seeds / (seeds + leechers), abs=1.1)
        given_out.update(found)
    everybody = seeds + leechers
    assert len(given_out) == everybody
    assert max(given_out.values()) < 3 * 50_000 / everybody


@pytest.mark.parametrize("six", [False, True])
def test_one_host_cannot_take_all_the_room(six: bool) -> None:
    store = TrackerStore(random.Random(1), Limits(peers=10, per_host=4))
    host, other, ours = v4(1)[:4], v4(2)[:4], b"\x7f\0\0\1"
    if six:
        host, other, ours = v6(1)[:16], b"\x20\x02" + v6(1)[2:16], bytes(15) + b"\1"

    def announce(address: bytes, port: int, event: str | None = None) -> None:
        store.announce(0.0, bytes([port]) * 20, address + bytes([200, port]), peer_id(port), left=1, event=event)

    for port in range(4):
        announce(host, port)
    with pytest.raises(RemoteError, match="one host"):
        announce(host, 9)
    announce(host, 3)
    announce(other, 9)
    announce(host, 3, "stopped")
    announce(host, 5)
    with pytest.raises(RemoteError, match="one host"):
        announce(host, 6)
    for port in range(5):
        announce(ours, port)
    assert store.peers == 10
    store.announce(1e6, HASH, v4(77), peer_id(77), left=1, event=None)
    assert store.peers == 1
    for port in range(4):
        store.announce(1e6, HASH, host + bytes([200, port]), peer_id(port), left=1, event=None)
