"""Connections to a torrent that is still looking at its disk: they wait, instead of being turned away to a backoff."""

from __future__ import annotations

from typing import Any, Protocol

from btfast.engine.connection import PeerConnection

LIMIT = 64  # connections
EVENTS = 16  # of one of them; it can have little to say before it has been answered


class Taker(Protocol):
    """Who takes them over in the end."""

    def handle_incoming(self, peer: PeerConnection, events: list[tuple[Any, ...]], now: float) -> None: ...


class EarlyPeers:
    """Owner of incoming connections until `release`."""

    def __init__(self) -> None:
        self._waiting: dict[PeerConnection, list[tuple[Any, ...]]] = {}
        self._closed = False

    def handle_incoming(self, peer: PeerConnection, events: list[tuple[Any, ...]], now: float) -> None:
        if self._closed or len(self._waiting) >= LIMIT:
            peer.close("too many peers")
            return
        peer.owner = self
        self._waiting[peer] = list(events)

    def handle_events(self, peer: PeerConnection, events: list[tuple[Any, ...]], now: float) -> None:
        waiting = self._waiting[peer]
        waiting += events
        if len(waiting) > EVENTS or peer.stream.error is not None:
            peer.close("it cannot wait")

    def handle_closed(self, peer: PeerConnection, reason: str) -> None:
        self._waiting.pop(peer, None)

    def release(self, taker: Taker, now: float) -> None:
        """The torrent is ready."""
        waiting, self._waiting = self._waiting, {}
        for peer, events in waiting.items():
            taker.handle_incoming(peer, events, now)

    def close(self) -> None:
        self._closed = True
        for peer in list(self._waiting):
            peer.close("stopped")
