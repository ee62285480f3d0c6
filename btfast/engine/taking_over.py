"""From a magnet link to its torrent: the connections, and who looks for more, go on in the torrent's hands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btfast.engine.connection import PeerConnection
from btfast.engine.context import Context
from btfast.engine.conversation import Conversation
from btfast.engine.peer_set import PeerSet
from btfast.engine.swarms import Owner, Swarms
from btfast.metainfo.torrent import Torrent

if TYPE_CHECKING:  # it is loaded when the first magnet link comes
    from btfast.engine.resolving import Resolving

AGAIN = 4  # connections of v1 that are made anew for v2


def take_over(
    context: Context, resolved: Resolving | None, owner: Owner, torrent: Torrent, conversation: Conversation,
    peers: PeerSet, *, complete: bool,
) -> Swarms | None:  # fmt: skip
    """None where no peers were sought before."""
    if resolved is None or resolved.finding is None:
        return None
    resolved.finding.hand_over(owner, peers.names, torrent.announce_list, complete=complete)
    now = context.loop.time()
    for peer in list(peers.connections.values()):
        conversation.adopt(peer, resolved.preface.hand_over(peer, torrent.piece_count), now)
    if torrent.hashes.missing:
        _speak_v2(peers)
    return resolved.finding


def _speak_v2(peers: PeerSet) -> None:
    """A v1 link has become a hybrid: some of those that were greeted as v1 are greeted again, for the hashes of the v2 half."""
    greeted = [peer for peer in peers.connections.values() if _might_speak_v2(peer)]
    for peer in greeted[:AGAIN]:
        peer.close("the torrent is a hybrid: it is asked for v2")
        peers.known.renew(peer.address)


def _might_speak_v2(peer: PeerConnection) -> bool:
    return peer.outgoing and peer.greeted and not peer.v2
