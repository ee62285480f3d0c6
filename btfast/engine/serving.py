"""The sending half of one torrent: who may ask, and blocks straight from the files."""

from __future__ import annotations

import os
from collections.abc import Callable
from errno import EIO, ENOENT
from typing import TYPE_CHECKING

from btfast._bitfield import Bitfield
from btfast.engine.allowed import Granting
from btfast.engine.connection import PeerConnection
from btfast.engine.context import Context
from btfast.engine.places import EXHAUSTED
from btfast.engine.served_files import Segment, zeros
from btfast.metainfo.geometry import BLOCK, Geometry
from btfast.storage.layout import Layout
from btfast.swarm.pieces import Pieces
from btfast.swarm.rates import Rate
from btfast.wire.extensions import OUR_REQQ
from btfast.wire.messages import MAX_BLOCK

if TYPE_CHECKING:  # they are loaded when a seed chooses what its peers hear of
    from btfast.engine.revealing import Revealing
    from btfast.engine.suggesting import Suggesting

FEW = 8  # files that a run of blocks may lie in
AHEAD = 4 << 20  # bytes of a piece that are read from the disk before they are asked for
UNREAD = 48 << 20  # bytes that were read for a peer and have not left: as much as it may ask for, and some ahead


class Serving:
    """Answers requests for pieces that are on disk."""

    def __init__(
        self, context: Context, layout: Layout, geometry: Geometry, pieces: Pieces, *,
        revealing: Revealing | None = None, suggesting: Suggesting | None = None,
    ) -> None:  # fmt: skip
        self._context = context
        self._layout = layout
        self._geometry = geometry
        self._pieces = pieces
        self._revealing = revealing
        self._suggesting = suggesting
        self._plans: tuple[Revealing | Suggesting, ...] = tuple(one for one in (revealing, suggesting) if one is not None)
        self._granting = Granting(geometry)
        self._unreadable: set[int] = set()  # pieces that were verified, and whose files have gone since
        self.handle_lost: Callable[[int, OSError], None] = lambda index, error: None
        self._ahead: dict[int, tuple[int, int, int, int]] = {}  # of each peer: the range that was read ahead, all bytes that were
        self._uploaded_gone = 0  # by peers that have left
        self.rate = Rate(context.loop.time())

    def handle_request(self, peer: PeerConnection, index: int, begin: int, length: int) -> None:
        """Queues the block, or rejects the request. Closes the connection for a request that nobody may make."""
        if length > MAX_BLOCK:
            self._impossible(peer, index, begin, length)
        else:
            self._answer(peer, index, begin, length, length or 1)

    def handle_requests(self, peer: PeerConnection, index: int, begin: int, length: int) -> None:
        """The same for requests for all blocks of a range: 16 KiB each, the last may be shorter."""
        if peer.am_choking and peer.granted is not None and index in peer.granted:  # each of them is counted
            end = begin + length
            for at in range(begin, end, BLOCK):
                if not peer.closed:
                    self._answer(peer, index, at, min(BLOCK, end - at), BLOCK)
        else:
            self._answer(peer, index, begin, length, BLOCK)

    def _answer(self, peer: PeerConnection, index: int, begin: int, length: int, block: int) -> None:
        geometry = self._geometry
        if index >= geometry.piece_count or not length or begin + length > geometry.padded_size(index):
            self._impossible(peer, index, begin, length)
            return
        hidden = self._revealing is not None and not self._revealing.may_ask(peer, index)
        lacking = hidden or not self._pieces.have[index] or index in self._unreadable
        if lacking or (peer.am_choking and not (peer.granted is not None and peer.granted.take(index, begin, length))):
            _reject(peer, index, begin, length, block)
            return
        most = (OUR_REQQ - peer.stream.uploads) * block
        if length > most:
            _reject(peer, index, begin + most, length - most, block)
            if not peer.fast:
                peer.close("it floods us with requests")
                return
            if not most:
                return
            length = most
        # libtorrent 2.0 asks for whole blocks at the end of a v2 file, and counts on zeros.
        gap = min(length, max(0, begin + length - geometry.piece_size(index)))
        spans = self._layout.spans(index, begin, length - gap) if length > gap else []
        if len(spans) > FEW and length > block:  # one of many files that cannot be had is not to cost the others
            for at in range(begin, begin + length, block):
                if not peer.closed:
                    self._answer(peer, index, at, min(block, begin + length - at), block)
            return
        try:
            segments = self._context.served.segments(self._layout, spans)
            if self._ahead.get(peer.number, (-1,))[0] != index:
                _look(segments, fetching=not self._pieces.complete)
        except OSError as error:
            if isinstance(error, BlockingIOError) or error.errno in EXHAUSTED:
                _reject(peer, index, begin, length, block)  # it may ask again when some of what waits has left
                return
            self.handle_lost(index, error)
            if self._pieces.have[index]:  # else it is fetched again
                self._unreadable.add(index)
            if peer.fast:
                _reject(peer, index, begin, length, block)
            else:
                peer.close("the data to serve cannot be read")
            return
        if gap:
            segments.append(zeros(gap))
        if length > gap:
            self._read_ahead(peer, index, begin, begin + length - gap)
        if block == BLOCK:
            peer.stream.send_blocks(index, begin, length, segments)
        else:
            peer.stream.send_block(index, begin, length, segments)

    def _read_ahead(self, peer: PeerConnection, index: int, begin: int, end: int) -> None:
        """Whoever asks for a block of a piece asks for the rest: the disk begins while others are being sent.

        Not for long, where a peer does not: blocks here and there are not to keep a disk busy with what nobody reads.
        """
        piece, first, last, sum_ahead = self._ahead.get(peer.number, (-1, 0, 0, 0))
        if piece == index and first <= begin and end <= last:
            return
        last = max(end, min(begin + AHEAD, self._geometry.piece_size(index)))
        if sum_ahead + last - begin > peer.stream.payload_sent + UNREAD:
            last = end
        self._ahead[peer.number] = (index, begin, last, sum_ahead + last - begin)
        spans = self._layout.spans(index, begin, last - begin)
        if len(spans) <= FEW:
            self._context.served.read_ahead(self._layout, spans)

    def _impossible(self, peer: PeerConnection, index: int, begin: int, length: int) -> None:
        peer.close(f"it asked for bytes {begin}+{length} of piece {index}, which do not exist")

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
        self._ahead.pop(peer.number, None)
        self._granting.peer_left(peer, self._context.loop.time())
        for plan in self._plans:
            plan.peer_left(peer)

    def handle_bitfield(self, peer: PeerConnection, have: Bitfield, now: float) -> None:
        """A peer says what it has."""
        for plan in self._plans:
            plan.handle_bitfield(peer, have, now)
        # While the swarm lacks pieces a seed does not send others for nothing, the same ones to a whole network.
        if self._suggesting is None or not self._suggesting.needed:
            self._granting.grant(peer, have, self.offered, now)

    def handle_have(self, peer: PeerConnection, index: int, now: float) -> None:
        """A peer has one piece more."""
        for plan in self._plans:
            plan.handle_have(peer, index, now)

    def tick(self, now: float) -> None:
        """Once a second."""
        for plan in self._plans:
            plan.tick(now)

    def uploaded(self, peers: list[PeerConnection]) -> int:
        """Payload bytes sent so far."""
        return self._uploaded_gone + sum(peer.stream.payload_sent for peer in peers)

    def close(self) -> None:
        self._context.served.forget(self._layout.torrent)


def _look(segments: list[Segment], *, fetching: bool) -> None:
    """Once for each piece that a peer asks for: OSError where a file has become too short.

    And where it has been removed while the torrent is `fetching`: that it can still be read is no use for who wants it.
    """
    for _, fd, offset, length in segments:
        if fd < 0:
            continue
        status = os.fstat(fd)
        if status.st_size < offset + length:
            raise OSError(EIO, "the file has become shorter")
        if fetching and not status.st_nlink:
            raise FileNotFoundError(ENOENT, os.strerror(ENOENT))


def _reject(peer: PeerConnection, index: int, begin: int, length: int, block: int) -> None:
    end = begin + length
    for at in range(begin, end, block):
        peer.reject(index, at, min(block, end - at))
