"""The receiving half of one torrent: slots for open pieces, requests out, blocks in, whole pieces to the workers.

Wires the picker (which blocks), the pipelines (how many), the streams (where the bytes land) and the workers together.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Protocol

from btfast._arena import Slot
from btfast.engine.allowed import MOST_ASKED, to_ask
from btfast.engine.asked_blocks import AskedBlocks
from btfast.engine.connection import PeerConnection
from btfast.engine.context import Context
from btfast.engine.large_pieces import LargePieces, fingerprints, is_large, lead_of
from btfast.engine.padding import padding_of
from btfast.metainfo.geometry import BLOCK
from btfast.metainfo.selection import Selection
from btfast.metainfo.torrent import Torrent
from btfast.storage.messages import GOOD, SPLIT
from btfast.swarm.blocks import ALL_BLOCKS, BlockRun, OpenPiece, runs_of
from btfast.swarm.picker import Picker
from btfast.swarm.pieces import Pieces
from btfast.swarm.rates import Rate
from btfast.swarm.suspects import BadBlocks

if TYPE_CHECKING:  # it is loaded when a torrent has a v2 half
    from btfast.engine.hash_exchange import HashExchange
    from btfast.engine.hashless import Hashless
    from btfast.engine.mending import Mending
    from btfast.engine.web_side import WebSide


class Owner(Protocol):
    """What the receiving half needs to tell."""

    def handle_verified(self, index: int) -> None: ...

    def handle_bad_piece(self, index: int, senders: list[int], guilty: list[int]) -> None: ...

    def handle_guilty(self, guilty: list[int]) -> None: ...

    def handle_disagreement(self, index: int) -> None: ...


class Fetching:
    """Also the picker's SlotSource. `number` names the torrent to the workers."""

    def __init__(
        self, context: Context, number: int, torrent: Torrent, pieces: Pieces, owner: Owner,
        peers: dict[int, PeerConnection], selection: Selection,
    ) -> None:  # fmt: skip
        now = context.loop.time()
        self._context = context
        self._number = number
        self._torrent = torrent
        self._geometry = torrent.geometry
        self._owner = owner
        self._peers = peers
        self._slots: dict[int, Slot] = {}
        large = is_large(self._geometry.piece_length, context.arena.size)
        self._large = LargePieces(context, number, torrent, self) if large else None
        self._padding = None if large else padding_of(torrent)
        self._suspects = BadBlocks()
        self._paused = False
        self.held = False  # files are being mended
        self._arena_full = False  # the last pick wanted a slot and got none
        self._parts = 1  # downloaders that divide the pieces, we among them
        self.dropped: set[int] = set()  # pieces begun in vain: what was kept of them is forgotten by who keeps it
        self.web: WebSide | None = None
        self.hashes: HashExchange | None = None
        self.mending: Mending | None = None  # where bad blocks can be told from good ones
        self.hashless: Hashless | None = None  # where some pieces cannot be verified yet
        self.pieces = pieces
        self.picker = Picker(
            self._geometry, pieces, context.rng, self, sequential=selection.sequential, levels=selection.piece_levels,
            pace=self._pace, rescue=True,
        )  # fmt: skip
        self.asked = AskedBlocks(context, self.picker)
        self.rate = Rate(now)
        self.downloaded = 0  # payload that was asked for and came
        self.wasted = 0  # of it, what was not needed or wrong

    # SlotSource

    def open_piece(self, index: int) -> int:
        """Gives a piece its slot, congruent with the largest part of a file in it. 0 when the arena is full."""
        if self._large is not None:
            room = self._large.open(index)
        else:
            slot = self.slot_for(index)
            room = ALL_BLOCKS if slot is not None else 0
            if slot is not None:
                self._slots[index] = slot
        if not room:
            self._arena_full = True
        return room

    def slot_for(self, index: int) -> Slot | None:
        """Memory for a piece, congruent with the largest part of a file in it; None when there is none."""
        lead = lead_of(self._geometry.piece_spans(index))
        return self._context.workers.allocate(self._geometry.piece_size(index), lead)

    # what is left for a later run

    @property
    def large(self) -> bool:
        """Whether pieces are received part by part."""
        return self._large is not None

    def unfinished(self) -> Iterator[tuple[int, int, Slot]]:
        """Pieces that are not whole: the blocks that came, as a mask, and the slot that they are in."""
        waiting = self.mending.slots if self.mending is not None else {}
        for index, received in self.under_way.items():
            slot = self._slots.get(index) or waiting.get(index)
            if slot is not None:
                yield index, received, slot

    @property
    def under_way(self) -> dict[int, int]:
        """Pieces that are not whole, or not right, as masks of the blocks that came."""
        waiting = self.mending.slots if self.mending is not None else ()
        return self.picker.under_way | {index: (1 << self._geometry.block_count(index)) - 1 for index in waiting}

    def written_parts(self) -> Iterator[tuple[int, list[int]]]:
        """Of pieces that are received part by part: fingerprints of the blocks from the first on that were written."""
        if self._large is not None:
            yield from self._large.written()
            if self.mending is not None:
                yield from self.mending.on_disk()

    def resumed(self, index: int, sums: dict[int, bytes], slot: Slot | None) -> None:
        """An earlier run has received blocks of a piece: they are in the slot, or where it is large, on disk."""
        received, room = sum(1 << block for block in sums), ALL_BLOCKS
        if slot is not None:
            self._slots[index] = slot
        elif self._large is not None:
            room, received = self._large.resume(index, sums)
        if not received:
            return
        piece = OpenPiece.resumed(index, self._geometry.block_count(index), received, room=room)
        self.picker.resumed(piece)
        if piece.received == piece.full and slot is not None:
            self._landed(BlockRun(index, 0, 1), True)

    def _pace(self, peer: int) -> tuple[float, float]:
        now = self._context.loop.time()
        if self.web is not None and self.web.knows(peer):
            return self.web.pace(peer, now)
        pipeline = self._peers[peer].pipeline
        return pipeline.pace(now), pipeline.wait(now)

    # requests

    def fill(self, peer: PeerConnection, now: float) -> bool:
        """Tops the peer's requests up. False when it would take more but the arena is full."""
        if (peer.peer_choking and peer.allowance is None) or not peer.am_interested or peer.closed:
            return True
        if self._paused or self.held or self.picker.drained:
            return True
        among = to_ask(peer, self.pieces, now) if peer.peer_choking else None
        room = peer.pipeline.room(now) if among is None else MOST_ASKED - peer.pipeline.outstanding
        if room <= 0:
            return True
        picker = self.picker
        self._arena_full = False
        runs = self._pick(peer.number, room, among)
        aside = picker.took_over  # others have been asked for these blocks: they must not land where theirs do
        self._drop_abandoned()
        if not runs:
            if self._arena_full and among is None and peer.stream.outstanding == 0:
                self._context.wait_for_room(peer, lambda: self._retry(peer))
                return False
            return True
        asked = 0
        request = peer.stream.request
        for run in runs:
            index, first, count = run
            if self._large is not None:
                for slot, begin, length in self._large.places(run):
                    request(index, begin, length, slot, direct=not aside)
            else:
                slot, begin = self._slots[index], first * BLOCK
                request(index, begin, min(count * BLOCK, slot.length - begin), slot, direct=not aside)
            asked += count
        peer.pipeline.handle_requested(now, asked)
        if among is not None:
            peer.asked_choked_at = now
        peer.flush()
        return True

    def _pick(self, number: int, room: int, among: list[int] | None) -> list[BlockRun]:
        """What to ask of the peer, where it chokes us `among` the pieces that it allows."""
        pick = self.picker.pick if among is None else partial(self.picker.pick_among, among)
        if self._padding is None:
            return pick(number, room)
        return self._padding.pick(lambda blocks: pick(number, blocks), room, lambda run: self._pad(number, run))

    def _pad(self, number: int, run: BlockRun) -> None:
        """Blocks of pads count as come from the peer that was picked for them."""
        slot, begin = self._slots[run.index], run.first * BLOCK
        slot.write(begin, bytes(min(run.count * BLOCK, slot.length - begin)))
        self._landed(run, self.picker.received(number, run).whole)

    def _retry(self, peer: PeerConnection) -> bool:
        return self.fill(peer, self._context.loop.time())

    # blocks

    def handle_run(self, peer: PeerConnection, index: int, begin: int, length: int, now: float) -> None:
        """Blocks landed in the piece's slot."""
        peer.pipeline.handle_received(now, -(-length // BLOCK))
        peer.last_payload = now
        peer.rejects = 0
        self.handle_landed(peer.number, index, begin, length, None, now)

    def handle_aside(self, peer: PeerConnection, index: int, begin: int, data: bytes, now: float) -> None:
        """A block that was asked of more than one peer came."""
        peer.pipeline.handle_received(now, 1)
        peer.last_payload = now
        peer.rejects = 0
        self.handle_landed(peer.number, index, begin, len(data), data, now)

    def handle_landed(
        self, number: int, index: int, begin: int, length: int, data: bytes | None, now: float
    ) -> None:
        """Whole blocks from a peer or a web seed: where they belong already, or as `data`, one of them."""
        count = -(-length // BLOCK)
        run = BlockRun(index, begin // BLOCK, count)
        new, whole, cancel = self.picker.received(number, run)
        self.rate.add(now, length)
        self.downloaded += length
        self.wasted += (count - new) * BLOCK
        for other, asked in cancel:
            self._cancel(other, asked)
        if new:
            if data is not None:
                slot = next(self._large.places(run)).slot if self._large is not None else self._slots[index]
                slot.write(begin, data)
            if whole or self._large is not None:
                self._landed(run, whole)

    def _cancel(self, number: int, run: BlockRun) -> None:
        """Another than this peer or web seed has sent it."""
        peer = self._peers.get(number)
        if peer is not None:
            self.asked.take_back(peer, run)
            peer.flush()
        elif self.web is not None:
            self.web.take_back(number, run)

    # web seeds

    def range_for(self, number: int, blocks: int, at: int = -1, block: int = -1) -> tuple[list[BlockRun], bool, bool]:
        """A range for a web seed to send: its runs, whether they must land aside, and whether only memory is missing.

        `at`: from the beginning of this piece, or where it is under way from this block of it on, or not at all.
        """
        if self._paused or self.held:
            return [], False, False
        self._arena_full = False
        if block >= 0:
            if self._large is not None:
                self._large.grow()
            self._arena_full = self.picker.is_locked(at, block)
        runs = self.picker.pick_range(number, blocks, at, block)
        self._drop_abandoned()
        return runs, self.picker.took_over, not runs and self._arena_full

    def room_for(self, index: int, begin: int, length: int) -> memoryview:
        """Where these bytes of an open piece belong."""
        slot = self._slots.get(index)
        if slot is None and self._large is not None:
            slot = next(self._large.places(BlockRun(index, begin // BLOCK, 1))).slot
        assert slot is not None
        view = memoryview(slot)
        return view[begin - slot.first : begin - slot.first + length]

    def handle_web_left(self, number: int) -> None:
        """A web seed sends nothing more."""
        self.asked.freed = True
        self.picker.peer_left(number)

    def handle_returned(self, number: int, runs: list[BlockRun]) -> None:
        """A web seed will not send these."""
        self.asked.freed = True
        for run in runs:
            self.picker.returned(number, run)

    def handle_wasted(self, length: int) -> None:
        """Bytes came that others had sent before."""
        self.downloaded += length
        self.wasted += length

    def _landed(self, run: BlockRun, whole: bool) -> None:
        if self._large is not None:
            self._large.landed(run)
        elif whole:
            digest = self._torrent.hashes.digest(run.index)
            self._context.workers.write_piece(self._number, run.index, self._slots.pop(run.index), digest)

    # answers of the workers

    def handle_written(self, index: int, slot: Slot) -> None:
        """Verified and written."""
        self._verified(index, fingerprints(slot) if self._suspects.waiting(index) else [])

    @property
    def proved(self) -> bool:
        """Whether all that is here was verified by all that is known of it."""
        return self.hashes is None or self.hashes.proved

    def refill(self) -> None:
        """Pieces may be asked for that could not be before: of idle peers at once."""
        now = self._context.loop.time()
        for peer in list(self._peers.values()):
            if peer.have is not None and not peer.pipeline.outstanding:
                self.fill(peer, now)

    def handle_mismatch(self, index: int, slot: Slot) -> None:
        """The hash is wrong."""
        if self.hashes is not None:
            self.hashes.handle_bad_piece(index)
        senders = self.picker.senders(index)
        if self.mending is not None and self.mending.able(index, slot, senders):
            self._doubted(index)
            self.mending.doubt(index, slot, senders)
        else:
            self._mismatched(index, fingerprints(slot))

    def _doubted(self, index: int) -> None:
        """Which of its blocks are wrong will be known; who has sent all of it is guilty already."""
        senders = sorted({peer for peer, _ in self.picker.senders(index)})
        self._owner.handle_bad_piece(index, senders, senders if len(senders) == 1 else [])

    def handle_judged(self, index: int, bad: int, guilty: list[int]) -> None:
        """Which blocks of a piece are wrong, and who has sent them; 0: nobody could say, and all of it comes again."""
        if self.mending is None or index not in self.mending:
            return
        slot, sums = self.mending.take(index)
        told = len({peer for peer, _ in self.picker.senders(index)}) == 1
        if not bad:
            guilty = self._again(index, fingerprints(slot) if slot is not None else sums)
        else:
            room, size = ALL_BLOCKS, self._geometry.piece_size(index)
            if slot is not None:
                self._slots[index] = slot
            elif self._large is not None:
                room = self._large.mend(index, bad, sums)
            self.wasted += sum(min(run.count * BLOCK, size - run.first * BLOCK) for run in runs_of(index, bad))
            self.dropped.add(index)
            self.asked.freed = True
            self.picker.piece_mended(index, bad, guilty, room=room)
        if not told:
            self._owner.handle_guilty(guilty)

    def handle_part_written(self, index: int, slot: Slot) -> None:
        """Written, and not verified yet."""
        if self._large is not None:
            self._large.handle_written(index, slot)

    def unlock(self, index: int, room: int) -> None:
        """There is memory for further blocks of an open piece."""
        self.picker.unlock(index, room)
        self.asked.freed = True

    def handle_read_back(self, index: int, state: int, fingerprints: list[int]) -> None:
        """A piece that was written part by part was hashed."""
        if state == GOOD:
            self._verified(index, fingerprints)
        elif state == SPLIT:
            self._owner.handle_disagreement(index)
        elif self.mending is not None and self.mending.able(index, None, senders := self.picker.senders(index)):
            self._doubted(index)
            self.mending.doubt_on_disk(index, fingerprints, senders)
        else:
            self._mismatched(index, fingerprints)

    def _verified(self, index: int, fingerprints: list[int]) -> None:
        if self.hashes is not None:
            self.hashes.handle_good_piece(index)
        guilty = self._suspects.verified(index, fingerprints) if self._suspects.waiting(index) else []
        if self.web is not None:
            self.web.handle_right(index, {peer for peer, _ in self.picker.senders(index)})
        self.picker.piece_done(index)
        self._owner.handle_verified(index)
        if guilty:
            self._owner.handle_guilty(guilty)

    def disbelieve(self, number: int) -> None:
        """A peer has sent wrong data: what else came of it and is not verified is fetched from others."""
        if self._large is None:  # there the parts that came are hashed already
            for index in self.picker.disbelieve(number):
                self.dropped.add(index)
                self.asked.freed = True

    def _mismatched(self, index: int, fingerprints: list[int]) -> None:
        senders = {peer for peer, _ in self.picker.senders(index)}
        guilty = self._again(index, fingerprints)
        self._owner.handle_bad_piece(index, sorted(senders), guilty)

    def _again(self, index: int, fingerprints: list[int]) -> list[int]:
        """It is fetched again, and who sent what is remembered until the right bytes are known; who is guilty already."""
        sent = self.picker.senders(index)
        self.wasted += self._geometry.piece_size(index)
        self.picker.piece_failed(index)
        self.dropped.add(index)
        self.asked.freed = True
        return self._suspects.failed(index, sent, fingerprints)

    # peers

    def peer_left(self, peer: PeerConnection) -> None:
        peer.stream.drop_requests()
        self.asked.freed = True
        self.picker.peer_left(peer.number)
        self._context.starved.pop(peer, None)

    def tick(self, now: float) -> None:
        """Once a second: slow peers give back what they will not deliver soon, silent ones everything."""
        self._share()
        if self.hashless is not None:
            self.hashless.tick(now)
        for peer in list(self._peers.values()):
            if peer.have is None or not peer.greeted:
                continue
            if peer.pipeline.outstanding:
                self.asked.review(peer, now)
            if not peer.closed:
                self.fill(peer, now)
                peer.flush()

    def _share(self) -> None:
        """Divides the pieces among the downloaders that are connected: they know one another by their peer ids."""
        own = self._context.peer_id
        others = {peer.peer_id for peer in self._peers.values() if peer.have is not None and not peer.is_seed} - {own}
        parts = len(others) + 1
        if parts > 1 or self._parts > 1:
            self._parts = parts
            self.picker.share(sum(other < own for other in others), parts)

    def give_memory_back(self) -> None:
        """Other torrents wait for memory: drops pieces that were begun and that nobody is being asked for."""
        self.picker.abandon_idle()
        self._drop_abandoned()

    def _drop_abandoned(self) -> None:
        for index in self.picker.poll_abandoned():
            self.dropped.add(index)
            if self._large is not None:
                self._large.drop(index)
            else:
                del self._slots[index]

    def nudge(self, now: float) -> None:
        """Ten times a second: while blocks are scarce, or memory is, a slow peer must not hold up the others.

        And peers that have nothing to do take over what others gave up.
        """
        if self._large is not None:
            self._large.grow()
        scarce = self.picker.endgame or bool(self._context.starved)
        if self.pieces.complete or self.picker.drained or not (scarce or self.asked.freed):
            return
        self.asked.freed = False
        for peer in list(self._peers.values()):
            if peer.have is not None and not peer.peer_choking and not peer.closed:
                if scarce and peer.pipeline.outstanding:
                    self.asked.give_surplus_back(peer, now)
                self.fill(peer, now)
                peer.flush()

    def pause(self) -> None:
        """No more requests: the torrent is ending, or the disk takes nothing."""
        self._paused = True

    def go_on(self) -> None:
        """After a pause: the next `nudge` asks again."""
        self._paused = False
        self.asked.freed = True

    def close(self) -> None:
        self._slots.clear()
        if self.hashes is not None:
            self.hashes.close()
        if self.hashless is not None:
            self.hashless.close()
        if self.mending is not None:
            self.mending.close()
        if self._large is not None:
            self._large.close()
