"""Scripted peers that have, or say that they have, a torrent's metadata (BEP 9)."""

from __future__ import annotations

import random
import struct

from support.scripted_peer import Gone, Link, ScriptedPeer

from btfast.metainfo.torrent import Torrent
from btfast.wire import ids, messages
from btfast.wire.extensions import decode_extended_handshake, encode_extended_handshake
from btfast.wire.ut_metadata import DATA, PIECE, REJECT, REQUEST, MetadataMessage, decode_metadata, encode_metadata

THEIR_ID = 9  # under which this peer wants to get ut_metadata


class MetadataPeer(ScriptedPeer):
    """Serves metadata and data as it should. Override `size`, `answer` or `piece` to misbehave."""

    @property
    def info(self) -> bytes:
        return Torrent.parse(self.made.torrent).info_raw

    def size(self) -> int | None:
        return len(self.info)

    def piece(self, index: int) -> bytes:
        """What it sends for a piece."""
        return self.info[index * PIECE : (index + 1) * PIECE]

    def on_greeted(self, link: Link) -> None:
        link.send(encode_extended_handshake(m={"ut_metadata": THEIR_ID}, client="scripted", metadata_size=self.size()))
        link.send(messages.HAVE_ALL)

    def on_messages(self, link: Link, found: list[tuple[object, ...]]) -> None:
        for message in found:
            if message and message[0] == ids.EXTENDED:
                self.on_extended(link, int(str(message[1])), message[2])  # type: ignore[arg-type]
        super().on_messages(link, found)

    def on_extended(self, link: Link, number: int, body: bytes) -> None:
        if number == ids.EXT_HANDSHAKE:
            link.ours = decode_extended_handshake(body).m.get("ut_metadata", 0)  # type: ignore[attr-defined]
        elif number == THEIR_ID:
            asked = decode_metadata(body)
            if asked is not None and asked.kind == REQUEST:
                self.asked.append(asked.piece)
                self.answer(link, asked.piece)

    def answer(self, link: Link, piece: int) -> None:
        self.tell(link, MetadataMessage(DATA, piece, self.size(), self.piece(piece)))

    def tell(self, link: Link, message: MetadataMessage) -> None:
        link.send(messages.encode_extended(link.ours, encode_metadata(message)))  # type: ignore[attr-defined]

    @property
    def asked(self) -> list[int]:
        """Pieces of metadata that it was asked for, on all connections."""
        found: list[int] = self.__dict__.setdefault("_asked", [])
        return found


class WrongMetadata(MetadataPeer):
    """Of the right size, and every byte wrong."""

    def piece(self, index: int) -> bytes:
        return bytes(byte ^ 1 for byte in super().piece(index))


class OneWrongByte(MetadataPeer):
    """The last byte of the last piece is wrong."""

    def piece(self, index: int) -> bytes:
        piece = super().piece(index)
        last = (index + 1) * PIECE >= len(self.info)
        return piece[:-1] + bytes([piece[-1] ^ 1]) if last else piece


class WrongSize(MetadataPeer):
    """Says that there is more, and sends noise of that size."""

    def size(self) -> int:
        return 5 * PIECE + 1

    def piece(self, index: int) -> bytes:
        return random.randbytes(min(PIECE, self.size() - index * PIECE))


class FourGibibytes(MetadataPeer):
    """Says that the metadata has 4 GiB, and would send them."""

    def size(self) -> int:
        return 4 << 30

    def piece(self, index: int) -> bytes:
        return bytes(PIECE)


class NeverDelivers(MetadataPeer):
    """Says that it has it, and does not answer."""

    def answer(self, link: Link, piece: int) -> None:
        pass


class RejectsMetadata(MetadataPeer):
    """Says that it has it, and rejects each request."""

    def answer(self, link: Link, piece: int) -> None:
        self.tell(link, MetadataMessage(REJECT, piece))


class WithoutMetadata(MetadataPeer):
    """Has none itself: no size, and requests are rejected, as by somebody with the same magnet link."""

    def size(self) -> None:
        return None

    def answer(self, link: Link, piece: int) -> None:
        self.tell(link, MetadataMessage(REJECT, piece))


class ShortPieces(MetadataPeer):
    """Each piece is cut off."""

    def piece(self, index: int) -> bytes:
        return super().piece(index)[:-1]


class LongPieces(MetadataPeer):
    """Sends more than a piece has."""

    def piece(self, index: int) -> bytes:
        return bytes(PIECE + 1)


class Unasked(MetadataPeer):
    """Sends pieces that nobody asked for, without end."""

    def answer(self, link: Link, piece: int) -> None:
        while True:
            self.tell(link, MetadataMessage(DATA, piece + 1, self.size(), bytes(PIECE)))


class Garbled(MetadataPeer):
    """Answers with what is no bencoding."""

    def answer(self, link: Link, piece: int) -> None:
        link.send(messages.encode_extended(link.ours, b"d8:msg_type"))  # type: ignore[attr-defined]


class HangsUp(MetadataPeer):
    """Leaves when it is asked."""

    def answer(self, link: Link, piece: int) -> None:
        link.close()
        raise Gone


class HugeExtension(MetadataPeer):
    """Announces an answer of 4 GiB."""

    def answer(self, link: Link, piece: int) -> None:
        link.send(struct.pack("!IBB", 0xFFFFFFFF, ids.EXTENDED, link.ours) + bytes(1 << 18))  # type: ignore[attr-defined]
        link.drain()


class AsksUs(MetadataPeer):
    """Asks for metadata itself, again and again, and has none."""

    def size(self) -> None:
        return None

    def on_extended(self, link: Link, number: int, body: bytes) -> None:
        super().on_extended(link, number, body)
        if number == ids.EXT_HANDSHAKE:
            for piece in range(200):
                self.tell(link, MetadataMessage(REQUEST, piece))


class HavesBeforeMetadata(MetadataPeer):
    """Tells what it has in every way that there is, before the metadata."""

    def on_greeted(self, link: Link) -> None:
        link.send(messages.encode_bitfield(self.bitfield()[:-1] + b"\0"))
        link.send(encode_extended_handshake(m={"ut_metadata": THEIR_ID}, metadata_size=self.size()))
        link.send(messages.encode_haves(list(range(self.made.pieces))))
        link.send(messages.UNCHOKE)
        link.send(messages.INTERESTED)
        link.choking = False


class HaveBeyondEveryTorrent(MetadataPeer):
    """Has piece 4,294,967,295."""

    def on_greeted(self, link: Link) -> None:
        super().on_greeted(link)
        link.send(messages.encode_have(0xFFFFFFFF))
        link.drain()


class HaveBeyondThis(HavesBeforeMetadata):
    """Has a piece that this torrent has not: that shows when the metadata is there."""

    def on_greeted(self, link: Link) -> None:
        super().on_greeted(link)
        link.send(messages.encode_have(self.made.pieces + 8))
