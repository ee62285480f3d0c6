from __future__ import annotations

import pytest

from btfast.metainfo.reach import Reach, reach_of

TABLE = {
    Reach.LOOPBACK: ["127.0.0.1", "127.255.1.2", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"],
    Reach.LOCAL: [
        "10.0.0.1", "172.16.0.1", "172.31.255.254", "192.168.1.1", "169.254.1.1", "100.64.0.1", "198.18.0.1", "fe80::1",
        "fe80::1%eth0", "fc00::1", "fd12:3456::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:c0a8:101::1",
    ],
    Reach.PUBLIC: [
        "8.8.8.8", "172.32.0.1", "172.15.0.1", "193.168.1.1", "2001:4860:4860::8888", "::ffff:8.8.8.8", "2002:808:808::1",
    ],
    Reach.NOWHERE: [
        "0.0.0.0", "0.1.2.3", "224.0.0.1", "239.192.152.143", "240.0.0.1", "255.255.255.255", "::", "ff15::efc0:988f",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("reach", "host"), [(reach, host) for reach, hosts in TABLE.items() for host in hosts])
def test_the_reach_of_an_address(reach: Reach, host: str) -> None:
    assert reach_of(host) is reach


def test_nearer_is_less() -> None:
    assert Reach.LOOPBACK < Reach.LOCAL < Reach.PUBLIC < Reach.NOWHERE
