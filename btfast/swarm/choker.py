"""Who may download from us (BEP 3): a few slots given anew every ten seconds, one of them optimistic.

While downloading, those who give us most keep their slots. As a seed, slots go round: after its turn a peer goes to the
end of the queue. The optimistic slot goes to whoever has waited longest, so nobody starves in either case.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

ROUND = 10.0  # seconds between rounds
OPTIMISTIC = 30.0  # seconds an optimistic unchoke lasts
TURN = 60.0  # seconds a seed serves a peer before others come first
CALM = 5.0  # seconds after a choke in which a peer is not unchoked out of turn: aria2 takes quick flips for a flood


class PeerStats(NamedTuple):
    """What a round needs to know of a peer. Rates are bytes a second: down to us, up to it."""

    peer: int
    interested: bool
    down_rate: float = 0.0
    up_rate: float = 0.0


class Choker:
    """Decides for one torrent; a peer is choked until handle_interested or round says otherwise."""

    __slots__ = ("_interested", "_optimist", "_optimist_until", "_served", "_slots", "_unchoked")

    def __init__(self, slots: int = 8) -> None:
        self._slots = slots
        self._unchoked: dict[int, float] = {}  # since when
        self._interested: set[int] = set()
        self._served: dict[int, float] = {}  # when it was last choked, or first seen: who waits longest is lowest
        self._optimist = -1
        self._optimist_until = 0.0

    @property
    def unchoked(self) -> list[int]:
        """The peers that may download now."""
        return list(self._unchoked)

    def is_unchoked(self, peer: int) -> bool:
        """Whether a peer may download now."""
        return peer in self._unchoked

    def handle_interested(self, peer: int, now: float) -> bool:
        """A peer wants data. True: unchoke it at once."""
        self._interested.add(peer)
        seen = peer in self._served
        last = self._served.setdefault(peer, now)
        if peer in self._unchoked or (seen and now - last < CALM):
            return False
        if len(self._unchoked.keys() & self._interested) >= self._slots:
            return False
        self._unchoked[peer] = now
        return True

    def handle_not_interested(self, peer: int) -> None:
        """A peer wants nothing more; its slot is free at once, and the next round chokes it."""
        self._interested.discard(peer)

    def peer_left(self, peer: int) -> None:
        """A peer is gone."""
        self._interested.discard(peer)
        self._unchoked.pop(peer, None)
        self._served.pop(peer, None)
        if self._optimist == peer:
            self._optimist = -1

    def round(self, now: float, peers: Iterable[PeerStats], *, seeding: bool = False) -> tuple[list[int], list[int]]:
        """Deals the slots anew: the peers to unchoke and the peers to choke."""
        wanting = {stats.peer: stats for stats in peers if stats.interested}
        self._interested = set(wanting)
        for peer in wanting:
            self._served.setdefault(peer, now)
        if seeding:
            order = sorted(wanting, key=lambda peer: self._turn(peer, now))
        else:
            order = sorted(wanting, key=lambda peer: (-wanting[peer].down_rate, *self._turn(peer, now)))
        if len(order) <= self._slots:
            chosen = set(order)
            self._optimist = -1
        else:
            chosen = self._with_optimist(order, now)
        unchoke = [peer for peer in order if peer in chosen and peer not in self._unchoked]
        choke = [peer for peer in self._unchoked if peer not in chosen]
        for peer in choke:
            del self._unchoked[peer]
            if peer in self._served:
                self._served[peer] = now
        self._unchoked.update((peer, now) for peer in unchoke)
        return unchoke, choke

    def _turn(self, peer: int, now: float) -> tuple[int, float]:
        since = self._unchoked.get(peer)
        if since is None:
            return 1, self._served[peer]
        return (0, since) if now - since < TURN else (2, since)

    def _with_optimist(self, order: list[int], now: float) -> set[int]:
        chosen = set(order[: max(self._slots - 1, 0)])
        rest = [peer for peer in order if peer not in chosen]
        if self._optimist not in rest or now >= self._optimist_until:
            waiting = [peer for peer in rest if peer not in self._unchoked] or rest
            self._optimist = min(waiting, key=lambda peer: self._served[peer])
            self._optimist_until = now + OPTIMISTIC
        if self._slots > 0:
            chosen.add(self._optimist)
        return chosen
