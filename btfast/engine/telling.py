"""HAVEs of one torrent: its peers hear of new pieces at once while they are few, and in rounds when they are many.

Who has no use for it yet, since it has the piece or is choked and knows that we have something for it, hears of several
pieces in one message a little later: in a swarm most HAVEs are such, and each would wake up the other side.
"""

from __future__ import annotations

from btfast.engine.connection import PeerConnection
from btfast.wire import messages

PAUSE = 0.0005  # seconds for each peer between two rounds: 2,000 idle peers hear of new pieces once a second
LATER = 0.5  # seconds for those who have no use for it yet


class Telling:
    """`peers` by number, as their set holds them. `tell` is called after each batch of pieces, and now and then."""

    def __init__(self, peers: dict[int, PeerConnection]) -> None:
        self._peers = peers
        self._haves: list[int] = []  # verified, and the peers have not been told
        self._told_at = 0.0
        self._late: dict[int, list[int]] = {}  # by peer: what it hears later
        self._late_at = 0.0  # when the last have been told

    def add(self, index: int) -> None:
        """A piece has been verified."""
        self._haves.append(index)

    @property
    def waits(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._haves or self._late)

    def handle_lost(self, index: int) -> None:
        """It has gone again: who has not been told yet is not."""
        for haves in (self._haves, *self._late.values()):
            if index in haves:
                haves.remove(index)

    def tell(self, now: float) -> None:
        """Those who lack pieces, when it is time: a message to each of many costs more than the piece that it tells of."""
        if self._haves and now - self._told_at >= PAUSE * len(self._peers):
            self._told_at = now
            haves, self._haves = self._haves, []
            for number, peer in list(self._peers.items()):
                if peer.greeted and not peer.is_seed:
                    late = self._late.pop(number, []) + haves
                    if _can_wait(peer, haves):
                        self._late[number] = late
                    else:
                        _tell(peer, late)
        if self._late and now - self._late_at >= LATER:
            self._late_at = now
            everything, self._late = self._late, {}
            for number, late in everything.items():
                if (other := self._peers.get(number)) is not None:
                    _tell(other, late)


def _can_wait(peer: PeerConnection, haves: list[int]) -> bool:
    """Whether a peer would not ask for these pieces now."""
    if peer.am_choking and peer.peer_interested:
        return True
    have = peer.have
    return have is not None and all([have[index] for index in haves])


def _tell(peer: PeerConnection, haves: list[int]) -> None:
    peer.send(messages.encode_haves(haves))
    peer.flush()
