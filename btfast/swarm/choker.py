"""Who may download from us: BEP 3's tit for tat, as a downloader and as a seed.

A round is held every ten seconds. As a downloader, those who sent us most keep their slots; who has sent nothing for a
minute although asked (snubbed us) is not among them. As a seed, those who receive fastest keep them for a longer turn.
One slot in five, and every slot that nobody has earned, is optimistic: it goes by a rotation, for thirty seconds, and
newcomers enter the rotation at its front three times as likely as at any other place. So nobody starves, and a peer that
has nothing to give yet gets its first pieces. Who had what we wanted, and has never given a byte, comes after all others
when it has got a little, also while it has nothing for us: a free rider that lags behind never does. There are more slots
when those there are carry much.

A slot that is free is given at once: rounds are for taking slots away.
https://www.bittorrent.org/beps/bep_0003.html, Cohen, "Incentives Build Robustness in BitTorrent" (2003).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from btfast.swarm.rarity import Rng

ROUND = 10.0  # seconds between rounds
OPTIMISTIC = 30.0  # seconds an optimistic unchoke lasts
SHORT_TURN = 30.0  # seconds that a seed serves a peer which receives slowly, when others wait
LONG_TURN = 90.0  # and one of the faster half
LONGEST_TURN = 300.0  # and of one that is in the midst of a piece
CALM = 5.0  # seconds after a choke in which a peer is not unchoked out of turn: aria2 takes quick flips for a flood
SNUBBED = 60.0  # seconds without data from a peer that we have asked: it keeps no slot by what it gave before
SLOTS = 8  # to begin with, and at least
MOST_SLOTS = 200
GROWTH = 2048  # n slots need n x n times so many bytes a second: 1 MiB/s makes 22, 10 MiB/s 71
NICE = 256 << 10  # bytes that a peer which has what we want and chokes us may get for nothing
THANKS = 20  # times what it gave is added to that
ALMS = 0.05  # of what a downloader sends to others may go to peers that have had their NICE
IDLE_ROUNDS = 6  # rounds in which nobody else took anything, after which one of them gets a turn all the same
FIRST = 3  # times as likely as any other place is the front of the rotation for a newcomer


class PeerStats(NamedTuple):
    """What a round needs to know of a peer. Rates are bytes a second since the last round: down to us, up to it."""

    peer: int
    interested: bool
    down_rate: float = 0.0
    up_rate: float = 0.0
    snubbed: bool = False
    refuses: bool = False  # it has what we want, and chokes us
    arrears: bool = False  # as a seed: it keeps to itself what we gave it (Spreading.arrears)
    busy: bool = False  # as a seed: it has a part of a piece that nobody has (Spreading.busy)


class Choker:
    """Decides for one torrent; a peer is choked until one of the methods says otherwise."""

    __slots__ = (
        "_alms", "_back", "_choked_at", "_free", "_front", "_idle", "_interested", "_last", "_least", "_optimists", "_over",
        "_owed", "_peak", "_place", "_refused", "_rng", "_unchoked", "slots",
    )  # fmt: skip

    slots: int

    def __init__(self, rng: Rng, *, slots: int = SLOTS) -> None:
        self._rng = rng
        self.slots = self._least = slots
        self._unchoked: dict[int, float] = {}  # since when
        self._choked_at: dict[int, float] = {}  # of those that had a slot before
        self._interested: set[int] = set()
        self._place: dict[int, int] = {}  # in the rotation: the lowest is unchoked next
        self._front = self._back = 0  # the lowest and the highest place given so far
        self._optimists: dict[int, float] = {}  # until when
        self._owed: dict[int, float] = {}  # bytes that a peer got from us while it refused to give, less what it gave
        self._refused: set[int] = set()  # peers that have refused to give, and have given nothing since
        self._last: set[int] = set()  # peers that come after all others
        self._over: set[int] = set()  # peers whose turn ends with the piece that they are fetching
        self._alms = 0.0  # bytes that they may get, as a downloader
        self._idle = 0  # rounds in a row in which nobody else took anything
        self._free = slots
        self._peak = 0.0

    @property
    def unchoked(self) -> list[int]:
        """The peers that may download now."""
        return list(self._unchoked)

    def is_unchoked(self, peer: int) -> bool:
        """Whether a peer may download now."""
        return peer in self._unchoked

    def handle_interested(self, peer: int, now: float) -> bool:
        """A peer wants data. True: unchoke it at once."""
        known = peer in self._interested
        self._interested.add(peer)
        if peer in self._unchoked:
            self._free -= not known
            return False
        self._enter(peer)
        return self._free > 0 and peer not in self._last and self._calm(peer, now) and self._give(peer, now)

    def handle_not_interested(self, peer: int) -> None:
        """A peer wants nothing more; its slot is free at once, and the next round chokes it."""
        if peer in self._interested:
            self._interested.discard(peer)
            self._free += peer in self._unchoked

    def peer_left(self, peer: int) -> None:
        """A peer is gone."""
        self.handle_not_interested(peer)
        self._unchoked.pop(peer, None)
        self._choked_at.pop(peer, None)
        self._optimists.pop(peer, None)
        self._place.pop(peer, None)
        self._owed.pop(peer, None)
        self._refused.discard(peer)
        self._last.discard(peer)
        self._over.discard(peer)

    def handle_piece_end(self, peer: int, now: float) -> bool:
        """As a seed: a peer has got the whole of a piece. True: its turn was over but for that, choke it."""
        if peer not in self._over:
            return False
        self._over.discard(peer)
        if self._unchoked.pop(peer, None) is None:
            return False
        self._choked_at[peer] = now
        self._optimists.pop(peer, None)
        self._free += peer in self._interested
        return True

    def poll_free(self, now: float) -> list[int]:
        """Peers to unchoke because slots are free: who has waited longest comes first."""
        found: list[int] = []
        if self._free <= 0:
            return found
        for peer in self._rotation(self._interested - self._unchoked.keys() - self._last):
            if self._calm(peer, now) and self._free > 0:
                self._give(peer, now)
                found.append(peer)
        return found

    def round(self, now: float, peers: Iterable[PeerStats], *, seeding: bool = False) -> tuple[list[int], list[int]]:
        """Deals the slots anew: the peers to unchoke and the peers to choke."""
        known = list(peers)
        wanting = {stats.peer: stats for stats in known if stats.interested}
        self._interested = set(wanting)
        for peer in wanting:
            self._enter(peer)
        self._grow(sum(stats.up_rate for stats in known), len(wanting))
        self._judge(known, seeding)
        for peer, until in list(self._optimists.items()):
            if peer not in wanting or now >= until or peer in self._last:
                del self._optimists[peer]
        self._over.clear()
        if len(wanting) <= self.slots and (seeding or self._last.isdisjoint(wanting)):
            chosen = set(wanting)
        else:
            chosen = self._deal(now, self._seed(now, wanting) if seeding else self._tit_for_tat(wanting), seeding)
        if seeding:
            self._let_finish(now, chosen, wanting)
        choke = [peer for peer in self._unchoked if peer not in chosen]
        for peer in choke:
            del self._unchoked[peer]
            self._choked_at[peer] = now
        unchoke = [peer for peer in chosen if peer not in self._unchoked]
        self._unchoked.update((peer, now) for peer in unchoke)
        self._free = self.slots - len(self._unchoked)
        return unchoke, choke

    def _enter(self, peer: int) -> None:
        """A peer that is not in the rotation enters it, at the front more likely than anywhere else."""
        if peer in self._place:
            return
        index = int(self._rng.random() * (len(self._place) + FIRST)) - FIRST + 1
        if index <= 0:
            self._front -= 1
            self._place[peer] = self._front
        elif index == len(self._place):
            self._served(peer)
        else:
            self._place[peer] = sorted(self._place.values())[index]

    def _rotation(self, peers: Iterable[int]) -> list[int]:
        return sorted(peers, key=self._place.__getitem__)

    def _calm(self, peer: int, now: float) -> bool:
        return now - self._choked_at.get(peer, now - CALM) >= CALM

    def _give(self, peer: int, now: float) -> bool:
        self._unchoked[peer] = now
        self._free -= 1
        self._served(peer)
        return True

    def _served(self, peer: int) -> None:
        """It has had its chance: all others come before it."""
        self._back += 1
        self._place[peer] = self._back

    def _grow(self, rate: float, wanting: int) -> None:
        """What the line has shown it can carry is forgotten slowly."""
        self._peak = max(rate, 0.9 * self._peak)
        if self._least:
            self.slots = max(self._least, min(int((self._peak / GROWTH) ** 0.5), MOST_SLOTS, wanting))

    def _let_finish(self, now: float, chosen: set[int], wanting: dict[int, PeerStats]) -> None:
        """Who is in the midst of a piece keeps the slot until it has the whole, and a newcomer waits until then."""
        over = [
            peer for peer, since in self._unchoked.items()
            if peer not in chosen and (stats := wanting.get(peer)) is not None
            and stats.busy and stats.up_rate and now - since < LONGEST_TURN
        ]  # fmt: skip
        new = [peer for peer in chosen if peer not in self._unchoked]
        for peer in over[: len(new)]:
            late = new.pop()
            chosen.discard(late)
            self._optimists.pop(late, None)
            self._front -= 1
            self._place[late] = self._front
            chosen.add(peer)
            self._over.add(peer)

    def _judge(self, peers: list[PeerStats], seeding: bool) -> None:
        """Who comes last: who takes and does not give; as a seed, who takes and does not pass on."""
        if seeding:
            self._last = {stats.peer for stats in peers if stats.arrears}
            return
        owed = self._owed
        given = kept = 0.0
        for stats in peers:
            if stats.peer in self._last:
                kept += stats.up_rate
            else:
                given += stats.up_rate
            if stats.down_rate > 0:
                self._refused.discard(stats.peer)
            elif stats.refuses:
                self._refused.add(stats.peer)
            owes = stats.refuses or stats.peer in self._refused
            grown = (stats.up_rate if owes else 0.0) - THANKS * stats.down_rate
            if grown or stats.peer in owed:
                owed[stats.peer] = owed.get(stats.peer, 0.0) + grown * ROUND
        self._last = {peer for peer, debt in owed.items() if debt > NICE}
        self._alms = max(-float(NICE), min(self._alms + (ALMS * given - kept) * ROUND, float(NICE)))
        self._idle = 0 if given else self._idle + 1

    def _tit_for_tat(self, wanting: dict[int, PeerStats]) -> list[int]:
        """Those who give, who gives most first."""
        givers = [stats for stats in wanting.values() if stats.down_rate > 0 and not stats.snubbed]
        givers.sort(key=lambda stats: -stats.down_rate)
        return [stats.peer for stats in givers]

    def _seed(self, now: float, wanting: dict[int, PeerStats]) -> list[int]:
        """Those whose turn is not over, the fastest first; the turn of the faster half is longer."""
        served = [
            peer for peer in self._unchoked if peer in wanting and peer not in self._optimists and peer not in self._last
        ]
        served.sort(key=lambda peer: -wanting[peer].up_rate)
        middle = wanting[served[len(served) // 2]].up_rate if served else 0.0
        return [
            peer
            for peer in served
            if now - self._unchoked[peer] < (LONG_TURN if 0 < middle <= wanting[peer].up_rate else SHORT_TURN)
        ]

    def _deal(self, now: float, earned: list[int], seeding: bool) -> set[int]:
        """The slots to those who have earned one, optimists whose time is not over, and the rotation, in this order.

        Those who come last get what is left: of a seed, which has no use for it, all of that; of a downloader no more
        than the optimistic slots, for a slot more for them is a reason less for others to give.
        """
        optimistic = max(1, self.slots // 5, len(self._optimists.keys() - earned))
        chosen = set(earned[: max(0, self.slots - optimistic)])
        for peer in list(self._optimists):
            if peer in chosen or len(chosen) >= self.slots:
                del self._optimists[peer]
            else:
                chosen.add(peer)
        waiting = self._interested - chosen
        turn = self._rotation(waiting - self._last)
        last = self._rotation(waiting & self._last)
        if seeding:
            turn += last
        elif self._alms > 0 or self._idle >= IDLE_ROUNDS:
            turn += last[:1]
            self._idle = 0
        for peer in turn[: max(0, self.slots - len(chosen))]:
            chosen.add(peer)
            self._optimists[peer] = now + OPTIMISTIC
            self._served(peer)
        return chosen
