"""The sending half of one torrent: who may ask, and blocks straight from the files."""

from __future__ import annotations

from collections.abc import Callable

from btfast._bitfield import Bitfield
from btfast.engine.connection import PeerConnection
from btfast.engine.context import Context
from btfast.engine.revealing import Revealing
from btfast.metainfo.geometry import Geometry
from btfast.storage.layout import Layout
from btfast.swarm.pieces import Pieces
from btfast.swarm.rates import Rate
from btfast.wire.extensions import OUR_REQQ
from btfast.wire.messages import MAX_BLOCK


class Serving:
    """Answers requests for pieces that are on disk."""

    def __init__(
        self, context: Context, layout: Layout, geometry: Geometry, pieces: Pieces, revealing: Revealing | None = None
    ) -> None:
        self._context = context
        self._layout = layout
        self._geometry = geometry
        self._pieces = pieces
        self._revealing = revealing
        self._unreadable: set[int] = set()  # pieces that were verified, and whose files have gone since
        self.handle_lost: Callable[[int, str], None] = lambda index, why: None
        self._uploaded_gone = 0  # by peers that have left
        self.rate = Rate(context.loop.time())

    def handle_request(self, peer: PeerConnection, index: int, begin: int, length: int) -> None:
        """Queues the block, or rejects the request. Closes the connection for a request that nobody may make."""
        geometry = self._geometry
        if index >= geometry.piece_count or not 0 < length <= MAX_BLOCK or begin + length > geometry.piece_size(index):
            peer.close(f"it asked for bytes {begin}+{length} of piece {index}, which do not exist")
            return
        hidden = self._revealing is not None and not self._revealing.may_ask(peer, index)
        if peer.am_choking or hidden or not self._pieces.have[index] or index in self._unreadable:
            peer.reject(index, begin, length)
            return
        if peer.stream.uploads >= OUR_REQQ:
            peer.reject(index, begin, length)
            if not peer.fast:
                peer.close("it floods us with requests")
            return
        try:
            spans = geometry.spans(index * geometry.piece_length + begin, length)
            segments = self._context.served.segments(self._layout, spans)
        except BlockingIOError:
            peer.reject(index, begin, length)  # it may ask again when some of what waits has left
            return
        except OSError as error:
            first = not self._unreadable
            self._unreadable.add(index)
            self.handle_lost(index, f"piece {index} cannot be served any more: {error.strerror or error}" if first else "")
            if peer.fast:
                peer.reject(index, begin, length)
            else:
                peer.close("the data to serve cannot be read")
            return
        peer.stream.send_block(index, begin, length, segments)

    @property
    def offered(self) -> Bitfield:
        """What a new peer is told that we have."""
        if self.revealing is not None:
            return Bitfield(len(self._pieces))
        if not self._unreadable:
            return self._pieces.have
        have = self._pieces.have.copy()
        for index in self._unreadable:
            have.clear(index)
        return have

    @property
    def revealing(self) -> Revealing | None:
        """While we pretend to have nothing."""
        return self._revealing if self._revealing is not None and self._revealing.active else None

    def handle_cancel(self, peer: PeerConnection, index: int, begin: int, length: int) -> None:
        if peer.stream.cancel_block(index, begin, length):
            peer.reject(index, begin, length)

    def peer_left(self, peer: PeerConnection) -> None:
        self._uploaded_gone += peer.stream.payload_sent
        if self._revealing is not None:
            self._revealing.peer_left(peer)

    def tick(self, now: float) -> None:
        """Once a second."""
        if self._revealing is not None:
            self._revealing.tick(now)

    def uploaded(self, peers: list[PeerConnection]) -> int:
        """Payload bytes sent so far."""
        return self._uploaded_gone + sum(peer.stream.payload_sent for peer in peers)

    def close(self) -> None:
        self._context.served.forget(self._layout.torrent)
