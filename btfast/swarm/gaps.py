"""Which piece to open next when web seeds take part (BEP 19): they read gaps from their start, peers fill their ends.

A gap is a run of pieces that nobody has been asked for. A web server sends long ranges best, so it gets the start of the
largest gap and goes on from there; the first of all begins somewhere, for others begin as well. Peers leave the large
gaps whole for as long as they can: among pieces that are about equally rare they take those at the end of the largest
gap, and in the second half of a download one choice in ten closes the smallest gap.

https://www.bittorrent.org/beps/bep_0019.html
"""

from __future__ import annotations

import re
from math import isqrt

from btfast.swarm.rarity import Rarity, Rng

SMALLEST_SHARE = 0.1  # of the choices for peers in the second half
LOOKED_AT = 20_000  # gaps of one choice

_RUN = re.compile("1+")


def runs_of_mask(mask: int, pieces: int) -> list[tuple[int, int]]:
    """The set bits of a mask in the order of `rarity` as (first piece, count), the first LOOKED_AT of them."""
    found = []
    for match in _RUN.finditer(f"{mask:0{pieces}b}"):
        found.append((match.start(), match.end() - match.start()))
        if len(found) >= LOOKED_AT:
            break
    return found


class Gaps:
    """Choices among the WANTED pieces of one torrent; none changes anything."""

    __slots__ = ("_begun", "_pieces", "_rarity", "_rng")

    def __init__(self, pieces: int, rarity: Rarity, rng: Rng) -> None:
        self._pieces = pieces
        self._rarity = rarity
        self._rng = rng
        self._begun = False

    def start(self, mask: int, *, alone: bool, sequential: bool = False) -> int:
        """Where a web seed that has the pieces of `mask` goes on, or -1. `alone`: nobody else fetches.

        Pieces that are wanted more come first. `sequential`: the first of them, whatever the gaps are.
        """
        wanted = self._rarity.first(self._rarity.wanted & mask)
        if not wanted or sequential:
            return self._pieces - wanted.bit_length() if wanted else -1
        first, count = max(runs_of_mask(wanted, self._pieces), key=lambda gap: gap[1])
        if not self._begun:
            self._begun = True
            if not alone:
                return first + int(self._rng.random() * count)
        return first

    def end(self, mask: int | None, *, peers: int, extent: int, late: bool) -> int:
        """Where a peer that has the pieces of `mask` begins to fetch up to `extent` of them in a row, or -1.

        `peers`: how many take part; `late`: half of the torrent is there.
        """
        wanted = self._rarity.wanted
        candidates = self._rarity.first(wanted if mask is None else wanted & mask)
        if not candidates:
            return -1
        gaps = runs_of_mask(wanted, self._pieces)
        if late and self._rng.random() < SMALLEST_SHARE:
            for first, count in sorted(gaps, key=lambda gap: gap[1]):
                inside = candidates & self._rarity.span(first, count)
                if inside:
                    return self._pieces - inside.bit_length()
        rare = self._rarity.nearly_rarest(candidates, max(0, isqrt(peers) - 1))
        for first, count in sorted(gaps, key=lambda gap: -gap[1]):
            inside = rare & self._rarity.span(first, count)
            if inside:
                last = self._pieces - 1 - ((inside & -inside).bit_length() - 1)
                begin = max(first + count // 2, last - extent + 1)
                run = rare & self._rarity.span(begin, last - begin + 1)
                return self._pieces - run.bit_length()
        return -1
