"""Failed pieces of v2 torrents (BEP 52) are not fetched anew as a whole: which of their blocks are bad is asked of peers.

Until that is known the piece stays where it is, in memory or on disk. Then only its bad blocks come again. Where nobody
says it in time, or memory is short, the piece is fetched as if nothing of it were here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from btfast._arena import Slot
from btfast.engine.context import Context
from btfast.engine.hash_exchange import HashExchange
from btfast.engine.together import tell
from btfast.errors import Error
from btfast.metainfo import merkle
from btfast.metainfo.torrent import Torrent
from btfast.swarm.blocks import NOBODY, BlockRun

ARENA_SHARE = 8  # one in so many bytes of memory may wait for leaves; one piece always may

Senders = list[tuple[int, BlockRun]]


class Mending:
    """Of one torrent, number `number` to the workers. `judged`: as HashExchange's, which answers what is asked here."""

    def __init__(
        self, context: Context, number: int, torrent: Torrent, hashes: HashExchange,
        judged: Callable[[int, int, list[int]], None], failed: Callable[[Error], None],
    ) -> None:  # fmt: skip
        self._context = context
        self._number = number
        self._torrent = torrent
        self._hashes = hashes
        self._judged = judged
        self._failed = failed
        self._slots: dict[int, Slot] = {}
        self._on_disk: dict[int, list[int]] = {}
        self._reading: set[asyncio.Task[None]] = set()

    def __contains__(self, index: int) -> bool:
        return index in self._slots or index in self._on_disk

    def able(self, index: int, slot: Slot | None, senders: Senders) -> bool:
        """Whether the blocks of a failed piece may be told apart; `slot`: where it is, None: on disk.

        What an earlier run has left may fail before a peer is here.
        """
        asked = self._hashes.peers or any(peer == NOBODY for peer, _ in senders)
        if not asked or not self._hashes.tells_apart(index):
            return False
        held = sum(other.length for other in self._slots.values())
        return slot is None or not held or held + slot.length <= self._context.arena.size // ARENA_SHARE

    def doubt(self, index: int, slot: Slot, senders: Senders) -> None:
        """A piece that is in memory has failed: `judged` follows, perhaps at once."""
        self._slots[index] = slot
        view = memoryview(slot)[: self._hashes.bytes_of_file(index)]
        self._ask(index, merkle.leaf_hashes(view), senders)

    def doubt_on_disk(self, index: int, fingerprints: list[int], senders: Senders) -> None:
        """A piece that was written part by part has failed; `fingerprints` of its blocks."""
        self._on_disk[index] = fingerprints
        task = self._context.loop.create_task(self._read(index, senders))
        self._reading.add(task)
        task.add_done_callback(self._read_ended)

    async def _read(self, index: int, senders: Senders) -> None:
        self._ask(index, await self._context.workers.read_leaves(self._number, index, 1), senders)

    def _read_ended(self, task: asyncio.Task[None]) -> None:
        self._reading.discard(task)
        tell(task, self._torrent.name, self._failed)

    def _ask(self, index: int, leaves: bytes, senders: Senders) -> None:
        if not leaves or not self._hashes.handle_doubt(index, leaves, senders, self._context.loop.time()):
            self._judged(index, 0, [])

    def take(self, index: int) -> tuple[Slot | None, list[int]]:
        """It waits no longer: where it is, or the fingerprints of what is on disk."""
        return self._slots.pop(index, None), self._on_disk.pop(index, [])

    @property
    def slots(self) -> dict[int, Slot]:
        """Pieces in memory that wait."""
        return self._slots

    def on_disk(self) -> Iterator[tuple[int, list[int]]]:
        """Pieces on disk that wait, and their fingerprints."""
        return iter(self._on_disk.items())

    def close(self) -> None:
        self._slots.clear()
        self._on_disk.clear()
        for task in self._reading:
            task.cancel()
