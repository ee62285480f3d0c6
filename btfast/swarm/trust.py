"""Who may fetch a piece that failed before: not the peers that it failed with, while there are others to try."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from btfast.swarm.blocks import PeerWork
from btfast.swarm.rarity import Rarity, Rng

RETRY_SHARE = 1 / 64  # of the times when a peer is asked again for a piece that failed with its help


class Trust:
    """The failed pieces of one torrent. `peers` is the picker's, read only."""

    __slots__ = ("_failed", "_peers", "_rarity", "_rng")

    def __init__(self, peers: Mapping[int, PeerWork], rarity: Rarity, rng: Rng) -> None:
        self._peers = peers
        self._rarity = rarity
        self._rng = rng
        self._failed: dict[int, set[int]] = {}  # pieces, and who took part

    def __contains__(self, index: int) -> bool:
        return index in self._failed

    def failed(self, index: int, peers: Iterable[int]) -> None:
        """The hash of a piece was wrong, and these had sent it."""
        self._failed.setdefault(index, set()).update(peers)

    def done(self, index: int) -> None:
        """It is right now."""
        self._failed.pop(index, None)

    def allows(self, me: PeerWork, index: int) -> bool:
        """Whether a peer may fetch a piece: not one that failed with its help, while others are left to try.

        Now and then it may all the same, for the others may be choking us.
        """
        tried = self._failed.get(index)
        if tried is None or me.number not in tried or self._rng.random() < RETRY_SHARE:
            return True
        return not any(
            number not in tried and (other.mask is None or other.have[index]) for number, other in self._peers.items()
        )

    def mask(self, me: PeerWork) -> int:
        """What the peer has, but for pieces that failed with its help while others are left to try."""
        mask = self._rarity.wanted if me.mask is None else me.mask
        for index, tried in self._failed.items():
            if me.number in tried and not self.allows(me, index):
                mask &= ~self._rarity.bit(index)
        return mask
