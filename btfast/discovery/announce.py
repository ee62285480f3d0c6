"""HTTP tracker announces as bytes: a request becomes a URL, an answer becomes a value. No socket, no clock.

BEP 3 (announce), 7 (IPv6), 23 (compact peers), 24 (external ip), 31 (retry in), 48 (scrape). The answer comes from
outside and is hostile until read: sizes are cut before anything is built from them, text loses its control
characters, and numbers are clamped. Real trackers are sloppy, so what is harmless is taken: numbers as strings, an
empty dict where a list belongs (PHP), unsorted keys, bytes after the end.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal

import msgspec

from btfast._bencode import BencodeError, decode
from btfast.errors import RemoteError
from btfast.metainfo.addresses import PeerAddress, decode_compact

DEFAULT_INTERVAL = 1800.0
SHORTEST_INTERVAL = 5.0
LONGEST_INTERVAL = 6 * 3600.0
LONGEST_RETRY = 24 * 3600.0

MAX_PEERS = 4096
MAX_HOSTNAMES = 32
MAX_TEXT = 200
MAX_TRACKER_ID = 1024
MAX_TOKENS = 200_000
MAX_DEPTH = 10

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_QUOTED = tuple(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in range(256))
_UNSAFE_IN_URL = re.compile(r"[^!-~]+")
_NOT_PRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+")
_HOSTNAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_DIGITS = re.compile(rb"[0-9]{1,18}")


class AnnounceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a tracker is told (BEP 3). Sizes in bytes; `left` of an unknown size is a large positive number, never 0."""

    info_hash: bytes
    peer_id: bytes
    port: int
    left: int
    uploaded: int = 0
    downloaded: int = 0
    event: str | None = None
    numwant: int = 200
    key: str = ""
    encryption: Literal["off", "allow", "require"] = "off"
    trackerid: bytes | None = None
    ipv4: str | None = None
    ipv6: str | None = None


class AnnounceResponse(msgspec.Struct, frozen=True, kw_only=True):
    """What a tracker answered. Intervals and `retry_in` in seconds; `retry_in` is infinite for BEP 31's "never"."""

    interval: float = DEFAULT_INTERVAL
    min_interval: float | None = None
    peers: tuple[PeerAddress, ...] = ()
    hostnames: tuple[tuple[str, int], ...] = ()
    tracker_id: bytes | None = None
    warning_message: str | None = None
    failure_reason: str | None = None
    retry_in: float | None = None
    external_ip: str | None = None
    complete: int | None = None
    incomplete: int | None = None
    downloaded: int | None = None


class ScrapedSwarm(msgspec.Struct, frozen=True, kw_only=True):
    """How a swarm stands (BEP 48): seeds, downloads that were ever completed, leechers; None where it was not said."""

    complete: int | None = None
    downloaded: int | None = None
    incomplete: int | None = None


@lru_cache(maxsize=1024)  # a torrent's announces repeat all but their figures
def quote(data: bytes) -> str:
    """Percent-encode raw bytes for a query (RFC 3986's unreserved characters stay)."""
    return "".join([_QUOTED[byte] for byte in data])


def safe_url(url: str) -> str:
    """The URL with everything but visible ASCII percent-encoded as UTF-8, so that no torrent can write header lines."""
    url = url.strip()
    if _UNSAFE_IN_URL.search(url):
        url = _UNSAFE_IN_URL.sub(lambda match: quote(match[0].encode("utf-8", "surrogatepass")), url)
    return url


@lru_cache(maxsize=1024)  # many torrents have the same few
def tracker_name(url: str) -> str:
    """What to call a tracker in messages: scheme, host and port. Paths and queries hold passkeys, so they are left
    out.
    """
    scheme, _, rest = safe_url(url).partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    return f"{scheme}://{authority}"[:MAX_TEXT] if authority else "tracker"


@lru_cache(maxsize=1024)
def _announce_base(url: str) -> str:
    """The URL up to the first key of an announce."""
    base = safe_url(url).partition("#")[0]
    return base + ("?" if "?" not in base else "" if base[-1] in "?&" else "&")


def announce_url(base_url: str, request: AnnounceRequest) -> str:
    """The URL to GET for this announce; the query that the tracker's URL already has is kept in front (BEP 3)."""
    parts = [
        f"{_announce_base(base_url)}info_hash={quote(request.info_hash)}&peer_id={quote(request.peer_id)}&port={request.port}"
        f"&uploaded={request.uploaded}&downloaded={request.downloaded}&left={request.left}"
        f"&compact=1&no_peer_id=1&numwant={request.numwant}"
    ]
    if request.key:
        parts.append(f"&key={quote(request.key.encode())}")
    if request.encryption != "off":
        parts.append("&supportcrypto=1" if request.encryption == "allow" else "&supportcrypto=1&requirecrypto=1")
    if request.event:
        parts.append(f"&event={quote(request.event.encode())}")
    if request.trackerid is not None:
        parts.append(f"&trackerid={quote(request.trackerid)}")
    if request.ipv4:
        parts.append(f"&ipv4={quote(request.ipv4.encode())}")
    if request.ipv6:
        parts.append(f"&ipv6={quote(request.ipv6.encode())}")
    return "".join(parts)


def parse_announce(body: bytes, *, tracker: str = "tracker", own_peer_id: bytes | None = None) -> AnnounceResponse:
    """Read an announce response. A failure reason is an answer like any other: see `failure_reason`.

    `tracker` begins the message of errors; entries that carry `own_peer_id` are left out.
    Raises RemoteError, one line, for anything that is not an announce response.
    """
    answer = _decode_dict(body, tracker)
    failure = answer.get(b"failure reason")
    if failure is not None:
        return AnnounceResponse(
            failure_reason=printable(failure) or "no reason given",
            retry_in=_retry_in(answer.get(b"retry in")),
            warning_message=printable(answer.get(b"warning message")) or None,
        )
    try:
        peers, hostnames = _peers(answer.get(b"peers", b""), own_peer_id)
        if b"peers6" in answer:
            peers += _compact(answer[b"peers6"], v6=True)
    except RemoteError as error:
        raise RemoteError(f"{tracker}: bad list of peers: {_why(error)}", tracker=tracker) from None
    interval = _clamped(answer.get(b"interval"), DEFAULT_INTERVAL)
    least = _number(answer.get(b"min interval"))
    external = answer.get(b"external ip")
    tracker_id = answer.get(b"tracker id")
    return AnnounceResponse(
        interval=interval,
        min_interval=min(_clamped(least, interval), interval) if least else None,
        peers=tuple(dict.fromkeys(peers)) if len(peers) > 1 else tuple(peers),
        hostnames=tuple(hostnames),
        tracker_id=tracker_id if isinstance(tracker_id, bytes) and len(tracker_id) <= MAX_TRACKER_ID else None,
        warning_message=printable(answer.get(b"warning message")) or None,
        external_ip=_packed_ip(external) if isinstance(external, bytes) else None,
        complete=_number(answer.get(b"complete")),
        incomplete=_number(answer.get(b"incomplete")),
        downloaded=_number(answer.get(b"downloaded")),
    )


def merged(answers: Sequence[AnnounceResponse]) -> AnnounceResponse:
    """The sum of what one tracker said over several address families; one that refused counts only when all did."""
    good = [answer for answer in answers if answer.failure_reason is None] or list(answers[:1])
    first, *others = good
    for other in others:
        first = msgspec.structs.replace(
            first,
            peers=tuple(dict.fromkeys(first.peers + other.peers)),
            hostnames=tuple(dict.fromkeys(first.hostnames + other.hostnames)),
            interval=max(first.interval, other.interval),
            min_interval=max(first.min_interval or 0.0, other.min_interval or 0.0) or None,
            tracker_id=first.tracker_id if first.tracker_id is not None else other.tracker_id,
            warning_message=first.warning_message or other.warning_message,
            external_ip=first.external_ip or other.external_ip,
        )
    return first


def scrape_url(announce: str) -> str | None:
    """Where a tracker is scraped, None where BEP 48's rule gives no such place: `announce` begins the last part of
    the path, and becomes `scrape`.
    """
    path, question, query = safe_url(announce).partition("#")[0].partition("?")
    base, slash, name = path.rpartition("/")
    if not slash or not name.startswith("announce"):
        return None
    return f"{base}/scrape{name[len('announce') :]}{question}{query}"


def scrape_query(url: str, info_hashes: Sequence[bytes]) -> str:
    """The URL to GET for a scrape of these torrents."""
    joint = "?" if "?" not in url else "" if url[-1] in "?&" else "&"
    return f"{url}{joint}{'&'.join([f'info_hash={quote(info_hash)}' for info_hash in info_hashes])}"


def parse_scrape(body: bytes, info_hashes: Sequence[bytes], *, tracker: str = "tracker") -> dict[bytes, ScrapedSwarm]:
    """Read a scrape response (BEP 48); torrents that the tracker does not know are left out. Raises RemoteError."""
    answer = _decode_dict(body, tracker)
    failure = answer.get(b"failure reason")
    if failure is not None:
        raise RemoteError(f"{tracker}: tracker says: {printable(failure) or 'no reason given'}", tracker=tracker)
    files = answer.get(b"files")
    if not isinstance(files, dict):
        raise RemoteError(f"{tracker}: the answer is not a scrape response: check the tracker's URL", tracker=tracker)
    if len(files) == 1 and len(info_hashes) == 1:
        files = {info_hashes[0]: next(iter(files.values()))}  # bittorrent-tracker mangles the hashes
    return {
        info_hash: ScrapedSwarm(
            complete=_number(swarm.get(b"complete")),
            downloaded=_number(swarm.get(b"downloaded")),
            incomplete=_number(swarm.get(b"incomplete")),
        )
        for info_hash in info_hashes
        if isinstance(swarm := files.get(info_hash), dict)
    }


def printable(value: object) -> str:
    """Text from outside as one short line without control characters; "" for what is not text."""
    if not isinstance(value, bytes):
        return ""
    text = value[: MAX_TEXT * 4].decode("utf-8", "replace")
    return _NOT_PRINTABLE.sub(" ", text).strip()[:MAX_TEXT]


def _decode_dict(body: bytes, tracker: str) -> dict[bytes, object]:
    if not body.startswith(b"d"):
        raise RemoteError(
            f"{tracker}: {_not_bencode(body)}: check the tracker's URL, or try again later", tracker=tracker
        )
    try:
        answer = decode(body, strict=False, max_depth=MAX_DEPTH, max_tokens=MAX_TOKENS)
    except BencodeError as error:
        raise RemoteError(
            f"{tracker}: the answer is broken bencode ({error}): try again later", tracker=tracker
        ) from None
    if not isinstance(answer, dict):
        raise RemoteError(f"{tracker}: the answer is not a dictionary: try again later", tracker=tracker)
    return answer


def _not_bencode(body: bytes) -> str:
    start = body[:256].lstrip().lower()
    if not body:
        return "the answer is empty"
    if start.startswith(b"<"):
        return "answered with a web page instead of an announce response"
    return "the answer is not an announce response"


def _why(error: RemoteError) -> str:
    return str(error).replace("\n", " ")[:MAX_TEXT]


def _peers(value: object, own_peer_id: bytes | None) -> tuple[list[PeerAddress], list[tuple[str, int]]]:
    if isinstance(value, bytes):
        return _compact(value, v6=False), []
    addresses: list[PeerAddress] = []
    hostnames: list[tuple[str, int]] = []
    for entry in _entries(value):
        host, port = entry.get(b"ip"), _number(entry.get(b"port"))
        if not isinstance(host, bytes) or not 0 < len(host) <= 255 or port is None or not 0 < port < 65536:
            continue
        if own_peer_id is not None and entry.get(b"peer id") == own_peer_id:
            continue
        text = host.decode("ascii", "replace")
        literal = _literal_ip(text)
        if literal is not None:
            addresses.append(PeerAddress(literal, port))
        elif len(hostnames) < MAX_HOSTNAMES and _HOSTNAME.fullmatch(text):
            hostnames.append((text, port))
    return addresses, hostnames


def _entries(value: object) -> Iterable[dict[bytes, object]]:
    if isinstance(value, list):
        return [entry for entry in value[:MAX_PEERS] if isinstance(entry, dict)]
    return []


def _compact(value: object, *, v6: bool) -> list[PeerAddress]:
    if not isinstance(value, bytes):
        return []
    size = 18 if v6 else 6
    if len(value) % size:
        raise RemoteError(f"{len(value)} bytes is not a multiple of {size}")
    return decode_compact(value[: MAX_PEERS * size], v6=v6)


def _literal_ip(text: str) -> str | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return _plain(address)


def _packed_ip(data: bytes) -> str | None:
    if len(data) not in (4, 16):
        return None
    return _plain(ipaddress.ip_address(data))


def _plain(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str | None:
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id:
            return None
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
    return str(address)


def _number(value: object) -> int | None:
    """A count that is not negative, given as an integer or, by sloppy trackers, as a string of digits."""
    if value is None:
        return None
    if isinstance(value, bytes) and _DIGITS.fullmatch(value):
        value = int(value)
    return value if isinstance(value, int) and 0 <= value < 1 << 63 else None


def _clamped(value: object, default: float) -> float:
    seconds = _number(value)
    return min(max(float(seconds), SHORTEST_INTERVAL), LONGEST_INTERVAL) if seconds else default


def _retry_in(value: object) -> float | None:
    """BEP 31: minutes, as an integer or a string, or "never"."""
    if isinstance(value, bytes) and value.strip().lower() == b"never":
        return math.inf
    minutes = _number(value)
    return min(max(60.0 * minutes, 60.0), LONGEST_RETRY) if minutes is not None else None
