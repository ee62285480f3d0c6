"""Which blocks to ask of which peer.

Theory of operation. A piece with a slot is *open*. Three masks of blocks say all about it: `received`, `free`
(asked of nobody), and for each holder the blocks asked of it. Outside endgame they are disjoint and make up the piece;
a piece that is too large for memory has a fourth, the blocks that are *locked* until those before them are written.
A peer owns at most one open piece that has free blocks and draws from it alone: a fast peer gets long runs and
whole pieces of its own, and a bad piece usually has one sender. When its own piece is drained it takes, in this order:
a *loose* open piece (free blocks, no owner: somebody returned them), a new piece, or, when there is no slot for one or
none is left, free blocks of the oldest piece that another peer owns. So the number of half-finished pieces follows the
number of busy peers until the slots end, and sharing starts there.

Endgame: every wanted block is received or asked for. A peer with room then takes over from the slowest queue, from its
end, as many blocks as it will deliver sooner; whoever delivers first cancels the other.
"""

from __future__ import annotations

from btfast._bitfield import Bitfield
from btfast.metainfo.geometry import BLOCK, Geometry
from btfast.swarm.blocks import ALL_BLOCKS, NOTHING_NEW, BlockRun, OpenPiece, PeerWork, Received, SlotSource, runs_of
from btfast.swarm.choice import Choice
from btfast.swarm.endgame import SOLO_PATIENCE, STALLED, Pace, take_over
from btfast.swarm.open_pieces import OpenPieces
from btfast.swarm.pieces import HASHLESS, RECEIVING, WANTED, Pieces
from btfast.swarm.rarity import Rarity, Rng, mask_of
from btfast.swarm.trust import Trust

STARVED_LIMIT = 256  # picks in vain before a piece that somebody may still serve is given up
RESCUE_SHARE = 1 / 16  # of the picks in vain that look for hanging peers


class Picker:
    """Decides blocks for one torrent. Peers are small ints chosen by the caller.

    It makes these transitions of `pieces` itself: open, whole, abandon, failed, mend, written, hashes_came. `pace(peer)` gives
    the bytes/s to expect of a peer, and the seconds before its next block (Pipeline.pace and wait); it is asked in endgame
    only. Without it what each peer has sent so far counts. With `rescue`, blocks of hanging peers are asked of others too
    before endgame, when slots are short: the caller must heed took_over then.
    """

    def __init__(
        self,
        geometry: Geometry,
        pieces: Pieces,
        rng: Rng,
        slots: SlotSource,
        *,
        sequential: bool = False,
        levels: bytes | None = None,
        pace: Pace | None = None,
        rescue: bool = False,
    ) -> None:
        self._geometry = geometry
        self._pieces = pieces
        self._rng = rng
        self._slots = slots
        self._pace = pace
        self._rescue = rescue and pace is not None
        self.took_over = False  # whether the last pick gave blocks that another peer is asked for as well
        self._rarity = Rarity(pieces, rng, sequential=sequential, levels=levels)
        self._peers: dict[int, PeerWork] = {}
        self._web: set[int] = set()  # those of the peers that are web seeds
        self._seeds = 0
        self._open = OpenPieces(self._peers)
        self._trust = Trust(self._peers, self._rarity, rng)
        self._choice = Choice(geometry, pieces, self._rarity, self._trust, rng, sequential=sequential)
        self._abandoned: list[int] = []
        self._starved = 0  # picks in vain since a block came

    def share(self, part: int, parts: int) -> None:
        """We are the `part`th of `parts` downloaders: see Choice.share."""
        self._choice.share(part, parts)

    # Peers

    def peer_joined(self, peer: int, have: Bitfield, *, web: bool = False) -> None:
        """A peer and what it has; the object is kept, and kept current by peer_has and peer_lacks. `web`: a web seed."""
        if web:
            self._web.add(peer)
            self._choice.web = True
        if have.all():
            self._seeds += 1
            self._peers[peer] = PeerWork(peer, have, None)
            return
        mask = mask_of(have)
        self._rarity.join(mask)
        self._peers[peer] = PeerWork(peer, have, mask)

    def peer_has(self, peer: int, index: int) -> bool:
        """HAVE from a peer. True when it is news and the piece is one that we want."""
        me = self._peers[peer]
        if me.mask is None or me.have[index]:
            return False
        me.have.set(index)
        bit = self._rarity.bit(index)
        if me.have.all():
            self._rarity.leave(me.mask)
            me.mask = None
            self._seeds += 1
        else:
            me.mask |= bit
            self._rarity.join(bit)
        return self._pieces.state(index) in (WANTED, RECEIVING, HASHLESS)

    def peer_lacks(self, peer: int, index: int, count: int = 1) -> None:
        """A peer has lost pieces, `count` of them from `index` on (BEP 54, or a web seed). What is asked of it stays asked."""
        me = self._peers[peer]
        if not any([me.have.clear(piece) for piece in range(index, index + count)]):
            return
        if me.mask is None:
            self._seeds -= 1
            me.mask = mask_of(me.have)
            self._rarity.join(me.mask)
        else:
            bits = self._rarity.span(index, count) & me.mask
            me.mask ^= bits
            self._rarity.leave(bits)
        if me.own is not None and index <= me.own.index < index + count:
            self._open.disown(me)

    def peer_suggests(self, peer: int, index: int) -> None:
        """SUGGEST from a peer (BEP 6)."""
        self._choice.peer_suggests(self._peers[peer], index)

    def peer_left(self, peer: int) -> list[BlockRun]:
        """Forgets a peer; the blocks that were asked of it, which can be picked again."""
        returned = self.returned_all(peer)
        me = self._peers.pop(peer)
        self._web.discard(peer)
        self._choice.web = bool(self._web)
        if me.mask is None:
            self._seeds -= 1
        else:
            self._rarity.leave(me.mask)
        return returned

    def interesting(self, peer: int) -> bool:
        """Whether the peer has a piece that is WANTED or HASHLESS, or an open one that is not whole yet."""
        me = self._peers[peer]
        counts = self._pieces.count
        if me.mask is None:
            return counts(WANTED) + counts(RECEIVING) + counts(HASHLESS) > 0
        if counts(WANTED) and self._rarity.wanted & me.mask:
            return True
        if counts(HASHLESS) and self._rarity.hashless & me.mask:
            return True
        have = me.have
        return any(have[index] and piece.received != piece.full for index, piece in self._open.all.items())

    def outstanding(self, peer: int) -> int:
        """Blocks asked of a peer and not received or returned yet."""
        return self._peers[peer].outstanding

    def availability(self, index: int) -> int:
        """Peers that have piece `index`."""
        return self._seeds + self._rarity.availability(index)

    # Blocks

    @property
    def endgame(self) -> bool:
        """Every wanted block is received or asked for, and some are not received."""
        count = self._pieces.count
        return not self._open.free and not self._open.locked and count(WANTED) == 0 and count(RECEIVING) > 0

    @property
    def drained(self) -> bool:
        """The only peer has been asked for all that is wanted: until some of it comes back there is nothing to pick."""
        return not self._open.free and len(self._peers) == 1 and self._pieces.count(WANTED) == 0

    def pick(self, peer: int, blocks: int) -> list[BlockRun]:
        """At most `blocks` blocks to ask of a peer, as few and long runs as possible; they count as asked from here on.

        Empty when there is nothing for it now: no slot, nothing that it has, or nothing left.
        """
        me = self._peers[peer]
        self.took_over = False
        runs: list[BlockRun] = []
        piece = me.own
        while blocks > 0:
            if piece is None:
                piece = self._next_piece(me)
                if piece is None:
                    break
            blocks -= self._open.take(me, piece, blocks, runs)
            piece = None
        if not runs and blocks > 0:
            if self.endgame:
                runs = take_over(me, blocks, self._peers.values(), self._pace)
            elif self._rescue and self._starved and self._rng.random() < RESCUE_SHARE:
                # Open pieces must not wait for a peer that hangs while others get no slot. Looking costs a call of
                # pace for each peer, and picks in vain are common when the disk is slower than the peers.
                runs = take_over(me, blocks, self._peers.values(), self._pace, gain=STALLED)
            self.took_over = bool(runs)
        return runs

    def next_block(self, index: int, block: int) -> int:
        """The next block of an open piece, from `block` on, that has not come and that nobody is asked for; or -1."""
        piece = self._open.all.get(index)
        left = (piece.free | piece.locked) >> block if piece is not None and not piece.solo else 0
        return block + (left & -left).bit_length() - 1 if left else -1

    def is_locked(self, index: int, block: int) -> bool:
        """Whether there is no room yet for this block of an open piece."""
        piece = self._open.all.get(index)
        return piece is not None and bool(piece.locked >> block & 1)

    def pick_range(self, peer: int, blocks: int, at: int = -1, block: int = -1) -> list[BlockRun]:
        """`pick` for a web seed: blocks that follow one another through as many pieces as possible.

        `at`: from the beginning of this piece, or where it is open from this `block` of it on, or not at all.
        """
        me = self._peers[peer]
        self.took_over = False
        runs: list[BlockRun] = []
        if block >= 0:
            piece = self._open.all.get(at)
            if piece is not None and self._choice.fit(me, piece) is not None:
                self._open.take_run(me, piece, block, blocks, runs)
            return runs
        left = blocks
        piece = me.own or self._loose_for(me) if at < 0 else None
        index = at
        if at >= 0:
            self._open.disown(me)
        elif piece is None:
            index = self._choice.range_for(me, alone=len(self._peers) == len(self._web))
        while left > 0:
            if piece is None and index in self._open.loose and at < 0:
                piece = self._loose_for(me, index)
            if piece is None:
                if not self._choice.may_follow(me, index):
                    break
                room = self._slots.open_piece(index)
                if not room:
                    break
                piece = self._opened(me, index, room)
            left -= self._open.take(me, piece, left, runs)
            if piece.locked:
                break
            index, piece = piece.index + 1, None
        return runs or (self.pick(peer, blocks) if at < 0 else runs)

    def pick_among(self, among: list[int], peer: int, blocks: int) -> list[BlockRun]:
        """`pick` for a peer that chokes us: blocks of pieces `among` these alone, and none that others are asked for."""
        me = self._peers[peer]
        self.took_over = False
        runs: list[BlockRun] = []
        if me.own is not None and me.own.index not in among:
            self._open.disown(me)
        if me.own is not None:
            blocks -= self._open.take(me, me.own, blocks, runs)
        for index in among:
            if blocks <= 0:
                break
            piece = self._open.free.get(index)
            if piece is None:
                room = self._slots.open_piece(index) if self._choice.may_follow(me, index) else 0
                if not room:
                    continue
                piece = self._opened(me, index, room)
            elif self._choice.fit(me, piece) is None or piece.solo:
                continue
            elif index in self._open.loose:
                self._open.own(me, piece)
            blocks -= self._open.take(me, piece, blocks, runs)
        return runs

    def received(self, peer: int, run: BlockRun) -> Received:
        """Blocks that arrived, asked for or not. Whole pieces turn HASHING."""
        index, first, count = run
        piece = self._open.all.get(index)
        if piece is None or piece.received == piece.full:
            return NOTHING_NEW
        bits = ((1 << count) - 1) << first
        me = self._peers.get(peer)
        hit = piece.holders.get(peer, 0) & bits
        if me is not None and hit:
            self._open.unhold(me, piece, hit, count if hit == bits else hit.bit_count())
        cancel: list[tuple[int, BlockRun]] = []
        new = count
        if hit != bits or piece.doubled:
            fresh = bits & ~piece.received & piece.full
            new = fresh.bit_count()
            if not new:
                return NOTHING_NEW
            self._open.claim(piece, fresh, cancel)
            piece.received |= fresh
            piece.sent.extend((peer, run.first, run.count) for run in runs_of(index, fresh))
        else:
            piece.received |= bits
            sent = piece.sent
            if sent and sent[-1][0] == peer and sent[-1][1] + sent[-1][2] == first:
                sent[-1] = (peer, sent[-1][1], sent[-1][2] + count)
            else:
                sent.append((peer, first, count))
        if me is not None:
            me.got += new
        self._starved = 0
        if piece.received != piece.full:
            return Received(new, False, cancel)
        self._pieces.whole(index)
        return Received(new, True, cancel)

    def returned(self, peer: int, run: BlockRun) -> int:
        """Blocks that the peer will not send (choke, reject, timeout, given back) can be picked again; how many."""
        piece = self._open.all.get(run.index)
        me = self._peers.get(peer)
        if piece is None or me is None:
            return 0
        hit = piece.holders.get(peer, 0) & (((1 << run.count) - 1) << run.first)
        if not hit:
            return 0
        count = hit.bit_count()
        self._open.unhold(me, piece, hit, count)
        self._open.release(piece, hit)
        if me.own is piece:
            self._open.disown(me)  # it has more than it can do: whoever asks next may go on here
        return count

    def returned_all(self, peer: int) -> list[BlockRun]:
        """Everything that was asked of a peer can be picked again; the runs."""
        me = self._peers[peer]
        runs: list[BlockRun] = []
        for piece in list(me.open.values()):
            hit = piece.holders[peer]
            runs.extend(runs_of(piece.index, hit))
            self._open.unhold(me, piece, hit, hit.bit_count())
            self._open.release(piece, hit)
        self._open.disown(me)
        return runs

    # Pieces

    @property
    def under_way(self) -> dict[int, int]:
        """Open pieces that are not whole: masks of the blocks that came."""
        return {index: piece.received for index, piece in self._open.all.items() if 0 != piece.received != piece.full}

    def resumed(self, piece: OpenPiece) -> None:
        """A WANTED piece of which an earlier run has received blocks, which are in their places."""
        self._pieces.open(piece.index)
        self._rarity.taken(piece.index)
        self._open.add(piece)
        if piece.received == piece.full:
            self._pieces.whole(piece.index)

    def unlock(self, index: int, room: int) -> None:
        """There is memory for the first `room` blocks of an open piece now (or was: they may have come already)."""
        self._open.unlock(index, room)

    def senders(self, index: int) -> list[tuple[int, BlockRun]]:
        """Who sent which blocks of an open piece."""
        piece = self._open.all.get(index)
        return [(peer, BlockRun(index, first, count)) for peer, first, count in piece.sent] if piece else []

    def disbelieve(self, peer: int) -> list[int]:
        """A peer lies: what it has sent of pieces that are not whole counts as never come; these pieces."""
        return [
            index
            for index, piece in self._open.all.items()
            if piece.received != piece.full and self._open.unsend(piece, peer)
        ]

    def hashes_came(self, indexes: range) -> None:
        """A row of HASHLESS pieces turns WANTED."""
        self._rarity.hashes_came(self._pieces.hashes_came(indexes))

    def piece_failed(self, index: int) -> None:
        """The hash of a whole piece was wrong: HASHING back to WANTED. The caller frees its slot."""
        self._pieces.failed(index)
        piece = self._open.all.pop(index)
        self._trust.failed(index, (peer for peer, _, _ in piece.sent))
        self._rarity.back(index)

    def piece_mended(self, index: int, bad: int, guilty: list[int], *, room: int = ALL_BLOCKS) -> None:
        """The hash of a whole piece was wrong because of these blocks: HASHING back to RECEIVING. For `room` see unlock."""
        piece = self._open.all[index]
        self._pieces.mend(index)
        self._open.mend(piece, bad, min(room, piece.full.bit_length()))
        self._trust.failed(index, guilty)

    def piece_done(self, index: int) -> None:
        """A piece is verified and written: HASHING or WRITING to HAVE."""
        self._pieces.written(index)
        del self._open.all[index]
        self._trust.done(index)

    def poll_abandoned(self) -> list[int]:
        """Pieces given up since the last call because no peer serves them and slots were short: free their slots."""
        abandoned, self._abandoned = self._abandoned, []
        return abandoned

    # Choice

    def _next_piece(self, me: PeerWork) -> OpenPiece | None:
        have = None if me.mask is None else me.have
        piece = self._loose_for(me)
        if piece is not None:
            return piece
        if self._pieces.count(WANTED):
            index = self._choice.piece_for(me, len(self._peers))
            if index >= 0:
                room = self._slots.open_piece(index)
                if room:
                    return self._opened(me, index, room)
                piece = self._shared(me, have)
                if piece is None:
                    self._starve()
                return piece
        return self._shared(me, have)

    def _loose_for(self, me: PeerWork, index: int = -1) -> OpenPiece | None:
        """An open piece without an owner, for a peer to go on with: the best, or this one."""
        loose = self._open.loose
        piece = (self._choice.loose_for(me, loose) if loose else None) if index < 0 else self._choice.fit(me, loose[index])
        if piece is not None:
            self._open.own(me, piece)
        return piece

    def _opened(self, me: PeerWork, index: int, room: int) -> OpenPiece:
        self._pieces.open(index)
        self._choice.opened(me, index)
        blocks = self._geometry.block_count(index)
        piece = OpenPiece(index, blocks, me.number, room=room, solo=index in self._trust)
        self._open.add(piece)
        me.own = piece
        return piece

    def _shared(self, me: PeerWork, have: Bitfield | None) -> OpenPiece | None:
        """Free blocks of a piece that another peer owns."""
        for piece in self._open.free.values():
            if (have is not None and not have[piece.index]) or not self._trust.allows(me, piece.index):
                continue
            if not piece.solo:
                return piece
            if not self._in_time(piece):
                self._peers[piece.owner].own = None
                piece.owner = me.number
                me.own = piece
                return piece
        return None

    def _in_time(self, piece: OpenPiece) -> bool:
        """Whether a piece that is better left to its owner will come from it within a bearable time."""
        if self._pace is None:
            return True
        blocks = self._peers[piece.owner].outstanding + piece.free.bit_count()
        rate, wait = self._pace(piece.owner)
        return wait < SOLO_PATIENCE and blocks * BLOCK <= SOLO_PATIENCE * rate

    def _starve(self) -> None:
        """A peer has pieces that we want but there is no slot: gives up an open piece that nobody is fetching."""
        self._starved += 1
        for piece in self._open.loose.values():
            if piece.holders:
                continue
            if not piece.received or self._starved > STARVED_LIMIT or not self.availability(piece.index):
                self._abandon(piece.index)
                return

    def _abandon(self, index: int) -> None:
        self._open.abandon(index)
        self._pieces.abandon(index)
        self._rarity.back(index)
        self._abandoned.append(index)
        self._starved = 0

    def abandon_idle(self) -> None:
        """Memory is short elsewhere: gives up the open pieces of which nothing is asked; see poll_abandoned."""
        for index in [index for index, piece in self._open.loose.items() if not piece.holders]:
            self._abandon(index)
