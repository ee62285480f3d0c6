"""Node ids, endpoints, votes about our own address, and the vectors of BEP 33 and 42."""

from __future__ import annotations

import ipaddress

import pytest
from dht_network import Net, Stranger, at, node_at, public
from hypothesis import given
from hypothesis import strategies as st

from btfast.discovery.dht import bloom
from btfast.discovery.dht.endpoints import host_key, may_be_named, may_speak, network_key, pack, unpack
from btfast.discovery.dht.events import Moved
from btfast.discovery.dht.node_id import distance, fits, make_id
from btfast.discovery.dht.votes import QUORUM, Votes
from btfast.metainfo.addresses import PeerAddress
from btfast.metainfo.crc32c import crc32c
from btfast.metainfo.reach import reach_of

BEP42 = [
    ("124.31.75.21", 1, "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401"),
    ("21.75.31.124", 86, "5a3ce9c14e7a08645677bbd1cfe7d8f956d53256"),
    ("65.23.51.170", 22, "a5d43220bc8f112a3d426c84764f8c2a1150e616"),
    ("84.124.73.14", 65, "1b0321dd1bb1fe518101ceef99462b947a01ff41"),
    ("43.213.53.83", 90, "e56f6cbf5b7c4be0237986d5243b87aa6d51305a"),
]
BEP33 = (
    "f6c3f5eaa07ffd91bde89f777f26fb2bff37bdb8fb2bbaa2fd3ddde7bacfff75ee7ccbae"
    "fe5eedb1fbfaff67f6abff5e43ddbca3fd9b9ffdf4ffd3e9dff12d1bdf59db53dbe9fa5b"
    "7ff3b8fdfcde1afb8bedd7be2f3ee71ebbbfe93bcdeefe148246c2bc5dbff7e7efdcf24f"
    "d8dc7adffd8fffdfddfff7a4bbeedf5cb95ce81fc7fcff1ff4ffffdfe5f7fdcbb7fd79b3"
    "fa1fc77bfe07fff905b7b7ffc7fefeffe0b8370bb0cd3f5b7f2bd93feb4386cfdd6f7fd5"
    "bfaf2e9ebffffeecd67adbf7c67f17efd5d75eba6ffeba7fff47a91eb1bfbb53e8abfb57"
    "62abe8ff237279bfefbfeef5ffc5febfdfe5adffadfee1fb737ffffbfd9f6aeffeee76b6"
    "fd8f72ef"
)


def test_crc32c_of_the_known_check_value() -> None:
    assert crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize(("host", "last", "node_id"), BEP42)
def test_ids_of_bep_42_fit_their_addresses(host: str, last: int, node_id: str) -> None:
    packed, raw = ipaddress.ip_address(host).packed, bytes.fromhex(node_id)
    assert raw[19] == last
    assert fits(raw, packed)
    assert make_id(packed, raw) == raw  # what is free in it stays
    assert not fits(bytes([raw[0] ^ 0x80]) + raw[1:], packed)
    assert not fits(raw, ipaddress.ip_address("8.8.8.8").packed)


@given(st.binary(min_size=20, max_size=20), st.sampled_from(["81.2.69.142", "2a02:2e0:3fe:1001:302::1"]))
def test_an_id_that_is_made_for_an_address_fits_it(random: bytes, host: str) -> None:
    packed = ipaddress.ip_address(host).packed
    made = make_id(packed, random)
    assert len(made) == 20
    assert fits(made, packed)
    assert made[3:] == random[3:]


@pytest.mark.parametrize("host", ["127.0.0.1", "10.1.2.3", "192.168.7.7", "169.254.1.1", "::1", "fe80::1", "fd00::5"])
def test_any_id_fits_where_addresses_are_not_public(host: str) -> None:
    assert fits(bytes(20), ipaddress.ip_address(host).packed)


def test_distance_is_xor() -> None:
    assert distance(bytes(20), bytes(19) + b"\5") == 5
    assert distance(b"\x80" + bytes(19), bytes(20)) == 1 << 159


def test_the_filter_of_bep_33() -> None:
    hosts = [bytes([192, 0, 2, last]) for last in range(256)]
    hosts += [ipaddress.ip_address(f"2001:db8::{last:x}").packed for last in range(1000)]
    made = bloom.make_filter(hosts)
    assert made.hex() == BEP33
    assert bloom.estimate(made) == pytest.approx(1224.9309, abs=1e-3)
    assert bloom.united(bloom.make_filter(hosts[:500]), bloom.make_filter(hosts[400:])) == made
    assert bloom.estimate(bytes(256)) == 0
    assert bloom.estimate(b"\xff" * 256) > 6000


@pytest.mark.parametrize("host", ["1.2.3.4", "2001:db8::7"])
def test_endpoints_are_addresses_in_another_form(host: str) -> None:
    address = PeerAddress(host, 6881)
    endpoint = pack(address)
    assert endpoint is not None
    assert unpack(endpoint) == address


def test_a_mapped_address_is_an_ipv4_one_and_a_scope_is_nobodys_business() -> None:
    assert pack(PeerAddress("::ffff:1.2.3.4", 5)) == pack(PeerAddress("1.2.3.4", 5))
    assert pack(PeerAddress("fe80::1%eth0", 5)) == pack(PeerAddress("fe80::1", 5))
    assert pack(PeerAddress("example.org", 5)) is None
    assert pack(PeerAddress("1.2.3.4", 0)) is None


@pytest.mark.parametrize(
    ("host", "port", "namer", "may"),
    [
        ("81.2.69.142", 6881, "81.2.69.7", True),
        ("81.2.69.142", 53, "81.2.69.7", False),
        ("127.0.0.1", 6881, "81.2.69.7", False),
        ("10.0.0.1", 6881, "81.2.69.7", False),
        ("169.254.1.1", 6881, "81.2.69.7", False),
        ("::1", 6881, "81.2.69.7", False),
        ("fe80::1", 6881, "81.2.69.7", False),
        ("127.0.0.1", 6881, "127.0.0.1", True),
        ("192.168.1.1", 6881, "127.0.0.1", True),
        ("127.0.0.1", 6881, "192.168.1.1", False),
        ("192.168.1.9", 6881, "192.168.1.1", True),
        ("127.0.0.1", 22, "127.0.0.1", False),
        ("0.0.0.0", 6881, "127.0.0.1", False),
        ("224.0.0.1", 6881, "127.0.0.1", False),
        ("255.255.255.255", 6881, "127.0.0.1", False),
        ("ff02::1", 6881, "127.0.0.1", False),
    ],
)
def test_who_may_be_named(host: str, port: int, namer: str, may: bool) -> None:
    assert may_be_named(at(host, port), reach_of(namer)) is may


def test_nobody_speaks_from_port_0_or_a_group() -> None:
    assert may_speak(at("81.2.69.142", 1))
    assert not may_speak(bytes([81, 2, 69, 142, 0, 0]))
    assert not may_speak(at("239.1.1.1"))


def test_what_counts_as_one_host_and_one_network() -> None:
    assert host_key(at("81.2.69.142", 1)) == host_key(at("81.2.69.142", 2))
    assert host_key(at("127.0.0.1", 1)) != host_key(at("127.0.0.1", 2))
    assert host_key(at("2a02:1:2:3::1")) == host_key(at("2a02:1:2:3:ffff::1"))
    assert network_key(at("81.2.69.142")) == network_key(at("81.2.69.7")) != network_key(at("81.2.70.142"))
    assert network_key(at("2a02:1:2:3::1")) == network_key(at("2a02:1:2:4::1"))
    assert network_key(at("10.0.0.1")) is None


def test_a_few_agreeing_networks_decide_where_we_are() -> None:
    votes = Votes()
    seen = at("81.2.69.142")
    for voter in range(20):  # one network has one vote, however many addresses it has
        assert not votes.handle_vote(at(public(1, voter)), seen)
    changed = [votes.handle_vote(at(public(number)), seen) for number in range(2, 1 + QUORUM)]
    assert changed == [False] * (QUORUM - 2) + [True]
    assert votes.address == seen[:-2]


def test_no_majority_and_no_private_address_moves_us() -> None:
    votes = Votes()
    for number in range(40):
        assert not votes.handle_vote(at(public(number)), at(public(1000 + number % 2)))
        assert not votes.handle_vote(at(public(number)), at("192.168.1.2"))
    assert votes.address == b""


def test_our_id_follows_our_address_and_the_table_stays() -> None:
    net = Net()
    endpoints = net.crowd(12)
    mover = at("81.2.69.142")
    node = net.add(mover, *endpoints[:2], saved=None)
    net.run(60)
    table = node.table()
    assert table is not None
    assert len(table) >= 8
    assert node.address() == mover[:-2]
    assert fits(table.own_id, mover[:-2])
    assert any(isinstance(event, Moved) and event.host == mover[:-2] for event in net.events[mover])
    assert Stranger(node, at("99.1.2.3"), now=net.now).values(b"ping")[b"id"] == table.own_id


def test_a_node_with_the_right_id_keeps_it() -> None:
    net = Net()
    endpoints = net.crowd(12)
    before = net.nodes[endpoints[3]].table()
    assert before is not None
    net.run(300)
    assert net.nodes[endpoints[3]].table() is before
    assert not node_at(at("81.2.69.142")).poll_events()
