"""Piece layers that a torrent came without (BEP 52: magnet links), put together from the runs that peers send."""

from __future__ import annotations

from collections.abc import Iterable

from btfast.metainfo import merkle
from btfast.metainfo.hash_range import HashRange, ranges
from btfast.metainfo.merkle import HASH
from btfast.swarm.hash_requests import HashRequests, run_of


class _Layer:
    """One file's: which runs have come."""

    def __init__(self, length: int, level: int) -> None:
        self.count = merkle.layer_count(length, level)
        self.runs: dict[int, bytes] = {}
        self.left = 0


class PieceLayers:
    """Asks `requests` for the layers of `files`, roots with lengths in bytes, at `level`; more than one piece each."""

    def __init__(self, requests: HashRequests, files: Iterable[tuple[bytes, int]], level: int) -> None:
        self._requests = requests
        self._level = level
        self._layers: dict[bytes, _Layer] = {}
        self._whole: list[tuple[bytes, bytes]] = []
        for root, length in files:
            layer = self._layers[root] = _Layer(length, level)
            for wanted in ranges(root, level, 0, layer.count, merkle.height_of(length)):
                layer.left += 1
                requests.add(wanted, root)

    def __len__(self) -> int:
        """Layers that are not whole yet."""
        return len(self._layers)

    def handle(self, asked: HashRange, hashes: bytes) -> bool:
        """A right answer. False: it is of no layer."""
        layer = self._layers.get(asked.root)
        if layer is None or asked.base != self._level:
            return False
        if asked.index not in layer.runs:
            layer.runs[asked.index] = run_of(asked, hashes)
            layer.left -= 1
        if not layer.left:
            joined = b"".join(layer.runs[index] for index in sorted(layer.runs))
            self._whole.append((asked.root, joined[: layer.count * HASH]))
            del self._layers[asked.root]
        return True

    def poll_whole(self) -> list[tuple[bytes, bytes]]:
        """Roots and layers that have become whole, each once."""
        whole, self._whole = self._whole, []
        return whole
