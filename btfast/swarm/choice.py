"""Which WANTED piece to open next for a peer: beside its last one, else as rarity, gaps and trust say."""

from __future__ import annotations

from btfast.metainfo.geometry import Geometry
from btfast.swarm.blocks import PeerWork
from btfast.swarm.gaps import Gaps
from btfast.swarm.pieces import HAVE, Pieces
from btfast.swarm.rarity import Rarity, Rng
from btfast.swarm.trust import Trust

RANDOM_FIRST = 4  # pieces opened at random before rarest first begins
EXTENT = 16 << 20  # bytes of neighbouring pieces that one peer takes in a row where they are equally rare
EXTENTS = 64  # at least so many in a torrent, so that downloaders still have different ones to trade


class Choice:
    """Of one torrent. `web`: whether web seeds take part."""

    __slots__ = ("_extent", "_gaps", "_pieces", "_random_left", "_rarity", "_sequential", "_trust", "web")

    def __init__(
        self, geometry: Geometry, pieces: Pieces, rarity: Rarity, trust: Trust, rng: Rng, *, sequential: bool
    ) -> None:
        self._pieces = pieces
        self._rarity = rarity
        self._trust = trust
        self._gaps = Gaps(len(pieces), rarity, rng)
        self._extent = max(1, min(EXTENT, geometry.total_length // EXTENTS) // geometry.piece_length)  # pieces
        self._sequential = sequential
        self._random_left = 0 if sequential else RANDOM_FIRST
        self.web = False

    def piece_for(self, me: PeerWork, peers: int) -> int:
        """The piece for a peer, one of `peers`, or -1."""
        index = self._beside(me)
        if index < 0 and self.web and not self._sequential:
            late = 2 * self._pieces.count(HAVE) > len(self._pieces)
            index = self._gaps.end(me.mask, peers=peers, extent=self._extent, late=late)
        elif index < 0:
            index = self._rarity.choose(me.mask, rarest=self._random_left <= 0)
        if not self._trust.allows(me, index):
            index = self._rarity.choose(self._trust.mask(me))
        return index

    def range_for(self, me: PeerWork, *, alone: bool) -> int:
        """Where a web seed goes on, or -1. `alone`: there are no peers."""
        return self._gaps.start(self._trust.mask(me), alone=alone or self._sequential)

    def may_follow(self, me: PeerWork, index: int) -> bool:
        """Whether the range of a web seed may go on with this piece."""
        if not 0 <= index < len(self._pieces) or not self._pieces.is_wanted(index):
            return False
        return me.have[index] and self._trust.allows(me, index)

    def opened(self, me: PeerWork, index: int) -> None:
        """It is opened for the peer."""
        me.last = index
        self._random_left -= 1
        self._rarity.taken(index)

    def _beside(self, me: PeerWork) -> int:
        """The piece behind the one that the peer opened last, if it is as rare as any and in the same extent; else -1.

        Disks and file systems like runs; buffered writes of single scattered MiB cost twice the system time.
        """
        index = me.last + 1
        if index % self._extent == 0 or index >= len(self._pieces) or not self._pieces.is_wanted(index):
            return -1
        return index if me.have[index] and self._rarity.none_rarer(index, me.mask) else -1
