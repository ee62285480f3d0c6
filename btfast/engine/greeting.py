"""What all connections have in common, whether the torrent is known or not: their first words, and what is too much."""

from __future__ import annotations

from typing import Any

from btfast.engine.connection import PeerConnection
from btfast.engine.swarm_names import SwarmNames
from btfast.errors import RemoteError
from btfast.wire import messages
from btfast.wire.handshake import Handshake, decode_handshake

GREETING_TIMEOUT = 10.0  # seconds for the handshake
SILENCE = 150.0  # seconds without a byte before a peer counts as gone; keep-alives come every 120
KEEP_ALIVE = 100.0
FLOOD = 4000  # messages a second that nothing explains
FLOOD_TICKS = 5  # seconds of it that are borne


def read_handshake(peer: PeerConnection, event: tuple[Any, ...], names: SwarmNames) -> Handshake | None:
    """The peer's handshake; None when it is wrong, and the connection closed."""
    try:
        handshake = decode_handshake(event[1])
    except RemoteError as error:
        peer.close(str(error))
        return None
    if not names.settle(peer, handshake.info_hash):
        peer.close("it serves another torrent")
        return None
    peer.peer_id = handshake.peer_id
    peer.fast = handshake.fast
    peer.dht_owed = handshake.dht
    return handshake


def still_welcome(peer: PeerConnection, explained: int, seconds: float, now: float) -> bool:
    """Once a second: drops the silent and the noisy, keeps the idle alive. False: it has been closed, or has not greeted.

    `explained`: messages so far that data or news account for.
    """
    if not peer.greeted:
        if now - peer.connected_at > GREETING_TIMEOUT:
            peer.close("no handshake came")
        return False
    if now - peer.last_received > SILENCE:
        peer.close("it fell silent")
        return False
    if floods(peer, explained, seconds):
        peer.close("it floods us with messages")
        return False
    if now - peer.last_sent > KEEP_ALIVE:
        peer.send(messages.KEEP_ALIVE)
        peer.flush()
    return True


def floods(peer: PeerConnection, explained: int, seconds: float) -> bool:
    """Whether it sends thousands of messages a second, for seconds, that do nothing."""
    before, peer.excess = peer.excess, peer.stream.messages - explained
    peer.flooding = peer.flooding + 1 if peer.excess - before > FLOOD * seconds else 0
    return peer.flooding >= FLOOD_TICKS
