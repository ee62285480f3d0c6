"""What a peer says of itself before the torrent is known: kept, in little room, and said again when it is."""

from __future__ import annotations

from typing import Any

from btfast.engine.connection import PeerConnection
from btfast.errors import RemoteError
from btfast.swarm.metadata import LIMIT
from btfast.wire import ids

MOST_PIECES = LIMIT // 20  # metadata within its limit has no hashes for more
BITFIELD_LIMIT = MOST_PIECES // 8  # bytes
MOST_LISTED = 256  # of allowed-fast and lt_donthave messages
LONGEST_HANDSHAKE = 1 << 14  # bytes of an LTEP handshake that are kept

Event = tuple[Any, ...]


class Heard:
    """One peer's words. Nothing can be checked yet against a number of pieces."""

    __slots__ = ("_fast", "_field", "_first", "_handshake", "_haves", "_lacks", "_port")

    def __init__(self) -> None:
        self._handshake: Event | None = None
        self._first: int | None = None  # BITFIELD, HAVE_ALL or HAVE_NONE
        self._field = b""
        self._haves = bytearray()
        self._lacks: list[int] = []
        self._fast: list[Event] = []
        self._port: Event | None = None

    def handle_extended(self, body: bytes) -> None:
        """An LTEP handshake: those who deal with extensions in the torrent want to hear it as well."""
        if len(body) <= LONGEST_HANDSHAKE:
            self._handshake = (ids.EXTENDED, ids.EXT_HANDSHAKE, body)

    def handle_lacks(self, index: int) -> None:
        """lt_donthave."""
        if len(self._lacks) < MOST_LISTED:
            self._lacks.append(index)

    def handle(self, peer: PeerConnection, event: Event, now: float) -> None:
        """Any other message. Raises RemoteError for one that no torrent could explain."""
        kind = event[0]
        if kind in (ids.BITFIELD, ids.HAVE_ALL, ids.HAVE_NONE):
            self._first = kind
            self._field = event[1] if kind == ids.BITFIELD else b""
        elif kind == ids.HAVE:
            self._have(event[1])
        elif kind in (ids.CHOKE, ids.UNCHOKE):
            peer.peer_choking = kind == ids.CHOKE
            if not peer.peer_choking:
                peer.unchoked_at = now
        elif kind in (ids.INTERESTED, ids.NOT_INTERESTED):
            peer.peer_interested = kind == ids.INTERESTED
        elif kind == ids.ALLOWED_FAST:
            if len(self._fast) < MOST_LISTED:
                self._fast.append(event)
        elif kind == ids.PORT:
            self._port = event

    def _have(self, index: int) -> None:
        if index >= MOST_PIECES:
            raise RemoteError(f"have: piece {index} of a torrent whose metadata would be too large: the peer is dropped")
        if index >> 3 >= len(self._haves):
            self._haves.extend(bytes((index >> 3) + 1 - len(self._haves)))
        self._haves[index >> 3] |= 128 >> (index & 7)

    def replay(self, peer: PeerConnection, pieces: int) -> list[Event]:
        """All of it as events, for a torrent with so many pieces."""
        events: list[Event] = [self._handshake] if self._handshake is not None else []
        if self._first is not None:
            events.append((self._first, self._field) if self._first == ids.BITFIELD else (self._first,))
        if self._haves:
            whole = -(-pieces // 8)
            # One that is too long stays so, and ends the connection as a bitfield of the wrong size does.
            events.append((ids.BITFIELD, bytes(self._haves).ljust(whole, b"\0")))
        events += [(ids.EXTENDED, ids.EXT_DONT_HAVE, index.to_bytes(4, "big")) for index in self._lacks]
        events += self._fast
        if self._port is not None:
            events.append(self._port)
        if peer.peer_interested:
            events.append((ids.INTERESTED,))
        if not peer.peer_choking:
            events.append((ids.UNCHOKE,))
        return events
