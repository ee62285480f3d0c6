"""Peer exchange (BEP 11) in one torrent: what its peers say about others, and what they are told."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from btfast.discovery.pex import PREFERS_ENCRYPTION, REACHABLE, SEED, PexIntake
from btfast.discovery.pex_book import PexBook
from btfast.engine.connection import PeerConnection
from btfast.engine.extended import Extended
from btfast.metainfo.addresses import PeerAddress
from btfast.metainfo.reach import reach_of
from btfast.swarm.peers import Source
from btfast.swarm.source_policy import allowed
from btfast.wire.extensions import ExtendedHandshake

NAME = "ut_pex"

Found = Callable[[list[PeerAddress], list[PeerAddress], PeerConnection], None]


class PeerExchange:
    """`connections`: the connected peers by number. `found(leechers, seeds, peer)` gets what `peer` may send us to."""

    def __init__(self, extended: Extended, connections: Mapping[int, PeerConnection], found: Found) -> None:
        self._extended = extended
        self._connections = connections
        self._found = found
        self._book = PexBook()
        self._intakes: dict[int, PexIntake] = {}
        extended.register(NAME, self._handle_message, self._introduced)

    def greeted(self, peer: PeerConnection) -> None:
        """Its handshake has come: where we reached it others can, too."""
        if peer.outgoing:
            self._book.joined(peer.number, peer.address, REACHABLE)

    def _introduced(self, peer: PeerConnection, said: ExtendedHandshake, now: float) -> None:
        self.changed(peer)
        if NAME in (peer.extensions or ()):
            self._book.listens(peer.number, peer.address.host, now, seed=peer.upload_only or peer.is_seed)

    def changed(self, peer: PeerConnection) -> None:
        """More is known of a peer than before: its port, or that it has everything."""
        if peer.outgoing or peer.listen_port:
            address = peer.address if peer.outgoing else PeerAddress(peer.address.host, peer.listen_port or 0)
            flags = REACHABLE if peer.outgoing else 0
            if peer.upload_only or peer.is_seed:
                flags |= SEED
            if peer.prefers_encryption:
                flags |= PREFERS_ENCRYPTION
            self._book.joined(peer.number, address, flags)

    def _handle_message(self, peer: PeerConnection, body: bytes, now: float) -> None:
        intake = self._intakes.get(peer.number)
        if intake is None:
            intake = self._intakes[peer.number] = PexIntake()
        added = intake.handle_message(body, now).added
        usable = set(allowed(Source.PEX, reach_of(peer.address.host), [one.address for one in added]))
        if usable:
            self._found(
                [one.address for one in added if not one.flags & SEED and one.address in usable],
                [one.address for one in added if one.flags & SEED and one.address in usable],
                peer,
            )

    def left(self, peer: PeerConnection) -> None:
        """A connection has ended."""
        self._intakes.pop(peer.number, None)
        self._book.left(peer.number)

    def tick(self, now: float) -> None:
        """Once a second."""
        for number, body in self._book.poll(now):
            peer = self._connections.get(number)
            if peer is not None and self._extended.send(peer, NAME, body):
                peer.flush()
