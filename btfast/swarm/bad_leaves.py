"""Which blocks of a v2 piece are bad, and who sent them, without fetching the piece again: its right leaves say (BEP 52).

A piece whose hash is wrong is mostly right. Its leaf hashes can be had from anybody and are proved by the hash of the piece:
blocks with other hashes are bad, whoever sent them is guilty at once, and the rest need not come again. What was learned is
kept until the piece is right, so that a second failure is judged without asking.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from btfast.metainfo.hash_range import HashRange, ranges
from btfast.metainfo.merkle import HASH
from btfast.swarm.blocks import NOBODY, BlockRun
from btfast.swarm.hash_requests import HashRequests, run_of

MOST = 64  # failed pieces whose leaves are asked for or kept; the oldest is given up for a newer one
PATIENCE = 10.0  # seconds that leaves are waited for

Senders = Sequence[tuple[int, BlockRun]]


class Judged(NamedTuple):
    """What is wrong with a piece: a mask of blocks, 0 where nobody could say, and who has sent them."""

    piece: int
    bad: int
    guilty: list[int]


class _Leaves:
    """Of a part of a file that is one piece. Files may be alike: several pieces may wait for the same."""

    def __init__(self, first: int, now: float) -> None:
        self.first = first  # leaf of the file that the piece begins with
        self.since = now
        self.asked: dict[HashRange, bytes | None] = {}  # runs, and what came
        self.right: bytes | None = None  # when all have come
        self.waiting: dict[int, tuple[bytes, Senders]] = {}  # pieces: what their blocks hash to, and who sent them


class BadLeaves:
    """Shares `requests` with whoever else asks for hashes. Peer numbers must not be given out again meanwhile."""

    def __init__(self, requests: HashRequests) -> None:
        self._requests = requests
        self._leaves: dict[tuple[bytes, int], _Leaves] = {}  # by root and first leaf
        self._keys: dict[int, tuple[bytes, int]] = {}  # by piece
        self._judged: list[Judged] = []

    def __len__(self) -> int:
        """Pieces whose leaves are awaited or kept."""
        return len(self._keys)

    def failed(
        self, index: int, root: bytes, first: int, level: int, anchor: bytes, leaves: bytes, senders: Senders, now: float
    ) -> bool:
        """The hash of a piece was wrong: `leaves` is what its blocks hash to. True: poll_judged will say more.

        The piece begins with leaf number `first` of its file; `anchor`, at `level`, is what the right leaves lead to.
        """
        if level == 0:
            return False  # a single block, whose sender is known
        key = root, first
        entry = self._leaves.get(key)
        if entry is None:
            while len(self._leaves) >= MOST:
                self._give_up(next(iter(self._leaves)))
            entry = self._leaves[key] = _Leaves(first, now)
            for wanted in ranges(root, 0, first, len(leaves) // HASH, level):
                entry.asked[wanted] = None
                self._requests.add(wanted, anchor, urgent=True)
        self._keys[index] = key
        entry.waiting[index] = leaves, senders
        if entry.right is not None:
            self._judge(entry)
        return True

    def forget(self, index: int) -> None:
        """The piece is right, or comes again as a whole: its leaves are not needed any more."""
        key = self._keys.pop(index, None)
        if key is not None:
            entry = self._leaves[key]
            entry.waiting.pop(index, None)
            if key not in self._keys.values():
                self._drop(key)

    def _drop(self, key: tuple[bytes, int]) -> None:
        for wanted in self._leaves.pop(key).asked:
            self._requests.forget(wanted)

    def _give_up(self, key: tuple[bytes, int]) -> None:
        """Nobody says what is wrong with these pieces."""
        self._judged += [Judged(index, 0, []) for index in self._leaves[key].waiting]
        self._drop(key)
        for index in [index for index, other in self._keys.items() if other == key]:
            del self._keys[index]

    def review(self, now: float) -> None:
        """After each event and once a second: gives up what nobody can say, or says for too long."""
        for key, entry in list(self._leaves.items()):
            if entry.waiting and (
                now - entry.since > PATIENCE or any(self._requests.hopeless(wanted, now) for wanted in entry.asked)
            ):
                self._give_up(key)

    def handle(self, asked: HashRange, hashes: bytes) -> bool:
        """A right answer. False: it is of no failed piece."""
        for (root, _), entry in self._leaves.items():
            if root == asked.root and asked in entry.asked:
                entry.asked[asked] = run_of(asked, hashes)
                if None not in entry.asked.values():
                    entry.right = b"".join(run for _, run in sorted(entry.asked.items()) if run)
                    self._judge(entry)
                return True
        return False

    def _judge(self, entry: _Leaves) -> None:
        assert entry.right is not None
        waiting, entry.waiting = entry.waiting, {}
        for index, (leaves, senders) in waiting.items():
            bad = 0
            for block, at in enumerate(range(0, len(leaves), HASH)):
                if leaves[at : at + HASH] != entry.right[at : at + HASH]:
                    bad |= 1 << block
            guilty = dict.fromkeys(peer for peer, run in senders if peer != NOBODY and bad >> run.first & ((1 << run.count) - 1))
            self._judged.append(Judged(index, bad, list(guilty)))

    def poll_judged(self) -> list[Judged]:
        """What has been found out since the last call; after a 0 nothing more is known of a piece."""
        judged, self._judged = self._judged, []
        return judged
