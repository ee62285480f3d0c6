"""Hash requests of peers (BEP 52): answered from the piece layers, and for leaves from what is on disk, within limits.

Leaves are not kept: 32 bytes for each 16 KiB of everything that is served would be memory for what hardly anybody asks. A
piece is read and hashed when its leaves are asked for, in a thread, one piece of a torrent at a time. Who asks pays: a
peer has leaves of a few pieces, and of twice as many more as it has fetched from us, which covers what the BEP says must
be answered.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict, deque

from btfast.engine.connection import PeerConnection
from btfast.engine.context import Context
from btfast.metainfo import merkle
from btfast.metainfo.hash_range import MOST, HashRange
from btfast.metainfo.merkle import HASH, LEAF, Tree
from btfast.metainfo.torrent import Torrent
from btfast.storage.layout import Layout
from btfast.swarm.pieces import Pieces
from btfast.wire.messages import encode_hash_reject, encode_hashes

TIMES = 3  # that one connection may have all layers
ALLOWANCE = 256  # requests besides
FLOOD = 1000  # requests beyond that before the connection ends
UNREAD = 1 << 20  # bytes that a peer has not read before it is given no more
FREE_LEAVES = 16  # pieces whose leaves are given to a peer that has fetched nothing
MOST_LEAVES = 8192  # of a piece in one answer: 256 KiB
WAITING = 8  # requests of one peer that wait
CHUNK = 1 << 20  # bytes read at a time
TREES = 8  # of files, kept for the next request
KEPT_LEAVES = 64  # pieces


class HashServing:
    """Answers each request with hashes or a reject. What it answers is queued, not flushed, inside `handle_request`."""

    def __init__(self, context: Context, torrent: Torrent, layout: Layout, pieces: Pieces) -> None:
        self._context = context
        self._torrent = torrent
        self._layout = layout
        self._pieces = pieces
        self._level = merkle.piece_level(torrent.piece_length)
        # Of files that are alike one is enough.
        self._files = {file.pieces_root: number for number, file in enumerate(torrent.files) if file.pieces_root is not None}
        self._runs = sum(
            -(-merkle.layer_count(file.length, self._level) // MOST) for file in torrent.files if file.pieces_root
        )
        self._trees: OrderedDict[bytes, Tree] = OrderedDict()
        self._leaves: OrderedDict[int, Tree] = OrderedDict()
        self._queue: deque[tuple[PeerConnection, HashRange]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._leaves_given: dict[int, int] = {}  # by peer: pieces

    def handle_request(self, peer: PeerConnection, asked: HashRange) -> None:
        """Closes the connection of a peer that floods us."""
        peer.hashes_asked += 1
        over = peer.hashes_asked - TIMES * self._runs - ALLOWANCE - peer.stream.payload_sent // LEAF
        if over > FLOOD:
            peer.close("it floods us with requests for hashes")
        elif over > 0 or peer.stream.unsent > UNREAD or not self._may_have(peer, asked):
            self._reject(peer, asked)
        elif self._at_hand(asked):
            self._answer(peer, asked)
        elif sum(other is peer for other, _ in self._queue) >= WAITING:
            self._reject(peer, asked)
        else:
            self._queue.append((peer, asked))
            if self._task is None:
                self._task = self._context.loop.create_task(self._work())
                self._task.add_done_callback(self._ended)

    def _may_have(self, peer: PeerConnection, asked: HashRange) -> bool:
        file = self._files.get(asked.root)
        if file is None or not asked.fits(self._torrent.files[file].length):
            return False
        known = asked.root in self._torrent.piece_layers
        if asked.base == self._level:
            return known and asked.length <= MOST
        if asked.base or asked.length > min(MOST_LEAVES, max(MOST, 1 << self._level)):
            return False
        index = self._piece_of(file, asked)
        if index is None or not self._pieces.have[index]:
            return False
        if not known and self._torrent.files[file].length > self._torrent.piece_length:
            return False
        if index in self._leaves:
            return True
        given = self._leaves_given.get(peer.number, 0)
        if given >= FREE_LEAVES + 2 * (peer.stream.payload_sent // self._torrent.piece_length):
            return False
        self._leaves_given[peer.number] = given + 1
        return True

    def _piece_of(self, file: int, asked: HashRange) -> int | None:
        """The piece that has all of the leaves, or None."""
        within = asked.index >> self._level
        if (asked.index + asked.length - 1) >> self._level != within:
            return None
        pieces = self._torrent.geometry.file_pieces(file)
        return pieces[within] if within < len(pieces) else None

    def _at_hand(self, asked: HashRange) -> bool:
        if asked.root in self._torrent.piece_layers and asked.root not in self._trees:
            return False
        return asked.base == self._level or self._piece_of(self._files[asked.root], asked) in self._leaves

    def _answer(self, peer: PeerConnection, asked: HashRange) -> None:
        file = self._files[asked.root]
        whole = self._trees.get(asked.root)
        if whole is not None:
            self._trees.move_to_end(asked.root)
        if asked.base == self._level and whole is not None:
            run, uncles = whole.run(asked.base, asked.index, asked.length), b""
            at, level = asked.index >> asked.steps, asked.base + asked.steps
        else:
            index = self._piece_of(file, asked)
            assert index is not None
            part = self._leaves[index]
            start = (asked.index >> self._level) << self._level
            run = part.run(0, asked.index - start, asked.length)
            uncles = part.uncles(0, asked.index - start, 1 << asked.steps)
            at, level = asked.index >> part.height, part.height
        if whole is not None:
            uncles += whole.uncles(level, at, 1)
        if not asked.steps:
            uncles = uncles[HASH:]
        peer.send(encode_hashes(*asked, run + uncles[: asked.uncles * HASH]))

    def _reject(self, peer: PeerConnection, asked: HashRange) -> None:
        peer.send(encode_hash_reject(*asked))

    async def _work(self) -> None:
        try:
            while self._queue:
                peer, asked = self._queue.popleft()
                if peer.closed:
                    continue
                ready = await self._prepare(asked)
                if not peer.closed:
                    (self._answer if ready else self._reject)(peer, asked)
                    peer.flush()
        finally:
            self._task = None  # at once: what is queued from here on begins another

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A bug is at once to be seen."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._context.loop.call_exception_handler({"message": "serving hashes broke", "exception": error, "task": task})

    async def _prepare(self, asked: HashRange) -> bool:
        """Has what the answer needs in memory. False: what is on disk is not what it was."""
        layer = self._torrent.piece_layers.get(asked.root)
        file = self._files[asked.root]
        length = self._torrent.files[file].length
        if layer is not None and asked.root not in self._trees:
            self._trees[asked.root] = await asyncio.to_thread(Tree, layer, self._level, length)
            if len(self._trees) > TREES:
                self._trees.popitem(last=False)
        if asked.base == self._level and layer is not None:
            return True
        index = self._piece_of(file, asked)
        assert index is not None
        if index in self._leaves:
            return True
        begin = (asked.index >> self._level) * self._torrent.piece_length
        size = min(self._torrent.piece_length, length - begin)
        try:
            leaves = await asyncio.to_thread(read_leaves, self._layout, file, begin, size)
        except OSError:
            return False  # serving notices by itself that the file has gone
        tree = Tree.below(leaves, 0, min(self._level, merkle.height_of(length)))
        if len(leaves) != -(-size // LEAF) * HASH or tree.root != self._torrent.hashes.v2_digest(index):
            return False
        self._leaves[index] = tree
        if len(self._leaves) > KEPT_LEAVES:
            self._leaves.popitem(last=False)
        return True

    def peer_left(self, peer: PeerConnection) -> None:
        self._leaves_given.pop(peer.number, None)

    def close(self) -> None:
        """Nobody is answered any more."""
        self._queue.clear()
        if self._task is not None:
            self._task.cancel()


def read_leaves(layout: Layout, file: int, begin: int, size: int) -> bytes:
    """The leaf hashes of `size` bytes of a file from `begin` on; fewer when it has ended. OSError."""
    fd = layout.open_for_reading(file)
    try:
        found = []
        end = begin + size
        while begin < end:
            data = os.pread(fd, min(CHUNK, end - begin), begin)
            if not data:
                break
            while len(data) % LEAF and begin + len(data) < end:
                more = os.pread(fd, LEAF - len(data) % LEAF, begin + len(data))
                if not more:
                    break
                data += more
            found.append(merkle.leaf_hashes(data))
            begin += len(data)
        return b"".join(found)
    finally:
        os.close(fd)
