from __future__ import annotations

from btfast.metainfo.addresses import PeerAddress
from btfast.swarm.peers import KnownPeers, Source, host_group


def test_a_public_ipv6_host_is_banned_with_its_network() -> None:
    known = KnownPeers()
    near, far = PeerAddress("2a01:4f8:1:2:aaaa::1", 7000), PeerAddress("2a01:4f8:1:3::1", 6881)
    known.add(near, Source.TRACKER, 0.0)
    known.banned(PeerAddress("2a01:4f8:1:2::1", 6881), whole_host=True)
    assert known.is_banned(near)
    assert not known.is_banned(far)
    assert known.next_dial(0.0) is None
    assert not known.add(near, Source.PEX, 0.0)
    assert known.add(far, Source.PEX, 0.0)


def test_what_one_party_holds() -> None:
    assert host_group("8.8.8.8") == "8.8.8.8"
    assert host_group("2a01:4f8:1:2:aaaa::1") == host_group("2a01:4f8:1:2::") != host_group("2a01:4f8:1:3::")
    assert host_group("fd00::1") != host_group("fd00::2")
    assert host_group("fe80::1%eth0") != host_group("fe80::2%eth0")
    assert host_group("::1") == "::1"
