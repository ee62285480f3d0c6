"""The info-hashes that name one torrent to its peers, and which of them is said to whom (BEP 52).

A hybrid is in two swarms. Who was found in the v2 swarm alone may know no other name; everybody else is greeted by the v1
hash and told that v2 is spoken here as well, which a peer of both answers with the v2 hash. The v2 connection that this
becomes is the only kind on which hashes may be asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from btfast._peer_stream import INFO_HASH_EVENT
from btfast.engine.connection import PeerConnection
from btfast.metainfo.addresses import PeerAddress
from btfast.wire.handshake import INFO_HASH, RESERVED, encode_handshake, wants_upgrade

MOST = 10_000  # addresses of which it is remembered where they were found; the oldest are forgotten

Event = tuple[Any, ...]


class SwarmNames:
    """`hashes`: 20 bytes each, v1 first, as Torrent.swarm_hashes has them; `v2`: whether the last one is of v2."""

    def __init__(self, hashes: tuple[bytes, ...], *, v2: bool) -> None:
        self.hashes = hashes
        self.v2 = hashes[-1] if v2 else None
        self._v2_first: dict[PeerAddress, bool] = {}  # whether to greet them by the v2 hash

    @property
    def hybrid(self) -> bool:
        return len(self.hashes) > 1

    def found(self, addresses: Iterable[PeerAddress], info_hash: bytes) -> None:
        """They are in the swarm of that hash."""
        if not self.hybrid:
            return
        for address in addresses:
            self._remember(address, v2_first=info_hash == self.v2 and self._v2_first.get(address, True))

    def _remember(self, address: PeerAddress, *, v2_first: bool) -> None:
        self._v2_first[address] = v2_first
        if len(self._v2_first) > MOST:
            del self._v2_first[next(iter(self._v2_first))]

    def hash_for(self, address: PeerAddress) -> bytes:
        """By what name to greet who listens there."""
        return self.hashes[-1 if self._v2_first.get(address) else 0]

    def failed(self, address: PeerAddress) -> None:
        """It did not answer by that name: next time the other one."""
        if self.hybrid:
            self._remember(address, v2_first=not self._v2_first.get(address))

    def handshake(self, info_hash: bytes, peer_id: bytes, *, dht: bool, outgoing: bool) -> bytes:
        """What we say first, by one of our names."""
        upgrade = outgoing and self.hybrid and info_hash != self.v2
        return encode_handshake(info_hash, peer_id, dht=dht, v2_upgrade=upgrade)

    def answer(self, named: bytes, events: list[Event]) -> bytes:
        """By what name to answer a connection to us; `named`: the one that it came by, `events`: what it has said."""
        for event in events:
            if event[0] == INFO_HASH_EVENT:
                said = event[1]
                if said[INFO_HASH] in self.hashes:
                    named = said[INFO_HASH]
                if self.v2 is not None and wants_upgrade(said[RESERVED]):
                    return self.v2
        return named

    def settle(self, peer: PeerConnection, answered: bytes) -> bool:
        """The peer's handshake has come with that hash. False: it is none of ours."""
        if answered not in self.hashes:
            return False
        peer.v2 = self.v2 is not None and self.v2 == (answered if peer.outgoing else peer.info_hash)
        return True
