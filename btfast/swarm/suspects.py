"""Who sent the bad block: fingerprints of a failed piece, compared when the piece verifies at last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from btfast.swarm.blocks import BlockRun

MAX_PIECES = 256  # failed pieces remembered; 12 bytes a block and more each
MAX_FAILURES = 4  # of one piece, the newest


class _Failure(NamedTuple):
    senders: list[tuple[int, BlockRun]]
    fingerprints: Sequence[int]


class BadBlocks:
    """Failed pieces of one torrent. Fingerprints are 64-bit ints, one a block of the piece, in order.

    Peer numbers must not be given out again while a failure that names them is remembered.
    """

    __slots__ = ("_failures",)

    def __init__(self) -> None:
        self._failures: dict[int, list[_Failure]] = {}

    def __len__(self) -> int:
        return len(self._failures)

    def failed(self, index: int, senders: list[tuple[int, BlockRun]], fingerprints: Sequence[int]) -> list[int]:
        """A piece's hash was wrong: the peers that are guilty for sure already.

        That is its only sender, or a peer that sent different bytes for a block before.
        """
        if len({peer for peer, _ in senders}) == 1:
            return [senders[0][0]]
        failures = self._failures.setdefault(index, [])
        now = _Failure(senders, fingerprints)
        guilty: dict[int, None] = {}
        for before in failures:
            theirs = {(peer, block) for peer, run in before.senders for block in _blocks(run)}
            guilty.update(
                (peer, None)
                for peer, run in senders
                for block in _blocks(run)
                if (peer, block) in theirs and fingerprints[block] != before.fingerprints[block]
            )
        failures.append(now)
        del failures[:-MAX_FAILURES]
        if len(self._failures) > MAX_PIECES:
            del self._failures[next(iter(self._failures))]
        return list(guilty)

    def waiting(self, index: int) -> bool:
        """Whether verified() has something to compare for this piece."""
        return index in self._failures

    def verified(self, index: int, fingerprints: Sequence[int]) -> list[int]:
        """A piece's hash is right: the peers that sent something else for a block of it before."""
        guilty: dict[int, None] = {}
        for failure in self._failures.pop(index, ()):
            guilty.update(
                (peer, None)
                for peer, run in failure.senders
                if any(failure.fingerprints[block] != fingerprints[block] for block in _blocks(run))
            )
        return list(guilty)


def _blocks(run: BlockRun) -> range:
    return range(run.first, run.first + run.count)
