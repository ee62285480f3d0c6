"""Hostile datagrams: the vectors of BEP 5, arbitrary bytes, forged and late replies. A node never raises, whatever comes."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest
from dht_network import Net, Stranger, at, node_at, public, queries_to
from hypothesis import given, settings
from hypothesis import strategies as st

from btfast._bencode import encode
from btfast.discovery.dht import krpc
from btfast.discovery.dht.endpoints import Endpoint
from btfast.discovery.dht.events import PeersFound, SearchEnded
from btfast.discovery.dht.krpc import Contact, Failure, Query, Reply
from btfast.discovery.dht.node import DhtNode
from btfast.errors import RemoteError

STRANGER = at("99.1.2.3")
ID = b"abcdefghij0123456789"
PING = b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe"
GET_PEERS_REPLY = b"d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re"
BAD_NODES_REPLY = b"d1:rd2:id20:0123456789abcdefghij5:nodes9:def456...e1:t2:aa1:y1:re"
ERROR = b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee"


def test_the_queries_of_bep_5() -> None:
    assert krpc.decode(PING) == Query(b"aa", b"ping", {b"id": ID}, False)
    ours = krpc.encode_query(b"aa", b"ping", {b"id": ID}, version=b"bft0", read_only=True)
    assert krpc.decode(ours) == Query(b"aa", b"ping", {b"id": ID}, True)


def test_the_replies_of_bep_5() -> None:
    reply = krpc.decode(GET_PEERS_REPLY)
    assert isinstance(reply, Reply)
    assert krpc.decode_values(reply.values) == [b"axje.u", b"idhtnm"]
    assert krpc.decode_token(reply.values) == b"aoeusnth"
    damaged = krpc.decode(BAD_NODES_REPLY)
    assert isinstance(damaged, Reply)
    assert krpc.decode_nodes(damaged.values, v6=False) == []
    assert krpc.decode(ERROR) == Failure(b"aa", 201, "A Generic Error Ocurred")


@pytest.mark.parametrize("v6", [False, True])
def test_nodes_survive_the_way(v6: bool) -> None:
    contacts = [Contact(bytes([n]) * 20, at(f"2a02:{n}::1" if v6 else f"81.2.3.{n}")) for n in range(1, 9)]
    values = {b"nodes6" if v6 else b"nodes": krpc.encode_nodes(contacts)}
    assert krpc.decode_nodes(values, v6=v6) == contacts
    assert krpc.decode_nodes(values, v6=not v6) == []


@pytest.mark.parametrize(
    "data",
    [
        b"", b"d", b"e", b"de", b"i1e", b"le", b"d1:t2:aae", b"d1:t2:aa1:y1:qe", b"d1:t2:aa1:y1:re",
        b"d1:t0:1:y1:qe", b"d1:y1:q1:q4:pinge", b"d1:ti5e1:y1:qe",
        b"d1:ade1:q4:ping1:t2:aa1:y1:qe",
        b"d1:ad2:id19:abcdefghij012345678e1:q4:ping1:t2:aa1:y1:qe",
        b"d1:ad2:idi7ee1:q4:ping1:t2:aa1:y1:qe",
        b"d1:ale1:q4:ping1:t2:aa1:y1:qe",
        b"d1:ad2:id20:abcdefghij0123456789e1:ql4:pinge1:t2:aa1:y1:qe",
        b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t33:" + b"t" * 33 + b"1:y1:qe",
            PING[:-1], b"d1:t99999999999:", b"l" * 2000, b"d1:a" * 300, b"x" * 5000,
        encode({b"t": b"aa", b"y": b"r", b"r": {b"id": ID, b"x": list(range(600))}}),
    ],
)  # fmt: skip
def test_a_damaged_packet_is_dropped_without_an_answer(data: bytes) -> None:
    with pytest.raises(RemoteError):
        krpc.decode(data)
    node = node_at(at("81.2.69.142"))
    assert Stranger(node, STRANGER).raw(data) == []
    assert node.dropped == 1


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_a_remote_error(data: bytes) -> None:
    with contextlib.suppress(RemoteError):
        krpc.decode(data)


VALUE = st.recursive(
    st.one_of(st.integers(-(1 << 70), 1 << 70), st.binary(max_size=40), st.just(ID), st.just(b"")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=6), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(
    [b"id", b"target", b"info_hash", b"port", b"implied_port", b"token", b"want", b"v", b"k", b"sig", b"seq", b"salt", b"cas",
     b"scrape", b"noseed", b"seed", b"values", b"nodes", b"nodes6", b"BFsd", b"BFpe", b"samples", b"interval", b"num"]
)  # fmt: skip
METHODS = st.sampled_from(
    [b"ping", b"find_node", b"get_peers", b"announce_peer", b"get", b"put", b"sample_infohashes", b"vote", b""]
)
BODY = st.dictionaries(KEYS, VALUE, max_size=8)


@settings(max_examples=40)
@given(st.lists(st.tuples(METHODS, BODY, st.booleans(), st.integers(0, 5)), max_size=12))
def test_any_queries_get_one_answer_each_or_none(queries: list[tuple[bytes, dict[bytes, Any], bool, int]]) -> None:
    node = node_at(at("81.2.69.142"))
    for number, (method, body, genuine, last) in enumerate(queries):
        stranger = Stranger(node, at(f"99.1.2.{last}"), now=float(number))
        if genuine and method in (b"put", b"announce_peer", b"get_peers"):
            body = body | {b"info_hash": ID, b"target": ID}
        answer = stranger.ask(method, body)
        assert answer is None or isinstance(answer, Reply | Failure)
        for packet in node.poll_packets():
            assert len(packet) <= 1472


@settings(max_examples=40)
@given(st.lists(st.tuples(BODY, st.binary(max_size=18), st.integers(0, 3)), min_size=1, max_size=20))
def test_any_replies_to_our_questions_are_borne(replies: list[tuple[dict[bytes, Any], bytes, int]]) -> None:
    entrance = at("99.1.2.3")
    node = node_at(at("81.2.69.142"))
    node.add_entrances(0.0, [entrance])
    node.start(0.0)
    node.find_peers(0.0, ID, scrape=True)
    node.find_item(0.0, ID)
    node.sample_hashes(0.0, ID)
    pending = _queries(node)
    for number, (body, ip, kind) in enumerate(replies):
        if not pending:
            break
        query, endpoint = pending.pop(0)
        if kind == 0:
            packet = krpc.encode_failure(query.transaction, 203, "no", version=b"evil")
        else:
            values = {b"id": bytes([number]) * 20} | (body if kind == 1 else body | {b"id": bytes([number + 1]) * 20})
            packet = encode({b"ip": ip, b"r": values, b"t": query.transaction, b"y": b"r"})
        node.handle_packet(number * 0.1, packet, endpoint)
        pending += _queries(node)
        node.poll_events()
    for second in range(10, 200, 7):
        node.handle_time(float(second))
        node.poll_packets()
    assert node.searching <= 1  # only the search for a place in the network goes on


def _queries(node: DhtNode) -> list[tuple[Query, Endpoint]]:
    found = []
    for data, endpoint in node.poll_packets():
        message = krpc.decode(data)
        if isinstance(message, Query):
            found.append((message, endpoint))
    return found


def asked(node: DhtNode, entrance: Endpoint) -> Query:
    """The get_peers query that a node has sent to its entrance."""
    node.add_entrances(0.0, [entrance])
    node.find_peers(0.0, ID)
    query = queries_to(node.poll_packets(), entrance)[0]
    assert query.method == b"get_peers"
    return query


def found(node: DhtNode) -> list[str]:
    return [str(peer) for event in node.poll_events() if isinstance(event, PeersFound) for peer in event.peers]


def reply_to(query: Query, values: dict[bytes, Any], transaction: bytes = b"") -> bytes:
    return krpc.encode_reply(
        transaction or query.transaction, {b"id": ID[::-1]} | values, version=b"test", ip=at("81.2.69.142")
    )


def test_a_reply_counts_from_the_one_who_was_asked_with_its_transaction_only() -> None:
    node = node_at(at("81.2.69.142"))
    query = asked(node, STRANGER)
    peer = {b"values": [at("99.9.9.9")]}
    node.handle_packet(0.1, reply_to(query, peer), at("99.1.2.4"))  # another host
    node.handle_packet(0.1, reply_to(query, peer), at("99.1.2.3", 6882))  # another port
    node.handle_packet(0.1, reply_to(query, peer, transaction=b"zzzz"), STRANGER)  # guessed
    assert found(node) == []
    assert node.dropped == 3
    table = node.table()
    assert table is not None
    assert len(table) == 0
    node.handle_packet(0.2, reply_to(query, peer), STRANGER)
    assert found(node) == ["99.9.9.9:6881"]
    assert len(table) == 1
    node.handle_packet(0.3, reply_to(query, {b"values": [at("99.9.9.8")]}), STRANGER)  # the same answer once more
    assert found(node) == []


def test_a_transaction_cannot_be_guessed_from_the_one_before() -> None:
    node = node_at(at("81.2.69.142"))
    entrances = [at(public(number)) for number in range(3)]
    node.add_entrances(0.0, entrances)
    node.find_peers(0.0, ID)
    node.find_peers(0.0, ID[::-1])
    transactions = {query.transaction for query, _ in _queries(node)}
    assert len(transactions) == 6
    assert {len(transaction) for transaction in transactions} == {4}


def test_an_answer_after_its_time_is_dropped() -> None:
    node = node_at(at("81.2.69.142"))
    query = asked(node, STRANGER)
    node.handle_time(1.5)
    node.handle_time(7.0)
    ended = [event for event in node.poll_events() if isinstance(event, SearchEnded)]
    assert [(end.answers, end.found) for end in ended] == [(0, 0)]
    node.handle_packet(7.5, reply_to(query, {b"values": [at("99.9.9.9")]}), STRANGER)
    assert found(node) == []


def test_a_late_answer_within_its_time_counts() -> None:
    node = node_at(at("81.2.69.142"))
    query = asked(node, STRANGER)
    node.handle_time(1.5)
    node.handle_packet(4.0, reply_to(query, {b"values": [at("99.9.9.9")]}), STRANGER)
    assert found(node) == ["99.9.9.9:6881"]


def test_nobody_on_the_internet_sends_us_into_our_own_network() -> None:
    node = node_at(at("81.2.69.142"))
    query = asked(node, STRANGER)
    inside = [at("127.0.0.1"), at("10.0.0.1"), at("192.168.1.1"), at("169.254.169.254", 8080), at("99.7.7.7", 25)]
    values = {
        b"values": [*inside, at("99.9.9.9"), b"short", b"2a02" * 4 + b"\x00\x50"],
        b"nodes": krpc.encode_nodes(Contact(bytes([n]) * 20, inside[n]) for n in range(5)),
    }
    node.handle_packet(0.1, reply_to(query, values), STRANGER)
    assert found(node) == ["99.9.9.9:6881"]
    assert node.poll_packets() == []


def test_in_a_private_network_its_own_addresses_are_fine() -> None:
    node = node_at(at("10.0.0.7"))
    query = asked(node, at("10.0.0.1"))
    node.handle_packet(
        0.1, reply_to(query, {b"values": [at("10.0.0.9")], b"nodes": krpc.encode_nodes([Contact(ID, at("10.0.0.8"))])}),
        at("10.0.0.1"),
    )  # fmt: skip
    assert found(node) == ["10.0.0.9:6881"]
    assert [endpoint for _, endpoint in node.poll_packets()] == [at("10.0.0.8")]


def test_one_answer_cannot_name_a_crowd() -> None:
    node = node_at(at("81.2.69.142"))
    query = asked(node, STRANGER)
    rng = random.Random(1)
    for _ in range(40):
        values = {b"values": [at(public(n), 2000 + rng.randrange(60_000)) for n in range(100)]}
        values[b"nodes"] = krpc.encode_nodes(Contact(rng.randbytes(20), at(public(n))) for n in range(60))  # type: ignore[assignment]
        data = encode({b"r": {b"id": ID} | values, b"t": query.transaction, b"y": b"r"})
        assert len(data) > 2000
        node.handle_packet(0.1, data, STRANGER)
        queries = _queries(node)
        if not queries:
            break
        query, _ = queries[0]
        assert len(queries) <= 4
    assert len(found(node)) <= 200


def test_a_network_that_answers_with_errors_ends_a_search() -> None:
    net = Net()
    endpoints = net.crowd(3)
    for endpoint in endpoints[1:]:
        net.nodes[endpoint].read_only = True
    number = net.nodes[endpoints[0]].find_peers(net.now, ID)
    net.settle()
    end = net.ended(endpoints[0], number)
    assert end.answers == 0
    assert end.questions >= 2
