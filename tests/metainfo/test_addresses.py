"""Compact addresses and host:port text, there and back."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btfast.errors import InputError, RemoteError
from btfast.metainfo.addresses import (
    PeerAddress,
    decode_both,
    decode_compact,
    encode_both,
    encode_compact,
    host_text,
    packed_host,
    parse_host_port,
)

calm = settings(deadline=None, derandomize=True)
ports = st.integers(1, 65535)
v4_addresses = st.builds(PeerAddress, st.ip_addresses(v=4).map(str), ports)
v6_addresses = st.builds(
    PeerAddress, st.ip_addresses(v=6).filter(lambda ip: ip.ipv4_mapped is None).map(lambda ip: ip.compressed), ports
)


def test_addresses_print_as_people_write_them() -> None:
    assert str(PeerAddress("1.2.3.4", 5)) == "1.2.3.4:5"
    assert str(PeerAddress("::1", 5)) == "[::1]:5"


def test_compact_entries_decode_in_order() -> None:
    assert decode_compact(b"\x7f\0\0\1\x1a\xe1\x01\x02\x03\x04\0\x50") == [("127.0.0.1", 6881), ("1.2.3.4", 80)]
    assert decode_compact(bytes(15) + b"\1\x1a\xe1", v6=True) == [("::1", 6881)]
    assert decode_compact(b"") == []


def test_port_zero_is_dropped() -> None:
    assert decode_compact(b"\x01\x02\x03\x04\0\0\x01\x02\x03\x04\0\1") == [("1.2.3.4", 1)]
    assert decode_compact(bytes(18), v6=True) == []


def test_an_ipv4_address_mapped_into_ipv6_comes_out_as_ipv4() -> None:
    assert decode_compact(bytes(10) + b"\xff\xff\x01\x02\x03\x04\0\1", v6=True) == [("1.2.3.4", 1)]


@pytest.mark.parametrize(("length", "v6"), [(1, False), (5, False), (7, False), (17, True), (6, True), (19, True)])
def test_a_cut_entry_is_the_remotes_fault(length: int, v6: bool) -> None:
    with pytest.raises(RemoteError, match="not a multiple"):
        decode_compact(bytes(length), v6=v6)


@pytest.mark.parametrize("address", [("host.example", 1), ("", 1), ("1.2.3.4", 65536), ("1.2.3.4", -1), ("1.2.3", 1)])
def test_what_has_no_compact_form_is_refused(address: tuple[str, int]) -> None:
    with pytest.raises(InputError):
        encode_compact([PeerAddress(*address)])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.2.3.4:6881", ("1.2.3.4", 6881)),
        (" host.example:1 ", ("host.example", 1)),
        ("[::1]:65535", ("::1", 65535)),
        ("[0:0:0:0:0:0:0:1]:80", ("::1", 80)),
        ("localhost:80", ("localhost", 80)),
    ],
)
def test_host_and_port_are_read(text: str, expected: tuple[str, int]) -> None:
    assert parse_host_port(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "host", "host:", ":1", "host:0", "host:65536", "host:-1", "host:+1", "host:1x", "host:\u0661",
        "host:000080", "::1:80", "[::1]", "[::1]80", "[::1:80", "[host]:80", "[1.2.3.4]:80", "a b:1", "a/b:1",
        "user@host:1", "a\0b:1", "x" * 254 + ":1",
    ],
)  # fmt: skip
def test_what_is_no_host_and_port_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_host_port(text)
    assert "\n" not in str(caught.value)
    assert str(caught.value).count(": ") >= 2


@calm
@given(st.lists(v4_addresses), st.lists(v6_addresses))
def test_decoding_undoes_encoding(v4: list[PeerAddress], v6: list[PeerAddress]) -> None:
    first, second = encode_compact([*v4, *v6])
    assert len(first) == 6 * len(v4)
    assert len(second) == 18 * len(v6)
    assert decode_compact(first) == v4
    assert decode_compact(second, v6=True) == v6


@calm
@given(v4_addresses | v6_addresses)
def test_text_reads_back_as_the_same_address(address: PeerAddress) -> None:
    assert parse_host_port(str(address)) == address
    assert ipaddress.ip_address(address.host)


def test_addresses_of_both_families_in_one() -> None:
    mixed = [PeerAddress("2001:db8::1", 1), PeerAddress("192.0.2.1", 6881), PeerAddress("192.0.2.2", 2)]
    assert sorted(decode_both(encode_both(mixed))) == sorted(mixed)
    assert decode_both(encode_both([])) == []
    for damaged in (encode_both(mixed)[:-1], b"\xff" * 30):
        with pytest.raises(RemoteError):
            decode_both(damaged)


@calm
@given(v4_addresses | v6_addresses)
def test_a_host_comes_back_from_its_bytes(address: PeerAddress) -> None:
    packed = packed_host(address.host)
    assert len(packed) == (16 if ":" in address.host else 4)
    assert host_text(packed) == address.host


def test_an_ipv4_host_in_ipv6_clothes_is_one() -> None:
    assert host_text(bytes(10) + b"\xff\xff\1\2\3\4") == "1.2.3.4"
    with pytest.raises(ValueError, match="does not appear"):
        packed_host("tracker.example")
