"""What the conversation of one torrent has to tell about its peers, and who wants to hear it."""

from __future__ import annotations

from btfast.engine.connection import PeerConnection
from btfast.engine.exchange import PeerExchange
from btfast.engine.peer_set import PeerSet
from btfast.engine.unchoking import Unchoking


class PeerEvents:
    """conversation.Owner: the peer set, the choker, and by PEX other peers. No `exchange`: those do not hear of it."""

    def __init__(self, peers: PeerSet, unchoking: Unchoking, exchange: PeerExchange | None) -> None:
        self._peers = peers
        self._unchoking = unchoking
        self._exchange = exchange

    def greeted(self, peer: PeerConnection) -> str | None:
        refused = self._peers.greeted(peer)
        if refused is None and self._exchange is not None:
            self._exchange.changed(peer)
        return refused

    def introduced(self, peer: PeerConnection) -> None:
        self._peers.introduced(peer)
        if self._exchange is not None:
            self._exchange.changed(peer)

    def handle_interested(self, peer: PeerConnection, now: float) -> None:
        self._unchoking.handle_interested(peer, now)

    def handle_not_interested(self, peer: PeerConnection) -> None:
        self._unchoking.handle_not_interested(peer)

    def dropped(self, peer: PeerConnection, reason: str) -> None:
        self._unchoking.dropped(peer)
        if self._exchange is not None:
            self._exchange.left(peer)
        self._peers.dropped(peer, reason)
