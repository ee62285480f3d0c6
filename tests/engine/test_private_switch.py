"""A private torrent whose tracker changes (BEP 27): the swarms of two trackers do not mix."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import pytest
from engine_parts import Owner, connected, small_context, until

from btfast.discovery.announce import AnnounceRequest, AnnounceResponse
from btfast.engine.dialing import Dialer
from btfast.engine.finding import Finding
from btfast.engine.peer_set import PeerSet
from btfast.engine.swarm_names import SwarmNames
from btfast.errors import RemoteError
from btfast.metainfo.addresses import PeerAddress
from btfast.swarm.peers import Source

FIRST, SECOND = "http://127.0.0.1:1/first", "http://127.0.0.1:2/second"


class Trackers:
    """Answers where it is told to; interval 0 for those that are to be asked again at once."""

    def __init__(self) -> None:
        self.up = {FIRST}
        self.heard: list[str] = []

    async def announce(self, url: str, request: AnnounceRequest, *, patience: float | None = None) -> AnnounceResponse:
        self.heard.append(url)
        if url not in self.up:
            raise RemoteError(f"{url}: no answer: try again later", retry_in=0.01)
        return AnnounceResponse(interval=0.01, min_interval=0.01, peers=(PeerAddress("127.0.0.1", 6881),))


class Item:
    """Who the peers are sought for; notes what is dropped."""

    info_hash = bytes(20)

    def __init__(self, *, private: bool) -> None:
        self.private = private
        self.found: list[Source] = []
        self.dropped: list[tuple[str, Container[Source]]] = []

    def announce_request(self, event: str | None) -> AnnounceRequest:
        return AnnounceRequest(info_hash=bytes(20), peer_id=bytes(20), port=1, left=1, event=event)

    def handle_peers(self, addresses: list[PeerAddress], source: Source, sender: str = "") -> None:
        self.found.append(source)

    def drop_peers(self, reason: str, keep: Container[Source]) -> None:
        self.dropped.append((reason, keep))

    def handle_tracker_warning(self, message: str) -> None: ...


@pytest.mark.parametrize("private", [True, False])
async def test_another_tracker_takes_over(private: bool) -> None:
    context: Any = small_context()
    trackers = context.trackers = Trackers()
    item = Item(private=private)
    finding = Finding(context, item, [[FIRST], [SECOND]])
    await until(lambda: len(item.found) >= 3, "the first has answered some times")
    assert item.dropped == []
    trackers.up = {SECOND}
    before = len(item.found)
    await until(lambda: len(item.found) >= before + 3, "the second has answered some times")
    await finding.stop()
    assert item.dropped == ([("another tracker rules its torrent now", (Source.OPTION,))] if private else [])


async def test_metadata_that_turns_out_private_ends_all_but_one_tracker() -> None:
    """And whoever was not named by a tracker or the user is let go."""
    context: Any = small_context()
    trackers = context.trackers = Trackers()
    trackers.up = {FIRST, SECOND}
    before, after = Item(private=False), Item(private=True)
    finding = Finding(context, before, [[FIRST], [SECOND]], together=True)
    await until(lambda: {FIRST, SECOND} <= set(trackers.heard), "both were asked")
    finding.hand_over(after)
    ((_, keep),) = after.dropped
    assert set(Source) - {source for source in Source if source in keep} == {
        Source.LSD, Source.EARLIER, Source.DHT, Source.PEX, Source.INCOMING,
    }  # fmt: skip
    await until(lambda: not finding._retiring, "the others were told")
    heard = len(trackers.heard)
    await until(lambda: len(trackers.heard) >= heard + 3, "one goes on")
    assert len(set(trackers.heard[heard:])) == 1
    await finding.stop()


async def test_who_is_dropped() -> None:
    context: Any = small_context()
    talk = Owner()
    peers = PeerSet(context, Dialer(context), SwarmNames((b"h" * 20,), v2=False), lambda *_: None)
    peers.talk = talk  # type: ignore[assignment]
    named, found = PeerAddress("127.0.0.1", 5001), PeerAddress("127.0.0.1", 5002)
    ends = []
    for address, source in ((named, Source.OPTION), (found, Source.TRACKER)):
        peers.known.add(address, source, 0.0)
        assert peers.known.next_dial(0.0) == address
        peer, theirs = connected(context, talk, port=address.port)
        peer.number = address.port
        peers.connections[address.port] = peer
        peers.known.connected(address)
        ends.append(theirs)
    peers.drop("another tracker", (Source.OPTION,))
    assert talk.closed == ["another tracker"]
    assert not peers.connections[5001].closed
    assert peers.known.source(named) is Source.OPTION
    assert peers.known.source(found) is None
    for peer in peers.connections.values():
        peer.close("over")
    for theirs in ends:
        theirs.close()
