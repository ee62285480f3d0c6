"""Who is told what, on a clock of the test's own."""

from __future__ import annotations

import random

from btfast.discovery.pex import SEED, PexMessage, decode_pex
from btfast.discovery.pex_book import FIRST, LATER, MINUTE, PexBook
from btfast.metainfo.addresses import PeerAddress


def at(number: int, port: int = 6881) -> PeerAddress:
    return PeerAddress(f"8.8.{number >> 8}.{number & 255}", port)


def told(book: PexBook, now: float) -> dict[int, PexMessage]:
    return {number: decode_pex(body, 10_000) for number, body in book.poll(now)}


def addresses(message: PexMessage) -> set[PeerAddress]:
    return {peer.address for peer in message.added}


def test_a_peer_hears_of_the_others_and_never_of_itself() -> None:
    book = PexBook()
    for number in range(3):
        book.joined(number, at(number), SEED if number == 2 else 0)
        book.listens(number, at(number).host, 0.0, seed=False)
    messages = told(book, 0.0)
    assert {number: addresses(message) for number, message in messages.items()} == {
        0: {at(1), at(2)}, 1: {at(0), at(2)}, 2: {at(0), at(1)},
    }  # fmt: skip
    assert dict(messages[0].added)[at(2)] == SEED
    assert all(not message.dropped for message in messages.values())


def test_once_a_minute_and_only_what_is_new() -> None:
    book = PexBook()
    book.listens(0, "8.8.8.8", 0.0, seed=False)
    assert told(book, 0.0) == {}  # nothing to say: nothing is sent
    book.joined(1, at(1), 0)
    assert addresses(told(book, 5.0)[0]) == {at(1)}
    book.joined(2, at(2), 0)
    book.left(1)
    assert told(book, 5.0 + MINUTE - 0.1) == {}
    message = told(book, 5.0 + MINUTE)[0]
    assert (addresses(message), message.dropped) == ({at(2)}, [at(1)])
    assert told(book, 500.0) == {}


def test_who_came_and_went_between_two_messages_is_not_mentioned() -> None:
    book = PexBook()
    book.listens(0, "8.8.8.8", 0.0, seed=False)
    book.joined(1, at(1), 0)
    told(book, 0.0)
    book.joined(2, at(2), 0)
    book.left(2)
    book.left(1)
    book.joined(3, at(1), 0)  # the same one again
    assert told(book, MINUTE) == {}


def test_messages_keep_to_the_limits_and_the_rest_follows() -> None:
    book = PexBook()
    book.listens(10_000, "8.8.8.8", 0.0, seed=False)
    everybody = {at(number) for number in range(FIRST + 120)}
    for number in range(FIRST + 120):
        book.joined(number, at(number), 0)
    heard, sizes = set(), []
    for minute in range(5):
        for message in told(book, minute * MINUTE).values():
            sizes.append(len(message.added))
            heard |= addresses(message)
    assert sizes == [FIRST, LATER, LATER, 20]
    assert heard == everybody
    for number in range(FIRST + 120):
        book.left(number)
    gone = [len(message.dropped) for minute in range(5, 15) for message in told(book, minute * MINUTE).values()]
    assert gone == [LATER] * 6 + [20]


def test_seeds_do_not_hear_of_seeds() -> None:
    book = PexBook()
    book.joined(1, at(1), SEED)
    book.joined(2, at(2), 0)
    book.listens(3, "8.8.8.8", 0.0, seed=True)
    assert addresses(told(book, 0.0)[3]) == {at(2)}
    book.joined(1, at(1), 0)
    assert addresses(told(book, MINUTE)[3]) == {at(1)}


def test_nobody_hears_of_addresses_that_are_nearer_to_us() -> None:
    book = PexBook()
    near = [PeerAddress("127.0.0.1", 6881), PeerAddress("10.0.0.1", 6881), at(1), PeerAddress("fd00::1", 6881)]
    for number, address in enumerate(near):
        book.joined(number, address, 0)
    book.joined(9, at(9, 80), 0)  # where nobody would go for us
    for number, host in ((20, "127.0.0.1"), (21, "192.168.0.9"), (22, "9.9.9.9")):
        book.listens(number, host, 0.0, seed=False)
    heard = {number: addresses(message) for number, message in told(book, 0.0).items()}
    assert heard == {20: set(near), 21: set(near[1:]), 22: {at(1)}}


def test_what_each_believes_is_what_is_true_in_the_end() -> None:
    """Random comings and goings: each listener's own reckoning of its messages ends in the peers that are there."""
    rng = random.Random(7)
    book = PexBook()
    here: dict[int, PeerAddress] = {}
    believes: dict[int, set[PeerAddress]] = {}
    number, now = 0, 0.0
    for _ in range(1500):
        now += rng.random() * 4
        if rng.random() < (0.6 if len(here) < 150 else 0.4) or not here:
            number += 1
            address = at(rng.randrange(300))
            if address not in here.values():
                here[number] = address
                book.joined(number, address, 0)
                book.listens(number, address.host, now, seed=False)
                believes[number] = set()
        else:
            gone = rng.choice(list(here))
            del here[gone], believes[gone]
            book.left(gone)
        for receiver, message in told(book, now).items():
            added, dropped = addresses(message), set(message.dropped)
            assert len(added) == len(message.added) <= FIRST
            assert len(dropped) <= LATER
            assert not added & dropped
            assert added <= set(here.values()) - {here[receiver]}
            assert not added & believes[receiver]
            assert dropped <= believes[receiver]
            believes[receiver] = (believes[receiver] | added) - dropped
    for _ in range(20):
        now += MINUTE
        for receiver, message in told(book, now).items():
            believes[receiver] = (believes[receiver] | addresses(message)) - set(message.dropped)
    assert len(here) > 5
    for receiver, known in believes.items():
        assert known == set(here.values()) - {here[receiver]}
    assert len(book._addresses) <= 300 + 100  # slots are used again
