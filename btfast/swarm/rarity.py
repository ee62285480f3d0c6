"""Which piece to open next: rarest first with random ties, or in order; what is wanted more before that.

Sets of pieces are big ints in which piece i is bit (piece count - 1 - i): the order of BEP 3 bitfields, and the highest
set bit, which is the lowest index, costs nothing to find. How many peers have a piece is kept as a binary counter
spread over such ints ("planes": plane k holds bit k of every piece's counter). A peer with 16,384 pieces joins in a
few microseconds, and the rarest candidates fall out of one AND a plane. Seeds raise every counter alike, so they are
not counted at all; while there are only seeds, no int is touched and the choice is a draw from a list.
"""

from __future__ import annotations

from typing import Protocol

from btfast._bitfield import Bitfield
from btfast.swarm.pieces import HASHLESS, WANTED, Pieces


class Rng(Protocol):
    """The random source: random() in [0, 1), as random.Random has it."""

    def random(self) -> float: ...


def mask_of(field: Bitfield) -> int:
    """The set bits of `field` as an int in this module's order."""
    return int.from_bytes(field.to_bytes(), "big") >> (-len(field) & 7)


class Rarity:
    """Availability of pieces among the peers that lack some, and the choice among WANTED ones."""

    __slots__ = (
        "_cursor", "_hashless", "_list", "_pieces", "_planes", "_region", "_revision", "_rng", "_sequential", "_tiers", "_top",
        "_wanted",
    )  # fmt: skip

    def __init__(self, pieces: Pieces, rng: Rng, *, sequential: bool = False, levels: bytes | None = None) -> None:
        self._pieces = pieces
        self._rng = rng
        self._sequential = sequential
        self._top = len(pieces) - 1
        self._planes: list[int] = []
        self._revision = pieces.revision
        self._wanted: int | None = None  # mask of WANTED pieces; made when the first partial peer asks
        self._hashless: int | None = None  # mask of HASHLESS pieces
        self._list: list[int] | None = None  # WANTED pieces, and some that no longer are, for draws among seeds
        self._cursor = 0
        self._region = 0  # mask of the pieces that come first among equally rare ones
        self._tiers = _tiers(levels) if levels else []  # masks of the pieces of each level, the highest first

    def prefer(self, part: int, parts: int) -> None:
        """Among equally rare pieces those of the `part`th of `parts` equal parts come first; none do where parts < 2."""
        count = self._top + 1
        first, end = part * count // max(parts, 1), (part + 1) * count // max(parts, 1)
        self._region = (1 << (count - first)) - (1 << (count - end)) if parts > 1 else 0

    def bit(self, index: int) -> int:
        """The mask of one piece."""
        return 1 << (self._top - index)

    def span(self, first: int, count: int) -> int:
        """The mask of `count` pieces from `first` on."""
        return ((1 << count) - 1) << (self._top + 1 - first - count)

    def join(self, mask: int) -> None:
        """One more peer has the pieces of `mask`."""
        planes = self._planes
        for k, plane in enumerate(planes):
            if not mask:
                return
            planes[k] = plane ^ mask
            mask &= plane
        if mask:
            planes.append(mask)

    def leave(self, mask: int) -> None:
        """One peer fewer has the pieces of `mask`; each must have been counted by join."""
        planes = self._planes
        for k, plane in enumerate(planes):
            if not mask:
                break
            planes[k] = lowered = plane ^ mask
            mask &= lowered
        while planes and not planes[-1]:
            planes.pop()

    def availability(self, index: int) -> int:
        """How many of the joined peers have piece `index`."""
        place = self._top - index
        return sum(((plane >> place) & 1) << k for k, plane in enumerate(self._planes))

    @property
    def wanted(self) -> int:
        """WANTED pieces as a mask."""
        self._refresh()
        if self._wanted is None:
            self._wanted = self._pieces.mask(WANTED)
        return self._wanted

    @property
    def hashless(self) -> int:
        """HASHLESS pieces as a mask."""
        self._refresh()
        if self._hashless is None:
            self._hashless = self._pieces.mask(HASHLESS)
        return self._hashless

    def choose(self, mask: int | None, *, rarest: bool = True) -> int:
        """A WANTED piece out of `mask` (None: a seed, out of all), or -1. It stays WANTED: see taken()."""
        if mask is None and not self._planes and not self._region and not self._tiers:
            return self._draw()
        candidates = self.first(self.wanted if mask is None else self.wanted & mask)
        if not candidates:
            return -1
        if self._sequential:
            return self._top + 1 - candidates.bit_length()
        if rarest:
            for plane in reversed(self._planes):
                rarer = candidates ^ (candidates & plane)
                if rarer:
                    candidates = rarer
        if self._region & candidates:
            return self._top + 1 - (self._region & candidates).bit_length()
        cut = int(self._rng.random() * (self._top + 1))
        below = candidates & ((1 << cut) - 1)
        return self._top + 1 - (below or candidates).bit_length()

    def nearly_rarest(self, candidates: int, more: int) -> int:
        """Those of `candidates` that at most `more` peers more have than the rarest of them."""
        least, rarest = 0, candidates
        for k in reversed(range(len(self._planes))):
            rarer = rarest & ~self._planes[k]
            if rarer:
                rarest = rarer
            else:
                least |= 1 << k
        most = least + more
        if most >> len(self._planes):
            return candidates
        fewer, same = 0, candidates
        for k in reversed(range(len(self._planes))):
            if most >> k & 1:
                fewer |= same & ~self._planes[k]
                same &= self._planes[k]
            else:
                same &= ~self._planes[k]
        return fewer | same

    def none_rarer(self, index: int, mask: int | None) -> bool:
        """Whether no WANTED piece of `mask` (None: of all) goes before the WANTED piece `index` in it: wanted more, or rarer."""
        if not self._planes and not self._tiers:
            return True
        bit = self.bit(index)
        candidates = self.first(self.wanted if mask is None else self.wanted & mask)
        if not candidates & bit:
            return False
        for plane in reversed(self._planes):
            rarer = candidates ^ (candidates & plane)
            if rarer:
                if not rarer & bit:
                    return False
                candidates = rarer
        return True

    def only_seeds_have_some(self) -> bool:
        """Whether there are WANTED pieces that no peer has but the seeds; not where there are only seeds."""
        if not self._planes:
            return False
        lacking = self.wanted
        for plane in self._planes:
            lacking ^= lacking & plane
        return lacking != 0

    def taken(self, index: int) -> None:
        """The piece that choose() gave is WANTED no longer."""
        if self._wanted is not None:
            self._wanted &= ~self.bit(index)
        if self._list and self._list[-1] == index:
            self._list.pop()

    def back(self, index: int) -> None:
        """A piece is WANTED again."""
        self._cursor = min(self._cursor, index)
        if self._wanted is not None:
            self._wanted |= self.bit(index)
        if self._list is not None:
            self._list.append(index)

    def hashes_came(self, changed: list[int]) -> None:
        """HASHLESS pieces, in order, are WANTED now. A file's at a time: nothing is made anew for each of thousands."""
        if not changed:
            return
        self._cursor = min(self._cursor, changed[0])
        if self._list is not None:
            self._list += changed
        if self._wanted is None and self._hashless is None:
            return
        bits, first = 0, 0
        for at, index in enumerate(changed, 1):
            if at == len(changed) or changed[at] != index + 1:
                bits |= self.span(changed[first], at - first)
                first = at
        if self._wanted is not None:
            self._wanted |= bits
        if self._hashless is not None:
            self._hashless &= ~bits

    @property
    def levelled(self) -> bool:
        """Whether some pieces are wanted before others."""
        return bool(self._tiers)

    def is_first(self, index: int) -> bool:
        """Whether no WANTED piece has a higher level than the WANTED piece `index`."""
        return not self._tiers or bool(self.first(self.wanted) & self.bit(index))

    def first(self, candidates: int) -> int:
        """Those of the highest level that is among them."""
        for tier in self._tiers:
            if first := candidates & tier:
                return first
        return candidates

    def _draw(self) -> int:
        self._refresh()
        pieces = self._pieces
        if self._sequential:
            self._cursor = pieces.next_wanted(self._cursor)
            if self._cursor < 0:
                self._cursor = len(pieces)
                return -1
            return self._cursor
        order = self._list
        if order is None:
            order = self._list = pieces.wanted_indexes()
        while order:
            # The draw is swapped to the end, where taken() finds it; an entry that is stale goes.
            place = int(self._rng.random() * len(order))
            index = order[place]
            order[place] = order[-1]
            order[-1] = index
            if pieces.is_wanted(index):
                return index
            order.pop()
        return -1

    def _refresh(self) -> None:
        if self._revision != self._pieces.revision:
            self._revision = self._pieces.revision
            self._wanted = self._hashless = None
            self._list = None
            self._cursor = 0


def _tiers(levels: bytes) -> list[int]:
    """The pieces of each level above 0 as a mask, the highest level first; none where there is but one level."""
    found = sorted(set(levels) - {0}, reverse=True)
    if len(found) < 2:
        return []
    return [int(levels.translate(bytes(ord("1") if value == level else ord("0") for value in range(256))), 2) for level in found]
