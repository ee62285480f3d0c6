"""From a magnet link to its torrent: the connections, and who looks for more, go on in the torrent's hands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btfast.engine.context import Context
from btfast.engine.conversation import Conversation
from btfast.engine.peer_set import PeerSet
from btfast.engine.swarms import Owner, Swarms
from btfast.metainfo.torrent import Torrent

if TYPE_CHECKING:  # it is loaded when the first magnet link comes
    from btfast.engine.resolving import Resolving


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
        peers.speak_v2()
    return resolved.finding
