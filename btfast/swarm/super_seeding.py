"""Super-seeding: a seed with a slow line pretends to have nothing and shows each peer a piece or two.

A peer is shown the next one when a piece that it was shown turns up elsewhere. So every piece leaves the seed about once,
those who pass pieces on get more of them, and when all have been seen in the swarm the seed goes on as an ordinary one.
A newcomer is shown one piece, and two at once when it has passed one on. Who keeps its piece to itself gets the next one
after a while, which is twice as long each time; the piece is shown to somebody else meanwhile.
https://www.bittorrent.org/beps/bep_0016.html
"""

from __future__ import annotations

from btfast._bitfield import Bitfield
from btfast.swarm.rarity import Rng

OPEN = 2  # pieces that a peer is shown at once: with one it would wait each time until another peer has fetched it
KEPT = 120.0  # seconds after which a peer that has got a piece is shown another, though nobody has fetched the first
STUCK = 45.0  # seconds after which a piece that one peer has is shown to another
UNCLAIMED = 30.0  # seconds after which a piece that was shown and not fetched may be shown to another peer too

Shown = list[tuple[int, int]]  # (peer, piece): to be told by a HAVE


class SuperSeeding:
    """Peers are numbers. Methods that change something return what is to be shown to whom."""

    __slots__ = ("_copies", "_fresh", "_left", "_open", "_passed", "_patience", "_peers", "_rare", "_showings", "_shown")

    def __init__(self, piece_count: int, rng: Rng) -> None:
        # Pieces that nobody was shown yet, taken from the end.
        self._fresh = sorted(range(piece_count), key=lambda _: rng.random())
        self._copies = [0] * piece_count  # peers that have it
        self._left = piece_count  # pieces without a copy
        self._peers: dict[int, Bitfield] = {}
        self._shown: dict[int, set[int]] = {}  # all that a peer may ask for
        self._open: dict[int, dict[int, float]] = {}  # a peer's pieces that nobody else has: since when
        self._passed: set[int] = set()  # peers that have passed something on
        self._patience: dict[int, float] = {}  # KEPT, of peers that let it pass once: twice as much, and so on
        self._rare: dict[int, float] = {}  # pieces that one peer has: since when, or when shown again; the oldest first
        # Pieces that were shown and not fetched: how often, when last.
        self._showings: dict[int, tuple[int, float]] = {}

    def __len__(self) -> int:
        return len(self._copies)

    @property
    def complete(self) -> bool:
        """Every piece has been seen at a peer."""
        return self._left == 0

    def may_ask(self, peer: int, index: int) -> bool:
        """Whether a peer was shown a piece."""
        return index in self._shown.get(peer, ())

    def copies(self, index: int) -> int:
        """Peers that have it."""
        return self._copies[index]

    def peer_joined(self, peer: int, have: Bitfield, now: float) -> Shown:
        """A peer is there, and has these pieces."""
        self._peers[peer] = Bitfield(len(self._copies))
        self._shown[peer] = set()
        self._open[peer] = {}
        found: Shown = []
        for index in have.indices():
            found += self.peer_has(peer, index, now)
        return found + self._fill(peer, now)

    def peer_left(self, peer: int, now: float) -> None:
        """A peer is gone, and what only it had with it."""
        have = self._peers.pop(peer, None)
        if have is None:
            return
        for index in have.indices():
            self._copies[index] -= 1
            self._left += not self._copies[index]
            if self._copies[index] == 1:
                self._rare[index] = now
            else:
                self._rare.pop(index, None)
        del self._shown[peer]
        self._passed.discard(peer)
        self._patience.pop(peer, None)
        for index in self._open.pop(peer):
            if not self._copies[index] and index not in self._fresh:
                self._showings.pop(index, None)
                self._fresh.append(index)

    def peer_has(self, peer: int, index: int, now: float) -> Shown:
        """A peer has got a piece. Whoever was shown it, and is not this peer, has passed it on."""
        have = self._peers.get(peer)
        if have is None or have[index]:
            return []
        have.set(index)
        self._copies[index] += 1
        self._showings.pop(index, None)
        if self._copies[index] == 1:
            self._left -= 1
            self._rare[index] = now
        else:
            self._rare.pop(index, None)
        found: Shown = []
        ours = index in self._shown[peer]  # it came from us: nobody has passed it on
        alone = len(self._peers) == 1  # nobody is there to pass it on to
        for other, pieces in self._open.items():
            if index not in pieces:
                continue
            if other == peer and not alone:
                pieces[index] = now
            elif alone or not ours:
                del pieces[index]
                self._passed.add(other)
                self._patience.pop(other, None)
                found += self._fill(other, now)
        return found

    def poll(self, now: float) -> Shown:
        """Now and then: nobody waits for ever for a piece to turn up elsewhere."""
        found: Shown = []
        alone = len(self._peers) == 1
        for peer, pieces in self._open.items():
            have = self._peers[peer]
            patience = self._patience.get(peer, KEPT)
            for index, since in list(pieces.items()):
                if have[index] and (alone or now - since > patience):
                    del pieces[index]
                    if not alone:
                        self._patience[peer] = 2 * patience
            found += self._fill(peer, now)
        return found

    def _fill(self, peer: int, now: float) -> Shown:
        pieces, shown, have = self._open[peer], self._shown[peer], self._peers[peer]
        found: Shown = []
        alone = len(self._peers) == 1
        while len(pieces) < (OPEN if alone or peer in self._passed else 1):
            index = self._next(shown, have, now)
            if index < 0:
                break
            shown.add(index)
            pieces[index] = now
            self._showings[index] = (self._showings.get(index, (0, 0.0))[0] + 1, now)
            found.append((peer, index))
        return found

    def _next(self, shown: set[int], have: Bitfield, now: float) -> int:
        """One that stays with one peer; a piece that nobody was shown; one that was shown least and longest ago, and not
        fetched. -1: none.
        """
        for index, since in self._rare.items():
            if now - since < STUCK:
                break
            if index not in shown and not have[index]:
                del self._rare[index]
                self._rare[index] = now
                return index
        fresh = self._fresh
        while fresh:
            index = fresh.pop()
            if not self._copies[index]:
                return index
        waiting = [
            (times, when, index)
            for index, (times, when) in self._showings.items()
            if now - when > UNCLAIMED and index not in shown and not have[index]
        ]
        return min(waiting)[2] if waiting else -1
