"""The order of datagrams to a UDP tracker on a virtual clock: BEP 15's examples, loss, restarts, lies."""

from __future__ import annotations

import random
import struct
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btfast.discovery.udp_exchange import NO_ANSWER, Exchanges, Outcome
from btfast.discovery.udp_tracker import ANNOUNCE, CONNECT, ERROR, PROTOCOL_ID, SCRAPE

ID = b"connect!"


class Sent(NamedTuple):
    """A datagram of ours, taken apart."""

    at: float
    connection: bytes
    action: int
    tid: int
    body: bytes


class Play:
    """Runs the clock from deadline to deadline."""

    def __init__(self, **options: int) -> None:
        self.exchanges = Exchanges(random.Random(1), **options)
        self.now = 0.0
        self.sent: list[Sent] = []
        self.ended: list[Outcome] = []

    def settle(self) -> list[Sent]:
        """What is sent now."""
        fresh = []
        for data in self.exchanges.poll(self.now):
            connection, action, tid = struct.unpack_from("!8sII", data)
            fresh.append(Sent(self.now, connection, action, tid, data[16:]))
        self.sent += fresh
        self.ended += self.exchanges.outcomes()
        return fresh

    def run_until(self, end: float) -> None:
        self.settle()
        while (deadline := self.exchanges.next_deadline()) is not None and deadline <= end:
            assert deadline > self.now, "it would spin"
            self.now = deadline
            self.settle()
        self.now = end

    def reply(self, to: Sent, body: bytes = b"", *, action: int | None = None) -> None:
        self.exchanges.handle_datagram(struct.pack("!II", to.action if action is None else action, to.tid) + body, self.now)
        self.settle()

    def connect(self) -> None:
        (question,) = self.settle()
        assert (question.connection, question.action, question.body) == (PROTOCOL_ID, CONNECT, b"")
        self.reply(question, ID)

    @property
    def times(self) -> list[tuple[float, int]]:
        return [(sent.at, sent.action) for sent in self.sent]


def test_a_connection_id_first_then_the_request() -> None:
    play = Play()
    key = play.exchanges.ask(ANNOUNCE, b"body")
    play.connect()
    announce = play.sent[-1]
    assert (announce.connection, announce.action, announce.body) == (ID, ANNOUNCE, b"body")
    play.reply(announce, b"answer")
    assert play.ended == [Outcome(key, ANNOUNCE, b"answer")]
    assert play.exchanges.idle
    assert play.exchanges.next_deadline() is None


def test_unanswered_connects_are_repeated_as_the_bep_shows() -> None:
    play = Play()
    key = play.exchanges.ask(ANNOUNCE, b"")
    play.run_until(10_000)
    assert play.times == [(15.0 * (2**n - 1), CONNECT) for n in range(9)]
    assert play.ended == [Outcome(key, NO_ANSWER, b"")]
    assert {sent.tid for sent in play.sent} == {play.sent[0].tid}


def test_unanswered_announces_are_repeated_as_the_bep_shows() -> None:
    play = Play()
    play.exchanges.ask(ANNOUNCE, b"")
    play.connect()
    play.run_until(500)
    assert play.times == [
        (0.0, CONNECT), (0.0, ANNOUNCE), (15.0, ANNOUNCE), (45.0, ANNOUNCE), (105.0, CONNECT), (225.0, CONNECT), (465.0, CONNECT)
    ]  # fmt: skip
    play.now = 470.0
    play.reply(play.sent[-1], b"new id!!")
    assert play.sent[-1].connection == b"new id!!"
    assert play.sent[-1].tid == play.sent[1].tid


def test_many_requests_share_a_connection_id_for_a_minute() -> None:
    play = Play()
    for at in (0.0, 4.0, 59.0, 62.0):
        play.now = at
        play.exchanges.ask(SCRAPE, b"")
        play.exchanges.ask(ANNOUNCE, b"")
        for sent in play.settle():
            play.reply(sent, ID)
        for sent in [sent for sent in play.sent if sent.action != CONNECT and sent.at == at]:
            play.reply(sent)
    assert [at for at, action in play.times if action == CONNECT] == [0.0, 62.0]
    assert len(play.ended) == 8


def test_a_bounded_number_at_once_and_events_first() -> None:
    play = Play(window=2)
    keys = [play.exchanges.ask(ANNOUNCE, b"%d" % number) for number in range(4)]
    urgent = play.exchanges.ask(ANNOUNCE, b"started", urgent=True)
    play.connect()
    assert [sent.body for sent in play.sent[1:]] == [b"started", b"0"]
    play.reply(play.sent[1])
    play.reply(play.sent[2])
    assert [sent.body for sent in play.sent[3:]] == [b"1", b"2"]
    assert [outcome.key for outcome in play.ended] == [urgent, keys[0]]


def test_thousands_of_requests_are_served_in_turn() -> None:
    play = Play(window=8)
    keys = [play.exchanges.ask(ANNOUNCE, b"") for _ in range(2000)]
    play.connect()
    at = 1
    while at < len(play.sent):
        play.now += 0.001
        play.reply(play.sent[at])
        at += 1
    assert [outcome.key for outcome in play.ended] == keys


def test_who_waits_for_a_dead_tracker_fails_with_the_first() -> None:
    play = Play(window=2)
    for _ in range(100):
        play.exchanges.ask(ANNOUNCE, b"", tries=1)
    play.run_until(15.0)
    assert len(play.ended) == 100
    assert {outcome.action for outcome in play.ended} == {NO_ANSWER}
    assert play.times == [(0.0, CONNECT)]


def test_one_lost_answer_does_not_condemn_those_who_wait() -> None:
    play = Play(window=2)
    first = play.exchanges.ask(ANNOUNCE, b"lost", tries=1)
    for _ in range(3):
        play.exchanges.ask(ANNOUNCE, b"", tries=1)
    play.connect()
    play.now = 1.0
    play.reply(play.sent[2])
    play.run_until(15.0)
    assert [outcome.key for outcome in play.ended if outcome.action == NO_ANSWER] == [first]
    assert [sent.body for sent in play.sent[1:]] == [b"lost", b"", b"", b""]


def test_an_answer_that_is_of_use_for_a_while_only_is_not_waited_for_any_longer() -> None:
    play = Play(window=1)
    play.exchanges.ask(ANNOUNCE, b"short", patience=4.0)
    play.exchanges.ask(ANNOUNCE, b"behind it")
    play.run_until(4.0)
    assert [outcome.action for outcome in play.ended] == [NO_ANSWER]
    play.run_until(100.0)
    assert len(play.ended) == 1, "the other one is not condemned by so little"


def test_the_young_set_the_pace_for_connecting() -> None:
    play = Play()
    play.exchanges.ask(ANNOUNCE, b"")
    play.run_until(300.0)
    assert play.times[-1] == (225.0, CONNECT)
    play.exchanges.ask(ANNOUNCE, b"", tries=1)
    play.settle()
    assert play.times[-1] == (300.0, CONNECT)


def test_an_unknown_connection_id_is_renewed_once() -> None:
    play = Play()
    key = play.exchanges.ask(ANNOUNCE, b"")
    play.connect()
    play.reply(play.sent[-1], b"Connection ID missmatch.", action=ERROR)
    assert play.sent[-1].action == CONNECT
    play.reply(play.sent[-1], b"another!")
    assert (play.sent[-1].action, play.sent[-1].connection) == (ANNOUNCE, b"another!")
    assert play.ended == []
    play.reply(play.sent[-1], b"Connection ID missmatch.", action=ERROR)
    assert play.ended == [Outcome(key, ERROR, b"Connection ID missmatch.")]


@pytest.mark.parametrize("first", [CONNECT, ANNOUNCE])
def test_an_error_ends_the_request(first: int) -> None:
    play = Play()
    key = play.exchanges.ask(ANNOUNCE, b"")
    if first == ANNOUNCE:
        play.connect()
    else:
        play.settle()
    play.reply(play.sent[-1], b"no", action=ERROR)
    assert play.ended == [Outcome(key, ERROR, b"no")]
    assert play.exchanges.idle


def test_what_answers_nothing_is_ignored() -> None:
    play = Play()
    play.exchanges.ask(ANNOUNCE, b"")
    (connect,) = play.settle()
    wrong = connect._replace(tid=connect.tid ^ 1)
    play.reply(wrong, ID)
    play.reply(connect, ID, action=ANNOUNCE)
    play.reply(connect, ID[:7])
    play.exchanges.handle_datagram(b"\0\0\0\0", 0.0)
    assert play.exchanges.ignored == 4
    assert not play.exchanges.connected(0.0)
    play.reply(connect, ID)
    announce = play.sent[-1]
    for forged in (announce._replace(tid=announce.tid ^ 1), announce._replace(action=SCRAPE), connect):
        play.reply(forged, bytes(30))
    assert play.exchanges.ignored == 7
    assert play.ended == []
    play.reply(announce)
    play.reply(announce)
    assert len(play.ended) == 1
    assert play.exchanges.ignored == 8


def test_what_is_forgotten_is_neither_sent_nor_answered() -> None:
    play = Play(window=1)
    keys = [play.exchanges.ask(ANNOUNCE, b"", urgent=number == 1) for number in range(3)]
    play.connect()
    for key in keys:
        play.exchanges.forget(key)
    play.exchanges.forget(99)
    assert play.exchanges.idle
    play.run_until(1000.0)
    assert len(play.sent) == 2
    assert play.ended == []


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from("acgfwe"), st.integers(0, 200), st.binary(max_size=30)), max_size=60))
def test_whatever_comes_each_request_ends_once_and_nothing_spins(steps: list[tuple[str, int, bytes]]) -> None:
    play = Play(window=3)
    asked = set()
    for kind, seconds, data in steps:
        if kind == "a":
            asked.add(play.exchanges.ask(ANNOUNCE, data, tries=1 + seconds % 9, urgent=bool(seconds % 2)))
            play.settle()
        elif kind == "c" and play.sent:
            play.reply(play.sent[-1], data)
        elif kind == "g":
            play.exchanges.handle_datagram(data, play.now)
            play.settle()
        elif kind == "f" and asked:
            key = sorted(asked)[seconds % len(asked)]
            play.exchanges.forget(key)
            if all(outcome.key != key for outcome in play.ended):
                asked.discard(key)
        elif kind == "e" and play.sent:
            play.reply(play.sent[-1], data, action=ERROR)
        elif kind == "w":
            play.run_until(play.now + seconds)
    play.run_until(play.now + 1_000_000)
    assert sorted(outcome.key for outcome in play.ended) == sorted(asked)
    assert play.exchanges.idle
