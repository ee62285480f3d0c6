"""ut_metadata requests (BEP 9) of those who came by a magnet link: answered from the .torrent, within limits."""

from __future__ import annotations

from btfast.engine.connection import PeerConnection
from btfast.engine.extended import Extended
from btfast.metainfo.torrent import Torrent
from btfast.wire.ut_metadata import DATA, PIECE, REJECT, REQUEST, MetadataMessage, decode_metadata, encode_metadata

EXTENSION = "ut_metadata"
TIMES = 3  # that one connection may have all of it
ALLOWANCE = 32  # requests besides
FLOOD = 1000  # requests beyond that before the connection ends
UNREAD = 1 << 20  # bytes that a peer has not read before it is given no more


class MetadataServing:
    """Registers with `extended`. A private torrent's metadata is for those who have it: it is neither told nor given."""

    def __init__(self, torrent: Torrent, extended: Extended) -> None:
        self._torrent = torrent
        self._extended = extended
        self._size = torrent.info_end - torrent.info_start
        self._pieces = -(-self._size // PIECE)
        if not torrent.private:
            extended.metadata_size = self._size
            extended.register(EXTENSION, self._handle)

    def _handle(self, peer: PeerConnection, body: bytes, now: float) -> None:
        message = decode_metadata(body)
        if message is None or message.kind != REQUEST:
            return  # what we asked for before we knew the torrent comes late
        peer.metadata_asked += 1
        over = peer.metadata_asked - TIMES * self._pieces - ALLOWANCE
        if over > FLOOD:
            peer.close("it floods us with requests for metadata")
        elif over > 0 or message.piece >= self._pieces or peer.stream.unsent > UNREAD:
            self._extended.send(peer, EXTENSION, encode_metadata(MetadataMessage(REJECT, message.piece)))
        else:
            begin = self._torrent.info_start + message.piece * PIECE
            data = self._torrent.raw[begin : min(begin + PIECE, self._torrent.info_end)]
            answer = MetadataMessage(DATA, message.piece, self._size, data)
            self._extended.send(peer, EXTENSION, encode_metadata(answer))
