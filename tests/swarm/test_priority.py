from __future__ import annotations

import pytest

from btfast.metainfo.addresses import PeerAddress
from btfast.metainfo.crc32c import crc32c
from btfast.swarm.external import ExternalAddress
from btfast.swarm.priority import peer_priority


def test_the_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"") == 0


@pytest.mark.parametrize(
    ("one", "other", "priority"),
    [
        ("123.213.32.10", "98.76.54.32", 0xEC2D7224),  # BEP 40's own two
        ("123.213.32.10", "123.213.32.234", 0x99568189),
    ],
)
def test_the_vectors_of_the_specification(one: str, other: str, priority: int) -> None:
    assert peer_priority(PeerAddress(one, 1), PeerAddress(other, 2)) == priority
    assert peer_priority(PeerAddress(other, 2), PeerAddress(one, 1)) == priority


def test_one_host_is_told_apart_by_ports() -> None:
    one, other = PeerAddress("10.0.0.1", 6881), PeerAddress("10.0.0.1", 6882)
    assert peer_priority(one, other) == peer_priority(other, one) == crc32c(b"\x1a\xe1\x1a\xe2")


@pytest.mark.parametrize(
    ("near", "counted"),
    [
        # The bytes of the addresses that differ beyond what counts make no difference.
        (("1.2.3.4", "9.9.0.0", "9.9.170.170"), True), (("1.2.3.4", "1.2.9.0", "1.2.9.170"), True),
        (("1.2.3.4", "1.2.3.9", "1.2.3.163"), False),
        (("2001:db8::1", "2002::", "2002::aaaa"), True),
        (("2001:db8:1:2::", "2001:db8:1:3:aa00::", "2001:db8:1:3:0::"), True),
        (("2001:db8::1", "2001:db8::", "2001:db8::aa"), False),
    ],
)  # fmt: skip
def test_only_the_network_of_far_hosts_counts(near: tuple[str, str, str], counted: bool) -> None:
    own, one, other = (PeerAddress(host, 1) for host in near)
    assert (peer_priority(own, one) == peer_priority(own, other)) is counted


def test_two_families_have_no_priority() -> None:
    assert peer_priority(PeerAddress("1.2.3.4", 1), PeerAddress("::1", 1)) == 0


def test_our_address_is_what_hosts_of_several_networks_say() -> None:
    external = ExternalAddress()
    for _ in range(9):
        external.handle_vote("5.5.5.5", "8.8.8.8")
    assert external.host(v6=False) == ""
    external.handle_vote("6.6.6.6", "8.8.8.8")
    external.handle_vote("7.7.7.7", "192.168.0.1")
    assert external.host(v6=False) == ""
    external.handle_vote("7.7.7.7", "8.8.8.8")
    assert external.host(v6=False) == "8.8.8.8"
    for number in range(3):  # other addresses in one /64 are one voter
        external.handle_vote(f"2001:4860::{number + 1}", "2606:4700::1")
    assert external.host(v6=True) == ""
    for number in range(1, 4):
        external.handle_vote(f"2001:4860:0:{number}::1", "2606:4700::1")
    assert external.host(v6=True) == "2606:4700::1"


def test_a_few_liars_do_not_move_us() -> None:
    external = ExternalAddress()
    for number in range(10):
        external.handle_vote(f"5.5.5.{number}", "8.8.8.8")
    for number in range(4):
        external.handle_vote(f"6.6.6.{number}", "9.9.9.9")
    assert external.host(v6=False) == "8.8.8.8"
