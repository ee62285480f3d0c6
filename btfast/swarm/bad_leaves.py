"""Who sent the bad block of a v2 piece, without fetching the piece again: its true leaves are asked for (BEP 52).

A piece that came from several peers and whose hash is wrong leaves all of them suspect. Its leaf hashes can be had from
anybody and are proved by the hash of the piece, and whoever sent a block with another hash is guilty at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from btfast.metainfo.hash_range import HashRange, ranges
from btfast.metainfo.merkle import HASH
from btfast.swarm.blocks import BlockRun
from btfast.swarm.hash_requests import HashRequests, run_of

MOST = 64  # failed pieces that are asked about at a time; the oldest is given up for a newer one


class _Failure:
    def __init__(self, first: int, leaves: bytes, senders: Sequence[tuple[int, BlockRun]]) -> None:
        self.first = first  # leaf of the file that the piece begins with
        self.leaves = leaves
        self.senders = senders
        self.asked: list[HashRange] = []


class BadLeaves:
    """Shares `requests` with whoever else asks for hashes. Peer numbers must not be given out again meanwhile."""

    def __init__(self, requests: HashRequests) -> None:
        self._requests = requests
        self._failures: dict[tuple[bytes, int], _Failure] = {}  # by root and first leaf
        self._guilty: list[int] = []

    def __len__(self) -> int:
        """Pieces whose leaves are awaited."""
        return len(self._failures)

    def failed(
        self, root: bytes, first: int, level: int, anchor: bytes, leaves: bytes, senders: Sequence[tuple[int, BlockRun]]
    ) -> None:
        """A piece's hash was wrong: `leaves` is what its blocks hash to.

        The piece begins with leaf number `first` of its file; `anchor`, at `level`, is what the right leaves lead to.
        """
        if level == 0:
            return  # a single block, whose sender is known
        self.forget(root, first)
        while len(self._failures) >= MOST:
            self.forget(*next(iter(self._failures)))
        failure = self._failures[root, first] = _Failure(first, leaves, senders)
        for wanted in ranges(root, 0, first, len(leaves) // HASH, level):
            failure.asked.append(wanted)
            self._requests.add(wanted, anchor, urgent=True)

    def forget(self, root: bytes, first: int) -> None:
        """The piece's leaves are not needed any more."""
        failure = self._failures.pop((root, first), None)
        if failure is not None:
            for wanted in failure.asked:
                self._requests.forget(wanted)

    def handle(self, asked: HashRange, hashes: bytes) -> bool:
        """A right answer. False: it is of no failed piece."""
        for key, failure in self._failures.items():
            if key[0] == asked.root and asked in failure.asked:
                self._judge(failure, asked, run_of(asked, hashes))
                failure.asked.remove(asked)
                if not failure.asked:
                    del self._failures[key]
                return True
        return False

    def _judge(self, failure: _Failure, asked: HashRange, right: bytes) -> None:
        start = asked.index - failure.first
        for peer, run in failure.senders:
            for block in range(max(run.first, start), min(run.first + run.count, start + asked.length)):
                was = failure.leaves[block * HASH : (block + 1) * HASH]
                if was != right[(block - start) * HASH : (block - start + 1) * HASH]:
                    self._guilty.append(peer)
                    break

    def poll_guilty(self) -> list[int]:
        """Peers that have sent bad blocks; one may appear again."""
        guilty, self._guilty = self._guilty, []
        return guilty
