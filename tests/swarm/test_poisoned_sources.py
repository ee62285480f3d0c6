"""Lists of addresses that are none, and good ones beside them: who is dialed, on a clock of the test's own."""

from __future__ import annotations

import random

from btfast.metainfo.addresses import PeerAddress
from btfast.swarm.peers import KnownPeers, Source

DIAL_SECONDS = 8.0  # until an attempt at an address where nobody is has failed


def good(number: int) -> PeerAddress:
    return PeerAddress(f"9.9.{number >> 8}.{number & 255}", 6881)


def bad(rng: random.Random) -> PeerAddress:
    return PeerAddress(f"{rng.randrange(11, 99)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(256)}", 6881)


def liar(number: int) -> str:
    return f"66.6.0.{number}"


def reached(known: KnownPeers, wanted: set[PeerAddress], until: float, *, names: object = None) -> float:
    """The seconds until all `wanted` were dialed, when every other address never answers."""
    rng = random.Random(3)
    failing: list[tuple[float, PeerAddress]] = []
    now = 0.0
    missing = set(wanted)
    while missing and now < until:
        while failing and failing[0][0] <= now:
            known.failed(failing.pop(0)[1], now)
        if callable(names):
            names(known, rng, now)
        while (address := known.next_dial(now)) is not None:
            if address in wanted:
                missing.discard(address)
                known.connected(address)
            else:
                failing.append((now + DIAL_SECONDS, address))
        now += 0.5
    assert not missing, f"{len(missing)} good ones were not dialed in {until} s"
    return now


def floods(liars: int, per_second: int) -> object:
    """Each half second every liar names addresses where nobody is."""

    def names(known: KnownPeers, rng: random.Random, now: float) -> None:
        for number in range(liars):
            for _ in range(per_second // 2):
                known.add(bad(rng), Source.PEX, now, sender=liar(number))

    return names


def test_peers_of_a_tracker_do_not_wait_for_a_poisoned_list() -> None:
    known = KnownPeers()
    rng = random.Random(1)
    for number in range(20):
        for _ in range(300):
            known.add(bad(rng), Source.PEX, 0.0, sender=liar(number))
    while known.next_dial(0.0) is not None:
        pass
    tracked = {good(number) for number in range(40)}
    for address in tracked:
        assert known.add(address, Source.TRACKER, 0.0)
    assert {known.next_dial(0.0) for _ in range(40)} == tracked  # half of the attempts were kept for better sources


def test_one_honest_peer_among_twenty_that_lie_is_heard() -> None:
    known = KnownPeers()
    rng = random.Random(1)
    for number in range(20):
        for _ in range(300):
            known.add(bad(rng), Source.PEX, 0.0, sender=liar(number))
    named = {good(number) for number in range(80)}
    for address in named:
        assert known.add(address, Source.PEX, 0.0, sender="77.7.0.1")
    # 50 attempts of 8 s each at a time, of which a liar's turn takes one until ten of his have failed.
    assert reached(known, named, 200.0, names=floods(20, 10)) < 100.0


def test_a_sender_fills_no_more_than_its_part() -> None:
    known = KnownPeers()
    rng = random.Random(1)
    assert sum(known.add(bad(rng), Source.PEX, 0.0, sender=liar(1)) for _ in range(3000)) == 200
    assert sum(known.add(bad(rng), Source.PEX, 0.0, sender="2606:4700::1") for _ in range(3000)) == 200
    assert not any(known.add(bad(rng), Source.PEX, 0.0, sender="2606:4700::2") for _ in range(3000))  # the same /64


def test_a_full_table_takes_from_the_longest_list() -> None:
    known = KnownPeers(limit=200)
    rng = random.Random(1)
    assert sum(known.add(bad(rng), Source.PEX, 0.0, sender=liar(1)) for _ in range(300)) == 100
    assert sum(known.add(bad(rng), Source.PEX, 0.0, sender=liar(2)) for _ in range(300)) == 50
    assert len(known) == 100


def test_one_host_is_not_dialed_at_many_ports_for_strangers() -> None:
    """Else a list of a victim's ports would turn a swarm against it."""
    known = KnownPeers()
    assert sum(known.add(PeerAddress("9.9.9.9", port), Source.DHT, 0.0) for port in range(2000, 3000)) == 8
    assert known.add(PeerAddress("9.9.9.9", 4000), Source.TRACKER, 0.0)
    assert sum(known.add(PeerAddress("10.9.9.9", port), Source.PEX, 0.0) for port in range(2000, 2100)) == 100
    known.banned(PeerAddress("9.9.9.9", 1), whole_host=True)
    assert len(known) == 100


def test_seeds_are_not_dialed_by_seeds() -> None:
    known = KnownPeers()
    known.add(good(1), Source.PEX, 0.0, sender=liar(1), seed=True)
    known.add(good(2), Source.PEX, 0.0, sender=liar(1))
    known.add(good(3), Source.TRACKER, 0.0)
    assert known.next_dial(0.0) == good(3)
    known.connected(good(3))
    known.disconnected(good(3), 0.0, seed=True)
    known.seeds_wanted = False
    assert not known.add(good(4), Source.PEX, 0.0, seed=True)
    assert [known.next_dial(1e6) for _ in range(2)] == [good(2), None]


def test_the_better_connection_comes_first_where_nothing_else_decides() -> None:
    known = KnownPeers(priority=lambda address: int(address.host.rpartition(".")[2]))
    for number in (3, 9, 1):
        known.add(good(number), Source.TRACKER, 0.0)
    assert [known.next_dial(0.0) for _ in range(3)] == [good(9), good(3), good(1)]


def test_a_second_connection_to_a_connected_peer_changes_nothing() -> None:
    """It connected to us; then somebody named it, and it was dialed in vain."""
    known = KnownPeers()
    known.add(good(1), Source.INCOMING, 0.0)
    known.connected(good(1))
    assert known.next_dial(0.0) is None
    known.failed(good(1), 0.0)
    assert known.connected_count == 1
    known.disconnected(good(1), 10.0)
    assert known.next_dial(15.0) == good(1)


def test_one_tracker_does_not_fill_the_table_for_all_others() -> None:
    known = KnownPeers()
    for number in range(4096):
        known.add(good(number), Source.TRACKER, 0.0, sender="one.example")
    assert len(known) == 500
    for liar_ in range(30):
        for number in range(500):
            known.add(good(10_000 + 500 * liar_ + number), Source.TRACKER, 0.0, sender=f"{liar_}.example")
    assert all(known.add(good(40_000 + number), Source.TRACKER, 0.0, sender="honest.example") for number in range(50))
    for source in Source:
        assert known.add(good(50_000 + source), source, 0.0, sender="8.8.8.8"), source
    assert {known.next_dial(0.0) for _ in range(62)} & {good(40_000 + number) for number in range(50)}, "in turn with the liars"


def test_what_the_user_and_a_tracker_name_takes_the_place_of_gossip() -> None:
    known = KnownPeers(limit=200)
    for source in (Source.DHT, Source.PEX):
        for number in range(300):
            known.add(good(1000 * source + number), source, 0.0, sender=f"8.8.8.{number % 40}")
    assert len(known) == 188
    assert all(known.add(good(number), Source.TRACKER, 0.0, sender="a.example") for number in range(20))
    assert all(known.add(good(500 + number), Source.OPTION, 0.0) for number in range(20))
    assert len(known) == 200
