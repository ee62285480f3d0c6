"""UDP tracker datagrams (BEP 15, options of BEP 41), both ways. No socket, no clock: see udp_exchange for the order.

Requests are made of a header (connection id, action, transaction id) and a body; answers of a header (action,
transaction id) and a body. The functions here deal with bodies; `Exchanges` puts the headers on and takes them off.
Datagrams from outside are hostile: every length is checked before a byte is looked at, and what follows the last field
known is ignored, as BEP 15 asks.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Sequence

from btfast.discovery.announce import (
    LONGEST_INTERVAL,
    MAX_PEERS,
    SHORTEST_INTERVAL,
    AnnounceRequest,
    AnnounceResponse,
    ScrapedSwarm,
    printable,
    safe_url,
)
from btfast.errors import InputError, RemoteError
from btfast.metainfo.addresses import decode_compact

PROTOCOL_ID = (0x41727101980).to_bytes(8, "big")
CONNECT, ANNOUNCE, SCRAPE, ERROR = 0, 1, 2, 3
EVENTS = {None: 0, "completed": 1, "started": 2, "stopped": 3, "paused": 0}  # BEP 15 has none for BEP 21's

MAX_SCRAPED = 74  # torrents in one scrape: more do not fit one packet
MAX_URL_DATA = 4 * 255
MOST_NUMWANT_V6 = 75  # 18 bytes each: more would come in fragments, which many routers drop

HEADER = struct.Struct("!8sII")  # connection id, action, transaction id
REPLY = struct.Struct("!II")  # action, transaction id
ANNOUNCE_BODY = struct.Struct("!20s20sQQQIIIiH")
ANNOUNCE_REPLY = struct.Struct("!III")  # interval, leechers, seeders
SCRAPE_ENTRY = struct.Struct("!III")  # seeders, completed, leechers

END_OF_OPTIONS, NOP, URL_DATA = 0, 1, 2

_URL = re.compile(
    r"udp://(?:[^@/?#]*@)?(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]{1,253})):([0-9]{1,5})((?:[/?].*)?)", re.IGNORECASE
)
_HEX = re.compile(r"[0-9A-Fa-f]{1,16}")
_MOST = (1 << 63) - 1


def parse_url(url: str, what: str) -> tuple[str, int, bytes]:
    """Host, port, and path with query of a udp:// URL. InputError when it is none; `what` begins its message."""
    match = _URL.fullmatch(safe_url(url).partition("#")[0])
    port = int(match[3]) if match is not None else 0
    if match is None or not 0 < port < 65536:
        raise InputError(f"{what}: not a usable udp address: it is written udp://host:port", what=what)
    return match[1] or match[2], port, match[4].encode("ascii")


def announce_body(request: AnnounceRequest, url_data: bytes = b"", *, v6: bool = False) -> bytes:
    """What follows the header of an announce; `url_data` is the path and query of the tracker's URL (BEP 41)."""
    numwant = min(request.numwant, MOST_NUMWANT_V6) if v6 else request.numwant
    body = ANNOUNCE_BODY.pack(
        request.info_hash,
        request.peer_id,
        min(request.downloaded, _MOST),
        min(request.left, _MOST),
        min(request.uploaded, _MOST),
        EVENTS.get(request.event, 0),
        0,
        _key(request.key),
        numwant,
        request.port,
    )
    if not url_data:
        return body
    chunks = [url_data[at : at + 255] for at in range(0, min(len(url_data), MAX_URL_DATA), 255)]
    return body + b"".join(bytes((URL_DATA, len(chunk))) + chunk for chunk in chunks)


def parse_announce(body: bytes, tracker: str, *, v6: bool) -> AnnounceResponse:
    """The body of an announce's answer; `v6`: it came over IPv6, so that its addresses are of 18 bytes.

    RemoteError, beginning with `tracker`, when it is too short, as opentracker's refusal is.
    """
    if len(body) < ANNOUNCE_REPLY.size:
        raise RemoteError(
            f"{tracker}: the answer is cut short, as one to a torrent that is not registered there: check the tracker's URL",
            tracker=tracker,
        )
    interval, leechers, seeders = ANNOUNCE_REPLY.unpack_from(body)
    size = 18 if v6 else 6
    count = min((len(body) - ANNOUNCE_REPLY.size) // size, MAX_PEERS)
    peers = decode_compact(body[ANNOUNCE_REPLY.size : ANNOUNCE_REPLY.size + count * size], v6=v6)
    return AnnounceResponse(
        interval=min(max(float(interval), SHORTEST_INTERVAL), LONGEST_INTERVAL),
        peers=tuple(dict.fromkeys(peers)),
        complete=seeders,
        incomplete=leechers,
    )


def scrape_body(info_hashes: Sequence[bytes]) -> bytes:
    """What follows the header of a scrape of at most MAX_SCRAPED torrents."""
    return b"".join(info_hashes[:MAX_SCRAPED])


def parse_scrape(body: bytes, info_hashes: Sequence[bytes], tracker: str) -> dict[bytes, ScrapedSwarm]:
    """The answer to a scrape of these torrents; RemoteError when it is too short for them."""
    if len(body) < len(info_hashes) * SCRAPE_ENTRY.size:
        raise RemoteError(f"{tracker}: the answer to the scrape is cut short: try again later", tracker=tracker)
    found = {}
    for number, info_hash in enumerate(info_hashes):
        seeders, completed, leechers = SCRAPE_ENTRY.unpack_from(body, number * SCRAPE_ENTRY.size)
        found[info_hash] = ScrapedSwarm(complete=seeders, downloaded=completed, incomplete=leechers)
    return found


def parse_error(body: bytes) -> str:
    """What a tracker says in an error, one line."""
    return printable(body.rstrip(b"\0")) or "no reason given"


def url_data(options: bytes) -> bytes:
    """The URLData among the options behind an announce (BEP 41); what is cut short counts as not there."""
    found = b""
    at = 0
    while at < len(options) and options[at] != END_OF_OPTIONS:
        if options[at] == NOP:
            at += 1
            continue
        if at + 2 > len(options) or at + 2 + options[at + 1] > len(options):
            break
        if options[at] == URL_DATA:
            found += options[at + 2 : at + 2 + options[at + 1]]
        at += 2 + options[at + 1]
    return found


def _key(text: str) -> int:
    """The 32 bits that stand for us whatever our address; the same over both families and every protocol."""
    if not text:
        return 0
    return int(text, 16) & 0xFFFFFFFF if _HEX.fullmatch(text) else zlib.crc32(text.encode())
