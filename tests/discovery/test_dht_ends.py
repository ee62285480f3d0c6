"""When a search ends."""

from __future__ import annotations

from dht_network import Net, at, public

from btfast.discovery.dht.transactions import FINAL, LATE

HASH = b"h" * 20


def test_a_search_beside_dead_nodes_ends_soon_and_one_that_nobody_answers_waits() -> None:
    net = Net()
    endpoints = net.crowd(6)
    node = net.nodes[endpoints[0]]
    net.lost.update(endpoints[3:])
    number = node.find_peers(net.now, HASH)
    net.settle()
    end = net.ended(endpoints[0], number)
    assert (end.answers, end.found, end.seconds) == (2, 0, LATE)
    net.lost.update(endpoints[1:])
    number = node.find_peers(net.now, HASH)
    net.settle()
    end = net.ended(endpoints[0], number)
    assert end.answers == 0
    assert end.seconds >= FINAL


def test_a_lone_node_that_knows_nobody_ends_a_search_at_once() -> None:
    net = Net()
    one, lone = at(public(1)), at(public(2))
    net.add(lone)
    net.add(one, lone)
    number = net.nodes[one].find_peers(net.now, HASH)
    net.settle()
    end = net.ended(one, number)
    assert (end.answers, end.found, end.seconds) == (1, 0, 0.0)
