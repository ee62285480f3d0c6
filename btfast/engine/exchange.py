"""Peer exchange (BEP 11) in one torrent: what its peers say about others, and what they are told."""

from __future__ import annotations

from btfast.discovery.pex import PREFERS_ENCRYPTION, REACHABLE, SEED, PexIntake
from btfast.discovery.pex_book import PexBook
from btfast.engine.connection import PeerConnection
from btfast.engine.extended import Extended
from btfast.engine.peer_set import PeerSet
from btfast.metainfo.reach import reach_of
from btfast.swarm.peers import Source
from btfast.swarm.source_policy import allowed
from btfast.wire.extensions import ExtendedHandshake

NAME = "ut_pex"


class PeerExchange:
    """Takes part for as long as the torrent runs. Not `telling`: it listens only."""

    def __init__(self, extended: Extended, peers: PeerSet, *, telling: bool = True) -> None:
        self._extended = extended
        self._peers = peers
        self._book = PexBook()
        self._intakes: dict[int, PexIntake] = {}
        extended.register(NAME, self._handle_message, self._introduced if telling else None)

    def _introduced(self, peer: PeerConnection, said: ExtendedHandshake, now: float) -> None:
        if NAME in (peer.extensions or ()):
            self._book.listens(peer.number, peer.address.host, now, seed=peer.upload_only or peer.is_seed)

    def changed(self, peer: PeerConnection) -> None:
        """More is known of a peer than before: that it is there, its port, or that it has everything."""
        address = peer.reached_at
        if address is not None:
            flags = REACHABLE if peer.outgoing else 0
            if peer.upload_only or peer.is_seed:
                flags |= SEED
            if peer.prefers_encryption:
                flags |= PREFERS_ENCRYPTION
            self._book.joined(peer.number, address, flags)

    def _handle_message(self, peer: PeerConnection, body: bytes, now: float) -> None:
        intake = self._intakes.get(peer.number)
        if intake is None:
            here = self._peers.connections
            if len(self._intakes) > 2 * len(here):
                self._intakes = {number: one for number, one in self._intakes.items() if number in here}
            intake = self._intakes[peer.number] = PexIntake()
        added = intake.handle_message(body, now).added
        host = peer.address.host
        for seeds in (False, True):
            named = [one.address for one in added if bool(one.flags & SEED) is seeds]
            self._peers.add(allowed(Source.PEX, reach_of(host), named), Source.PEX, sender=host, seeds=seeds)

    def left(self, peer: PeerConnection) -> None:
        """A connection has ended."""
        self._book.left(peer.number)

    def tick(self, now: float) -> None:
        """Once a second."""
        for number, body in self._book.poll(now):
            peer = self._peers.connections.get(number)
            if peer is not None and self._extended.send(peer, NAME, body):
                peer.flush()
