"""What a node answers, what it refuses, and what it does when it is flooded, lied to, or its clock jumps."""

from __future__ import annotations

import random

import pytest
from dht_network import Net, Stranger, at, node_at, public

from btfast._bencode import encode
from btfast.discovery.dht import krpc
from btfast.discovery.dht.bloom import estimate
from btfast.discovery.dht.endpoints import Endpoint
from btfast.discovery.dht.events import HashesFound, ItemFound, PeersFound
from btfast.discovery.dht.items import Item, make_value
from btfast.discovery.dht.krpc import Contact
from btfast.discovery.dht.limits import MAX_HOSTS, HostBuckets
from btfast.discovery.dht.node import DhtNode
from btfast.discovery.dht.peer_store import PeerStore
from btfast.discovery.dht.search import Announcement
from btfast.discovery.dht.signatures import public_key, sign
from btfast.discovery.dht.table import BAD, FRESH, TABLE_NETWORK, K, Table
from btfast.discovery.dht.tokens import LIFE
from btfast.metainfo.addresses import PeerAddress

HASH = b"h" * 20
US = at("81.2.69.142")


def stranger(host: str = "99.1.2.3", *, node: DhtNode | None = None, port: int = 6881) -> Stranger:
    return Stranger(node or node_at(US), at(host, port))


def token_of(asker: Stranger, target: bytes = HASH) -> bytes:
    token = asker.values(b"get_peers", {b"info_hash": target})[b"token"]
    assert isinstance(token, bytes)
    return token


def announce(asker: Stranger, token: bytes, **more: object) -> object:
    arguments = {b"info_hash": HASH, b"port": 7000, b"token": token}
    return asker.ask(b"announce_peer", arguments | {name.encode(): value for name, value in more.items()})


# announces


def test_what_is_announced_is_found_by_others() -> None:
    asker = stranger()
    assert isinstance(announce(asker, token_of(asker)), krpc.Reply)
    other = stranger("98.1.2.3", node=asker.node)
    assert other.values(b"get_peers", {b"info_hash": HASH})[b"values"] == [at("99.1.2.3", 7000)]
    assert b"values" not in other.values(b"get_peers", {b"info_hash": b"g" * 20})


def test_an_implied_port_is_that_of_the_packet() -> None:
    asker = stranger(port=9000)
    announce(asker, token_of(asker), implied_port=1, port=1)
    assert asker.values(b"get_peers", {b"info_hash": HASH})[b"values"] == [at("99.1.2.3", 9000)]


@pytest.mark.parametrize("port", [0, 80, 1023, 65536, -1, b"7000"])
def test_a_port_that_no_peer_has_is_refused(port: object) -> None:
    asker = stranger()
    answer = announce(asker, token_of(asker), port=port)
    assert isinstance(answer, krpc.Failure)
    assert answer.code == krpc.PROTOCOL


def test_a_token_is_good_for_its_host_its_target_and_ten_minutes() -> None:
    asker = stranger()
    token = token_of(asker)
    thief = stranger("99.1.2.4", node=asker.node)
    assert isinstance(announce(thief, token), krpc.Failure)
    assert asker.code(b"announce_peer", {b"info_hash": b"g" * 20, b"port": 7000, b"token": token}) == krpc.PROTOCOL
    assert asker.code(b"announce_peer", {b"info_hash": HASH, b"port": 7000, b"token": b""}) == krpc.PROTOCOL
    assert asker.code(b"announce_peer", {b"info_hash": HASH, b"port": 7000}) == krpc.PROTOCOL
    for wait, good in ((LIFE + 1, True), (LIFE + 1, False)):
        asker.now += wait
        assert isinstance(announce(asker, token), krpc.Reply) is good
    asker.now += 100 * LIFE
    assert isinstance(announce(asker, token), krpc.Failure)


def test_peers_are_forgotten_after_half_an_hour() -> None:
    asker = stranger()
    announce(asker, token_of(asker))
    asker.now += 1900
    assert b"values" not in asker.values(b"get_peers", {b"info_hash": HASH})
    assert len(asker.node.peers) == 0


def test_seeds_are_left_out_and_counted_apart() -> None:
    node = node_at(US)
    for number in range(60):
        asker = stranger(public(number), node=node)
        announce(asker, token_of(asker), seed=number % 2)
    values = asker.values(b"get_peers", {b"info_hash": HASH, b"noseed": 1, b"scrape": 1})
    assert len(values[b"values"]) <= 30
    assert estimate(values[b"BFsd"]) == pytest.approx(30, abs=2)
    assert estimate(values[b"BFpe"]) == pytest.approx(30, abs=2)


def test_the_store_has_bounds() -> None:
    store = PeerStore(random.Random(1).randbytes)
    for number in range(10_500):
        assert store.announce(number.to_bytes(20, "big"), at(public(number)), 0.0)
    assert store.hashes == 10_000
    assert store.peers((10_499).to_bytes(20, "big"), 1.0, v6=False, count=5) == [at(public(10_499))]
    for number in range(2_500):
        store.announce(HASH, at("99.1.1.1", 2000 + number), 0.0)
    assert len(store.peers(HASH, 1.0, v6=False, count=5000)) == 2_000
    store.expire(5000.0)
    assert len(store) == store.hashes == 0


def test_samples_are_given_and_stay_the_same_for_a_while() -> None:
    asker = stranger()
    hashes = [bytes([n]) * 20 for n in range(30)]
    for info_hash in hashes:
        asker.node.peers.announce(info_hash, at("98.1.2.3"), 0.0)
    first = asker.values(b"sample_infohashes", {b"target": HASH})
    samples = first[b"samples"]
    assert first[b"num"] == 30
    assert len({samples[at : at + 20] for at in range(0, len(samples), 20)} & set(hashes)) == 20
    asker.now = 100.0
    second = asker.values(b"sample_infohashes", {b"target": HASH})
    assert second[b"samples"] == samples
    assert 0 < second[b"interval"] <= first[b"interval"] <= 21600


# other queries


def test_unknown_queries_that_name_a_target_get_nodes_and_others_an_error() -> None:
    asker = stranger()
    assert b"nodes" in asker.values(b"vote", {b"target": HASH})
    assert b"nodes" in asker.values(b"vote", {b"info_hash": HASH})
    assert asker.code(b"vote") == krpc.UNKNOWN_METHOD
    assert asker.code(b"find_node") == krpc.PROTOCOL
    assert asker.code(b"get_peers", {b"info_hash": b"short"}) == krpc.PROTOCOL


def test_a_family_is_named_when_it_is_wanted() -> None:
    node = node_at(US, families=(True, True))
    for v6 in (False, True):
        table = node.table(v6=v6)
        assert table is not None
        for number in range(1, 10):
            table.handle_answer(Contact(bytes([number]) * 20, at(f"2a02:{number}::1" if v6 else public(number))), 0.0)
    asker = stranger(node=node)
    assert set(asker.values(b"find_node", {b"target": HASH})) == {b"id", b"nodes"}
    both = asker.values(b"find_node", {b"target": HASH, b"want": [b"n4", b"n6", b"n8"]})
    assert len(both[b"nodes"]) == 8 * 26
    assert len(both[b"nodes6"]) == 8 * 38
    over6 = Stranger(node, at("2a02:99::1"))
    assert set(over6.values(b"find_node", {b"target": HASH})) == {b"id", b"nodes6"}


def test_a_read_only_node_asks_and_does_not_answer() -> None:
    net = Net()
    endpoints = net.crowd(5)
    net.nodes[endpoints[1]].peers.announce(HASH, at("98.1.2.3"), net.now)
    quiet = at("81.2.69.142")
    node = net.add(quiet, endpoints[0], read_only=True)
    number = node.find_peers(net.now, HASH, announcement=Announcement(7000, False))
    net.settle()
    assert net.ended(quiet, number).found == 1
    assert net.ended(quiet, number).stored == 0
    assert Stranger(node, at("99.1.2.3"), now=net.now).raw(krpc.encode_query(b"t", b"ping", {b"id": HASH}, version=b"t")) == []
    assert all(quiet not in table for other in endpoints if (table := net.nodes[other].table()) is not None)


# items


def test_an_immutable_item_goes_round() -> None:
    net = Net()
    endpoints = net.crowd(20)
    item = Item(make_value([b"hello", 5, {b"a": []}]))
    number = net.nodes[endpoints[3]].put_item(net.now, item)
    net.settle()
    assert net.ended(endpoints[3], number).stored == 8
    net.nodes[endpoints[9]].find_item(net.now, item.target)
    net.settle()
    assert [event.item.value for event in net.events[endpoints[9]] if isinstance(event, ItemFound)] == [item.value]


def signed(value: object, seq: int, salt: bytes = b"", seed: bytes = b"k" * 32) -> Item:
    item = Item(make_value(value), public_key(seed), salt, seq)
    return item._replace(signature=sign(seed, item.signed))


def test_the_newest_mutable_item_is_found() -> None:
    net = Net()
    endpoints = net.crowd(20)
    for seq in (1, 2):
        number = net.nodes[endpoints[3]].put_item(net.now, signed(b"version %d" % seq, seq, b"salt"))
        net.settle()
        assert net.ended(endpoints[3], number).stored == 8
    net.nodes[endpoints[9]].find_item(net.now, signed(b"", 1, b"salt").target, salt=b"salt")
    net.settle()
    found = [event.item for event in net.events[endpoints[9]] if isinstance(event, ItemFound)]
    assert (found[-1].seq, found[-1].value) == (2, b"9:version 2")


def put(asker: Stranger, item: Item, **more: object) -> object:
    token = asker.values(b"get", {b"target": item.target})[b"token"]
    body: dict[bytes, object] = {b"v": item.value[item.value.index(b":") + 1 :], b"token": token}
    if item.key:
        body |= {b"k": item.key, b"seq": item.seq, b"sig": item.signature}
        if item.salt:
            body[b"salt"] = item.salt
    answer = asker.ask(b"put", body | {name.encode(): value for name, value in more.items()})
    return answer.code if isinstance(answer, krpc.Failure) else answer


def test_the_items_of_bep_44() -> None:
    key = bytes.fromhex("77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548")
    plain = bytes.fromhex(
        "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff"
        "1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01"
    )
    salted = bytes.fromhex(
        "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d"
        "df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08"
    )
    for item, target in (
        (Item(b"12:Hello World!"), "e5f96f6f38320f0f33959cb4d3d656452117aadb"),
        (Item(b"12:Hello World!", key, b"", 1, plain), "4a533d47ec9c7d95b1ad75f576cffc641853b750"),
        (Item(b"12:Hello World!", key, b"foobar", 1, salted), "411eba73b6f087ca51a3795d9c8c938d365e32c1"),
    ):
        assert item.target.hex() == target
        asker = stranger()
        assert isinstance(put(asker, item), krpc.Reply)
        assert asker.values(b"get", {b"target": item.target})[b"v"] == b"Hello World!"


def test_items_that_break_the_rules_are_refused() -> None:
    asker = stranger()
    good = signed(b"two", 2)
    assert isinstance(put(asker, good), krpc.Reply)
    assert put(asker, signed(b"one", 1)) == krpc.OLD_SEQ
    assert put(asker, signed(b"other", 2)) == krpc.OLD_SEQ
    assert isinstance(put(asker, good), krpc.Reply)  # once more, to keep it alive
    assert put(asker, signed(b"three", 3), cas=1) == krpc.CAS_MISMATCH
    assert put(asker, good._replace(seq=5)) == krpc.BAD_SIGNATURE
    assert put(asker, good._replace(signature=b"s" * 64, seq=6)) == krpc.BAD_SIGNATURE
    assert put(asker, good, salt=b"s" * 65) == krpc.SALT_TOO_BIG
    assert put(asker, Item(encode(b"x" * 1001))) == krpc.TOO_BIG
    assert put(asker, Item(b"3:abc"), token=b"wrong...") == krpc.PROTOCOL
    values = asker.values(b"get", {b"target": good.target, b"seq": 2})
    assert values[b"seq"] == 2
    assert b"v" not in values
    asker.now += 7300
    assert b"v" not in asker.values(b"get", {b"target": good.target})


def test_a_value_that_is_not_what_was_asked_for_is_not_told() -> None:
    node = node_at(US)
    entrance = at("99.1.2.3")
    node.add_entrances(0.0, [entrance])
    node.find_item(0.0, Item(b"3:abc").target)
    (data, _), = node.poll_packets()
    query = krpc.decode(data)
    assert isinstance(query, krpc.Query)
    lie = {b"id": HASH, b"v": b"abd", b"token": b"t"}
    node.handle_packet(0.1, krpc.encode_reply(query.transaction, lie, version=b"liar", ip=US), entrance)
    node.handle_time(10.0)
    assert not [event for event in node.poll_events() if isinstance(event, ItemFound)]


# the table


def answered(table: Table, endpoint: Endpoint, node_id: bytes, now: float = 0.0) -> bool:
    return table.handle_answer(Contact(node_id, endpoint), now)


def test_one_network_gets_little_of_the_table() -> None:
    rng = random.Random(1)
    table = Table(rng.randbytes(20))
    for _ in range(5000):
        answered(table, at(f"99.1.2.{rng.randrange(256)}", 1024 + rng.randrange(60_000)), rng.randbytes(20))
    assert len(table) <= TABLE_NETWORK
    assert len({node.contact.endpoint[:4] for node in table.nodes()}) == len(table)
    for number in range(200):
        answered(table, at(public(number)), rng.randbytes(20))
    assert len(table) > 40


def test_one_host_is_there_once_and_one_id_too() -> None:
    table = Table(bytes(20))
    assert answered(table, at("99.1.2.3", 5000), b"a" * 20)
    assert not answered(table, at("99.1.2.3", 5001), b"b" * 20)
    assert not answered(table, at("98.1.2.3"), b"a" * 20)
    assert not answered(table, at("97.1.2.3"), bytes(20))  # our own id
    assert answered(table, at("99.1.2.3", 5000), b"c" * 20)  # it has changed its id: the old one is gone
    assert [node.contact.node_id for node in table.nodes()] == [b"c" * 20]


def test_ids_beside_ours_cannot_split_it_for_ever() -> None:
    rng = random.Random(1)
    table = Table(bytes(20))
    for number in range(2000):
        answered(table, at(public(number)), bytes(18) + rng.randbytes(2))
    assert table.depth <= 160
    assert len(table) <= table.depth * K


def test_the_nearest_are_found_whatever_the_shape() -> None:
    rng = random.Random(3)
    table = Table(rng.randbytes(20))
    for number in range(500):
        answered(table, at(public(number)), rng.randbytes(20))
    everybody = [node.contact for node in table.nodes()]
    for _ in range(50):
        target = rng.randbytes(20)
        nearest = sorted(everybody, key=lambda contact: int.from_bytes(contact.node_id, "big") ^ int.from_bytes(target, "big"))
        assert table.closest(target) == nearest[:K]


def test_one_that_fails_goes_and_who_waits_comes_in() -> None:
    table = Table(bytes(20))
    far = [(at(public(number)), b"\xff" + bytes([number]) * 19) for number in range(K + 1)]
    for endpoint, node_id in far:
        answered(table, endpoint, node_id)
    for number in range(20):  # so that the bucket of the far ones is not the last
        answered(table, at(public(100 + number)), bytes([number + 1]) * 20)
    gone = next(endpoint for endpoint, _ in far if endpoint in table)
    waiting = [endpoint for endpoint, _ in far if endpoint not in table]
    answered(table, waiting[0], dict(far)[waiting[0]])
    table.handle_failure(gone, 10.0)
    assert gone not in table
    assert waiting[0] in table


def test_when_nobody_answers_the_fault_is_ours() -> None:
    table = Table(bytes(20))
    endpoints = [at(public(number)) for number in range(12)]
    for number, endpoint in enumerate(endpoints):
        answered(table, endpoint, bytes([number * 20 + 1]) * 20)
    before = len(table)
    for _ in range(BAD + 2):
        for endpoint in endpoints:
            table.handle_failure(endpoint, 10.0)
    assert len(table) >= before // 2
    assert table.good(10.0) == []


def test_nodes_are_good_for_a_quarter_of_an_hour() -> None:
    table = Table(bytes(20))
    answered(table, at("99.1.2.3"), b"a" * 20, 0.0)
    assert len(table.good(FRESH - 1)) == 1
    assert table.good(FRESH + 1) == []
    table.handle_query(Contact(b"a" * 20, at("99.1.2.3")), FRESH + 1)
    assert len(table.good(FRESH + 2)) == 1


def test_a_forged_address_never_gets_into_the_table() -> None:
    node = node_at(US)
    for number in range(300):
        Stranger(node, at(public(number)), node_id=bytes([number % 256]) * 20).ask(b"ping", read_only=False)
    table = node.table()
    assert table is not None
    assert len(table) == 0


# limits


def test_nobody_can_be_flooded_through_us() -> None:
    node = node_at(US)
    victim = stranger(node=node)
    for number in range(100):
        node.peers.announce(HASH, at(public(number)), 0.0)
    sent = 0
    for tick in range(10_000):  # a thousand a second for ten seconds
        victim.now = tick / 1000
        packet = krpc.encode_query(b"t", b"get_peers", {b"id": HASH, b"info_hash": HASH, b"scrape": 1}, version=b"t")
        sent += sum(len(data) for data, endpoint in victim.raw(packet) if endpoint == victim.endpoint)
    assert sent < 100_000
    other = stranger("98.1.2.3", node=node)
    other.now = victim.now
    assert other.values(b"ping")


def test_a_flood_from_everywhere_is_bounded_too() -> None:
    node = node_at(US)
    rng = random.Random(1)
    packet = krpc.encode_query(b"t", b"find_node", {b"id": HASH, b"target": HASH}, version=b"t")
    answers = 0
    for _ in range(20_000):
        node.handle_packet(0.5, packet, at(public(rng.randrange(9000), rng.randrange(200))))
        answers += len(node.poll_packets())
    assert answers <= 8000
    assert node.dropped > 10_000
    buckets = HostBuckets(1, 1)
    for number in range(3 * MAX_HOSTS):
        buckets.take(number.to_bytes(4, "big"), 1, 0.0)
    assert len(buckets) == MAX_HOSTS


def test_searches_wait_for_one_another_and_all_end() -> None:
    net = Net()
    endpoints = net.crowd(12)
    node = net.nodes[endpoints[0]]
    numbers = [node.find_peers(net.now, random.Random(n).randbytes(20)) for n in range(80)]
    net.settle()
    assert node.searching > 40
    assert all(net.ended(endpoints[0], number).answers for number in numbers)


# time


def test_a_clock_that_jumps_changes_nothing_for_good() -> None:
    net = Net()
    endpoints = net.crowd(15)
    node = net.nodes[endpoints[4]]
    table = node.table()
    assert table is not None
    before = len(table)
    node.find_peers(net.now, HASH)
    node.poll_packets()  # its questions are lost
    for jump in (86_400.0, -50_000.0, 3600.0, -1e6, 1e7):
        now = net.now + jump
        node.handle_time(now)
        node.handle_packet(now, b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe", at("99.1.2.3"))
        node.poll_packets()
        node.poll_events()
    assert len(table) == before
    deadline = node.poll_deadline()
    assert deadline is not None
    assert deadline - now < 1000
    net.now = now
    number = node.find_peers(net.now, HASH)
    net.settle()
    assert net.ended(endpoints[4], number).answers >= 8


def test_a_node_that_lost_everybody_finds_them_again() -> None:
    net = Net()
    endpoints = net.crowd(10)
    late = at("81.2.69.142")
    net.lost |= set(endpoints)
    node = net.add(late, *endpoints[:2])
    net.run(120)
    assert not node.is_ready
    net.lost.clear()
    net.run(400)
    table = node.table()
    assert table is not None
    assert len(table.good(net.now)) >= 8


# whole searches


def test_an_announced_peer_is_found_over_either_family() -> None:
    for v6 in (False, True):
        net = Net()
        endpoints = [at(f"2a02:{number:x}::1" if v6 else public(number)) for number in range(30)]
        for endpoint in endpoints:
            net.add(endpoint, endpoints[0])
        number = net.nodes[endpoints[7]].find_peers(net.now, HASH, announcement=Announcement(7000, False))
        net.settle()
        assert net.ended(endpoints[7], number).stored == 8
        net.nodes[endpoints[20]].find_peers(net.now, HASH)
        net.settle()
        found = [event.peers for event in net.events[endpoints[20]] if isinstance(event, PeersFound)]
        assert found == [[PeerAddress("2a02:7::1" if v6 else public(7), 7000)]]


def test_hashes_are_sampled_along_the_way() -> None:
    net = Net()
    endpoints = net.crowd(10)
    for number, endpoint in enumerate(endpoints):
        net.nodes[endpoint].peers.announce(bytes([number]) * 20, at("98.1.2.3"), net.now)
    net.nodes[endpoints[0]].sample_hashes(net.now, HASH)
    net.settle()
    found = [info_hash for event in net.events[endpoints[0]] if isinstance(event, HashesFound) for info_hash in event.hashes]
    assert len(set(found)) == len(found) >= 8
    assert set(found) <= {bytes([number]) * 20 for number in range(1, 10)}
