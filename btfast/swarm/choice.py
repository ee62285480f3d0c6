"""Which piece a peer goes on with: one that was begun, one that it suggests, one beside its last, or as rarity says.

A peer suggests (BEP 6) what it would rather send than another piece: a seed knows better than we do what nobody is being
sent. We heed that for rare pieces; of others we have our own order.
"""

from __future__ import annotations

from collections.abc import Mapping

from btfast.metainfo.geometry import Geometry
from btfast.swarm.blocks import OpenPiece, PeerWork
from btfast.swarm.gaps import Gaps
from btfast.swarm.pieces import HAVE, Pieces
from btfast.swarm.rarity import Rarity, Rng
from btfast.swarm.trust import Trust

RANDOM_FIRST = 4  # pieces opened at random before rarest first begins
SHARERS = 20  # downloaders among whom the pieces are divided at most
MOST_HINTS = 64  # suggestions of one peer that are kept
FEW = 2  # peers other than seeds that may have a piece which a seed had better send
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

    def share(self, part: int, parts: int) -> None:
        """We are the `part`th of `parts` downloaders, counted in an order that all of them know: each asks for pieces of
        its own part first, where they are equally rare. They cannot see what the others are fetching at the moment, and
        would fetch much twice from a slow seed. Of many downloaders each knows others, and the parts would not fit.
        """
        self._rarity.prefer(part, parts if parts <= SHARERS else 1)

    def piece_for(self, me: PeerWork, peers: int) -> int:
        """The piece for a peer, one of `peers`, or -1."""
        index = self._hinted(me) if me.hints and not self._rarity.levelled else -1
        if index < 0:
            index = self._beside(me)
        if index < 0 and self.web and not self._sequential and not self._rarity.levelled:
            late = 2 * self._pieces.count(HAVE) > len(self._pieces)
            index = self._gaps.end(me.mask, peers=peers, extent=self._extent, late=late)
        elif index < 0:
            index = self._rarity.choose(me.mask, rarest=self._random_left <= 0)
        if not self._trust.allows(me, index):
            index = self._rarity.choose(self._trust.mask(me))
        return index

    def loose_for(self, me: PeerWork, loose: Mapping[int, OpenPiece]) -> OpenPiece | None:
        """An open piece without an owner, for a peer to go on with, or None.

        Not from a seed one that others can send, while there are pieces which only seeds have. Where the peer suggests
        others, of those which nobody has begun only what it suggests.
        """
        scarce = me.mask is None and self._rarity.only_seeds_have_some()
        rest = None
        for index, piece in loose.items():
            if self.fit(me, piece) is None:
                continue
            if scarce and not piece.solo and self._rarity.availability(index) > FEW:
                continue
            if piece.received or piece.solo or not me.hints or index in me.hints:
                return piece
            rest = rest or piece
        return None if self._rare_hint(me) else rest

    def fit(self, me: PeerWork, piece: OpenPiece) -> OpenPiece | None:
        """The piece, if the peer has it and may fetch it."""
        fits = (me.mask is None or me.have[piece.index]) and self._trust.allows(me, piece.index)
        return piece if fits else None

    def peer_suggests(self, me: PeerWork, index: int) -> None:
        """A peer would rather send this piece than another; a piece that does not exist is not heard of."""
        hints = me.hints
        if index < len(self._pieces) and index not in hints and not self._sequential:
            hints.append(index)
            if len(hints) > MOST_HINTS:
                del hints[0]

    def range_for(self, me: PeerWork, *, alone: bool) -> int:
        """Where a web seed goes on, or -1. `alone`: there are no peers."""
        return self._gaps.start(self._trust.mask(me), alone=alone, sequential=self._sequential)

    def may_follow(self, me: PeerWork, index: int) -> bool:
        """Whether the range of a web seed may go on with this piece."""
        if not 0 <= index < len(self._pieces) or not self._pieces.is_wanted(index):
            return False
        return me.have[index] and self._trust.allows(me, index) and self._rarity.is_first(index)

    def opened(self, me: PeerWork, index: int) -> None:
        """It is opened for the peer."""
        me.last = index
        self._random_left -= 1
        self._rarity.taken(index)

    def _rare_hint(self, me: PeerWork) -> bool:
        """Drops suggestions that are not for us now; whether one is left, the first."""
        hints = me.hints
        while hints:
            index = hints[0]
            if (
                me.have[index]
                and self._pieces.is_wanted(index)
                and self._trust.allows(me, index)
                and (self._rarity.availability(index) <= FEW or self._rarity.none_rarer(index, me.mask))
            ):
                return True
            del hints[0]
        return False

    def _hinted(self, me: PeerWork) -> int:
        return me.hints[0] if self._rare_hint(me) else -1

    def _beside(self, me: PeerWork) -> int:
        """The piece behind the one that the peer opened last, if it is as rare as any and in the same extent; else -1.

        Disks and file systems like runs; buffered writes of single scattered MiB cost twice the system time.
        """
        index = me.last + 1
        if index % self._extent == 0 or index >= len(self._pieces) or not self._pieces.is_wanted(index):
            return -1
        return index if me.have[index] and self._rarity.none_rarer(index, me.mask) else -1
