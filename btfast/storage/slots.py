"""Where pieces lie in a torrent's parts file."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterator

from btfast.metainfo.geometry import Geometry


class Slots:
    """A slot for each piece that several files share, in the pieces' order: it follows from the torrent alone.

    So there is no index that a crash could damage, workers need not agree on anything, and a selection may change.
    """

    def __init__(self, geometry: Geometry, pads: Collection[int]) -> None:
        self._piece_length = geometry.piece_length
        self._shared = array("q")
        before = -1  # the last piece of the file before
        for file in range(geometry.file_count):
            if file in pads:
                continue
            held = geometry.file_pieces(file)
            if held:
                if held[0] == before and (not self._shared or self._shared[-1] != before):
                    self._shared.append(before)
                before = held[-1]

    def __contains__(self, piece: int) -> bool:
        place = bisect_left(self._shared, piece)
        return place < len(self._shared) and self._shared[place] == piece

    def __iter__(self) -> Iterator[int]:
        return iter(self._shared)

    def offset(self, piece: int) -> int:
        """Where the piece begins. Raises KeyError for one that no two files share."""
        if piece not in self:
            raise KeyError(piece)
        return bisect_left(self._shared, piece) * self._piece_length
