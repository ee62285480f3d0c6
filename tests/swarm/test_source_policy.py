from __future__ import annotations

import pytest

from btfast.metainfo.addresses import PeerAddress
from btfast.metainfo.reach import Reach, reach_of
from btfast.swarm.peers import Source
from btfast.swarm.source_policy import allowed, may_name, may_redirect

HOSTS = {
    Reach.LOOPBACK: ["127.0.0.1", "::1"],
    Reach.LOCAL: ["192.168.0.1", "169.254.0.1", "fd00::1", "fe80::1"],
    Reach.PUBLIC: ["8.8.8.8", "2001:4860:4860::8888"],
    Reach.NOWHERE: ["0.0.0.0", "224.0.0.1", "255.255.255.255", "ff02::1"],
}
STRANGERS = [source for source in Source if source is not Source.OPTION]
# From where the one who names is, to what it may name.
REACHES = {
    Reach.LOOPBACK: {Reach.LOOPBACK, Reach.LOCAL, Reach.PUBLIC},
    Reach.LOCAL: {Reach.LOCAL, Reach.PUBLIC},
    Reach.PUBLIC: {Reach.PUBLIC},
}


@pytest.mark.parametrize("source", STRANGERS)
@pytest.mark.parametrize("namer", REACHES)
def test_nobody_names_what_is_nearer_than_itself(source: Source, namer: Reach) -> None:
    for reach, hosts in HOSTS.items():
        for host in hosts:
            assert may_name(source, namer, PeerAddress(host, 6881)) == (reach in REACHES[namer]), host


@pytest.mark.parametrize("source", Source)
def test_ports_of_other_services_are_out_of_bounds(source: Source) -> None:
    named = {
        port
        for port in (1, 22, 25, 80, 443, 1023, 1024, 6881, 65535)
        if may_name(source, Reach.PUBLIC, PeerAddress("8.8.8.8", port))
    }
    everywhere = {1024, 6881, 65535}
    if source is Source.OPTION:
        assert named == {1, 22, 25, 80, 443, 1023} | everywhere
    else:
        assert named == everywhere | ({80, 443} if source is Source.TRACKER else set())


def test_the_user_may_name_anything() -> None:
    for hosts in HOSTS.values():
        addresses = [PeerAddress(host, 80) for host in hosts]
        assert allowed(Source.OPTION, Reach.PUBLIC, addresses) == addresses


@pytest.mark.parametrize(
    ("before", "after", "port", "may"),
    [
        ("8.8.8.8", "8.8.4.4", 80, True), ("8.8.8.8", "8.8.4.4", 8080, True), ("8.8.8.8", "8.8.4.4", 25, False),
        ("8.8.8.8", "192.168.0.1", 80, False), ("8.8.8.8", "127.0.0.1", 8080, False), ("8.8.8.8", "::1", 443, False),
        ("192.168.0.1", "192.168.0.2", 80, True), ("192.168.0.1", "127.0.0.1", 80, False),
        ("127.0.0.1", "127.0.0.1", 6969, True), ("127.0.0.1", "8.8.8.8", 80, True), ("127.0.0.1", "0.0.0.0", 80, False),
    ],
)  # fmt: skip
def test_where_a_web_server_may_redirect_us(before: str, after: str, port: int, may: bool) -> None:
    assert may_redirect(reach_of(before), reach_of(after), port) is may
