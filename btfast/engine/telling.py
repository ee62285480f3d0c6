"""HAVEs of one torrent: its peers hear of new pieces at once while they are few, and in rounds when they are many."""

from __future__ import annotations

from btfast.engine.connection import PeerConnection
from btfast.wire import messages

PAUSE = 0.0005  # seconds for each peer between two rounds: 2,000 idle peers hear of new pieces once a second


class Telling:
    """`peers` by number, as their set holds them. `tell` is called after each batch of pieces, and now and then."""

    def __init__(self, peers: dict[int, PeerConnection]) -> None:
        self._peers = peers
        self._haves: list[int] = []  # verified, and the peers have not been told
        self._told_at = 0.0

    def add(self, index: int) -> None:
        """A piece has been verified."""
        self._haves.append(index)

    @property
    def waits(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._haves)

    def handle_lost(self, index: int) -> None:
        """It has gone again: who has not been told yet is not."""
        if index in self._haves:
            self._haves.remove(index)

    def tell(self, now: float) -> None:
        """Those who lack pieces, when it is time: a message to each of many costs more than the piece that it tells of."""
        if not self._haves or now - self._told_at < PAUSE * len(self._peers):
            return
        everyone = messages.encode_haves(self._haves)
        self._haves = []
        self._told_at = now
        for peer in list(self._peers.values()):
            if peer.greeted and not peer.is_seed:
                peer.send(everyone)
                peer.flush()
