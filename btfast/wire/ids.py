"""Message ids and reserved handshake bits (BEP 3, 4, 5, 6, 10, 52) as plain ints."""

from __future__ import annotations

from typing import Final

CHOKE: Final = 0
UNCHOKE: Final = 1
INTERESTED: Final = 2
NOT_INTERESTED: Final = 3
HAVE: Final = 4
BITFIELD: Final = 5
REQUEST: Final = 6
PIECE: Final = 7
CANCEL: Final = 8
PORT: Final = 9  # BEP 5
SUGGEST: Final = 13  # 13 to 17: BEP 6
HAVE_ALL: Final = 14
HAVE_NONE: Final = 15
REJECT: Final = 16
ALLOWED_FAST: Final = 17
EXTENDED: Final = 20  # BEP 10
HASH_REQUEST: Final = 21  # 21 to 23: BEP 52
HASHES: Final = 22
HASH_REJECT: Final = 23

# Reserved bits: (byte of the eight, mask).
RESERVED_EXTENSIONS: Final = (5, 0x10)  # BEP 10, called LTEP
RESERVED_DHT: Final = (7, 0x01)  # BEP 5
RESERVED_FAST: Final = (7, 0x04)  # BEP 6
RESERVED_V2: Final = (7, 0x10)  # BEP 52; on a torrent that is v1 only it makes libtorrent close

# Ids inside an EXTENDED message. Each side chooses the numbers that it wants to receive; these are ours.
EXT_HANDSHAKE: Final = 0
EXT_PEX: Final = 1  # ut_pex, BEP 11
EXT_METADATA: Final = 2  # ut_metadata, BEP 9
EXT_UPLOAD_ONLY: Final = 3  # upload_only, BEP 21
EXT_DONT_HAVE: Final = 7  # lt_donthave, BEP 54

REQQ_WITHOUT_LTEP: Final = 250  # requests that a peer surely queues when it says nothing (BEP 10)
REQQ_UNSAID: Final = 500  # when it speaks LTEP but leaves reqq out
