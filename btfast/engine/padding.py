"""Blocks that need not come from anybody: they lie in pad files, and are zeros (BEP 47).

A hybrid has a pad behind each file, up to a piece long: of many small files in large pieces most of the stream is pads.
"""

from __future__ import annotations

from collections.abc import Callable

from btfast.metainfo.geometry import BLOCK
from btfast.metainfo.torrent import Torrent
from btfast.swarm.blocks import BlockRun, runs_of


def padding_of(torrent: Torrent) -> Padding | None:
    """None where there are no pad files."""
    return Padding(torrent) if any(file.pad and file.length for file in torrent.files) else None


class Padding:
    """Of a torrent with pad files."""

    def __init__(self, torrent: Torrent) -> None:
        self._geometry = torrent.geometry
        self._pads = {number for number, file in enumerate(torrent.files) if file.pad and file.length}
        self._padded = {index for number in self._pads for index in torrent.geometry.file_pieces(number)}

    def pick(
        self, pick: Callable[[int], list[BlockRun]], room: int, handle_pad: Callable[[BlockRun], None]
    ) -> list[BlockRun]:
        """Up to `room` blocks of `pick(room)` that are to be asked for; those that are not have been handled."""
        asked: list[BlockRun] = []
        while room and (runs := pick(room)):
            room = 0
            for run in runs:
                wanted, pads = self.split(run)
                asked += wanted
                for pad in pads:
                    room += pad.count
                    handle_pad(pad)
        return asked

    def split(self, run: BlockRun) -> tuple[list[BlockRun], list[BlockRun]]:
        """What of the run is to be asked for, and what is nothing but pad."""
        if run.index not in self._padded:
            return [run], []
        bits = ((1 << run.count) - 1) << run.first
        pads = self.blocks(run.index) & bits
        return list(runs_of(run.index, bits ^ pads)), list(runs_of(run.index, pads))

    def blocks(self, index: int) -> int:
        """The mask of a piece's blocks that no byte of a file lies in."""
        mask = (1 << self._geometry.block_count(index)) - 1
        at = 0
        for file, _, length in self._geometry.piece_spans(index):
            if file not in self._pads:
                first, last = at // BLOCK, (at + length - 1) // BLOCK
                mask &= ~(((1 << (last - first + 1)) - 1) << first)
            at += length
        return mask
