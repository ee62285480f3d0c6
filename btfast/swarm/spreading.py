"""What a seed does so that the swarm holds one whole copy soon: other pieces to each peer, to peers who pass them on.

Leechers choose the rarest piece that they know of, each for itself, and cannot see what the others are being sent at the
moment. The seed sees it. It suggests to each peer that it serves (BEP 6) pieces that nobody has and nobody is being
sent. A piece that stays with the one peer that got it is suggested to others after a while. A peer that keeps what it
got is in `arrears`: others are served first. How many pieces it may hold alone grows with those that it has passed on.
When every piece is held by peers enough, there is nothing left to do, until somebody leaves with the last copy.
https://www.bittorrent.org/beps/bep_0006.html, https://www.bittorrent.org/beps/bep_0016.html
"""

from __future__ import annotations

from btfast._bitfield import Bitfield
from btfast.swarm.rarity import Rng

LEAD = 2  # pieces that are suggested to a peer before it has fetched the last one
LEAD_SECONDS = 3.0  # and those that it takes in meanwhile: what Pipeline lets it ask for
MOST_LEAD = 32
CREDIT = 3  # pieces that a newcomer may hold alone
MOST_CREDIT = 32
STUCK = 45.0  # seconds after which a piece that one peer has is suggested to another


class _Peer:
    __slots__ = ("alone", "begun", "have", "passed", "promised", "served")

    def __init__(self, have: Bitfield) -> None:
        self.have = have
        self.promised: dict[int, None] = {}  # suggested or begun, and not fetched yet
        self.begun = -1  # the piece of which it was sent a block last
        self.alone: set[int] = set()  # got from us, and nobody else has it
        self.passed = 0
        self.served = False


class Spreading:
    """Peers are numbers; seeds are not to be told of. `piece_length`: bytes."""

    __slots__ = ("_copies", "_fresh", "_from_us", "_left", "_peers", "_piece_length", "_promises", "_rare")

    def __init__(self, piece_count: int, piece_length: int, rng: Rng) -> None:
        # Pieces that nobody has or was promised, taken from the end, and some that are no longer such.
        self._fresh = sorted(range(piece_count), key=lambda _: rng.random())
        self._piece_length = piece_length
        self._copies = [0] * piece_count  # peers that have it
        self._promises = [0] * piece_count  # peers that it was promised to
        self._left = piece_count  # pieces without a copy
        self._rare: dict[
            int, float
        ] = {}  # held by one peer: since when, or when it was promised to another; oldest first
        self._from_us: dict[int, set[int]] = {}  # peers that got it from us, while nobody has passed it on
        self._peers: dict[int, _Peer] = {}

    @property
    def needed(self) -> bool:
        """Whether there are pieces that nobody has, or one peer only."""
        return bool(self._left or self._rare)

    def peer_joined(self, peer: int, have: Bitfield, now: float) -> None:
        """A peer is there, and has these pieces."""
        self._peers[peer] = _Peer(Bitfield(len(self._copies)))
        for index in have.indices():
            self.peer_has(peer, index, now)

    def peer_left(self, peer: int, now: float) -> None:
        """A peer is gone, and what only it had with it."""
        me = self._peers.pop(peer, None)
        if me is None:
            return
        self._withdraw(me)
        for index in me.have.indices():
            copies = self._copies[index] = self._copies[index] - 1
            if not copies:
                self._left += 1
                self._rare.pop(index, None)
                self._renew(index)
            elif copies == 1:
                self._rare[index] = now
            if (ours := self._from_us.get(index)) is not None:
                ours.discard(peer)

    def peer_has(self, peer: int, index: int, now: float) -> bool:
        """A peer has got a piece, from us or from another. True: it was being sent this one."""
        me = self._peers.get(peer)
        if me is None or me.have[index]:
            return False
        me.have.set(index)
        copies = self._copies[index] = self._copies[index] + 1
        if copies == 1:
            self._left -= 1
            self._rare[index] = now
        else:
            self._rare.pop(index, None)
        if index not in me.promised:
            # From another: whoever had it from us has passed it on.
            for giver in self._from_us.pop(index, ()):
                if (other := self._peers.get(giver)) is not None:
                    other.passed += 1
                    other.alone.discard(index)
            return False
        del me.promised[index]
        self._promises[index] -= 1
        self._from_us.setdefault(index, set()).add(peer)
        if copies == 1:
            me.alone.add(index)
        if me.begun != index:
            return False
        me.begun = -1
        return True

    def handle_served(self, peer: int) -> None:
        """It may ask for pieces from now on."""
        if (me := self._peers.get(peer)) is not None:
            me.served = True

    def handle_refused(self, peer: int) -> None:
        """It was choked: what it was to fetch can be promised to others."""
        if (me := self._peers.get(peer)) is not None:
            me.served = False
            me.begun = -1
            self._withdraw(me)

    def handle_sending(self, peer: int, index: int) -> None:
        """A block of a piece is sent to a peer, suggested or not."""
        me = self._peers.get(peer)
        if me is None or me.begun == index or me.have[index]:
            return
        me.begun = index
        if index not in me.promised:
            me.promised[index] = None
            self._promises[index] += 1

    def suggest(self, peer: int, rate: float, now: float) -> list[int]:
        """Pieces to suggest now to a peer that is served at `rate` bytes a second."""
        me = self._peers.get(peer)
        found: list[int] = []
        if me is None or not me.served or len(self._peers) < 2:
            return found
        lead = min(LEAD + int(rate * LEAD_SECONDS / self._piece_length), MOST_LEAD)
        ahead = len(me.promised) - (me.begun in me.promised)
        while ahead < lead and (index := self._next(me, now)) >= 0:
            me.promised[index] = None
            self._promises[index] += 1
            found.append(index)
            ahead += 1
        return found

    def busy(self, peer: int) -> bool:
        """Whether a peer has got a part of a piece that one has at most: choked now, it could not pass that part on."""
        me = self._peers.get(peer)
        return me is not None and me.begun >= 0 and self._copies[me.begun] < 2

    def arrears(self, peer: int) -> bool:
        """Whether a peer holds more pieces alone than it has earned by those that it passed on."""
        me = self._peers.get(peer)
        return me is not None and len(me.alone) >= min(CREDIT + me.passed, MOST_CREDIT)

    def _withdraw(self, me: _Peer) -> None:
        for index in me.promised:
            self._promises[index] -= 1
            self._renew(index)
        me.promised.clear()

    def _renew(self, index: int) -> None:
        if not self._copies[index] and not self._promises[index]:
            self._fresh.append(index)

    def _next(self, me: _Peer, now: float) -> int:
        """What has been with one peer for too long; else what nobody has. -1: nothing."""
        for index, since in self._rare.items():
            if now - since < STUCK:
                break
            if not me.have[index] and not self._promises[index]:
                del self._rare[index]
                self._rare[index] = now
                return index
        fresh = self._fresh
        while fresh:
            index = fresh.pop()
            if not self._copies[index] and not self._promises[index]:
                return index
        return -1
