"""Peer exchange (BEP 11): the ut_pex message as bytes and values, and what one peer may send us of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from btfast._bencode import BencodeError, decode, encode
from btfast.errors import RemoteError
from btfast.metainfo.addresses import PeerAddress, decode_compact, encode_compact

PREFERS_ENCRYPTION: Final = 0x01
SEED: Final = 0x02  # or wants nothing more (BEP 21)
UTP: Final = 0x04
HOLEPUNCH: Final = 0x08
REACHABLE: Final = 0x10  # who tells us has connected to it

MAX_BODY: Final = 64 << 10  # bytes; the fullest honest message has less than a tenth
MAX_FIRST: Final = 200  # addresses read from a peer's first message; the rest is left
MAX_LATER: Final = 100  # and from each later one: twice what BEP 11 allows
MINUTE: Final = 60.0  # seconds between two messages to one peer
MAX_A_MINUTE: Final = 6  # messages; BEP 11 allows one, and libtorrent bears as many

_NOBODY: Final = (b"", b"")


class Added(NamedTuple):
    """A peer that somebody is connected to, and its flags."""

    address: PeerAddress
    flags: int


class PexMessage(NamedTuple):
    """Who has come and who has gone since the message before."""

    added: list[Added]
    dropped: list[PeerAddress]


def encode_pex(added: Sequence[Added], dropped: Sequence[PeerAddress]) -> bytes:
    """The body of a message. The IPv4 lists are there even when they are empty: some readers expect them."""
    v4 = [peer for peer in added if ":" not in peer.address.host]
    v6 = [peer for peer in added if ":" in peer.address.host]
    gone4, gone6 = encode_compact(dropped) if dropped else _NOBODY
    body = {
        b"added": encode_compact(peer.address for peer in v4)[0],
        b"added.f": bytes(peer.flags for peer in v4),
        b"dropped": gone4,
    }
    if v6:
        body[b"added6"] = encode_compact(peer.address for peer in v6)[1]
        body[b"added6.f"] = bytes(peer.flags for peer in v6)
    if gone6:
        body[b"dropped6"] = gone6
    return encode(body)


def decode_pex(body: bytes, most: int) -> PexMessage:
    """Reads at most `most` added and as many dropped addresses; flags that do not fit count as none.

    Lists of a wrong type count as absent, and a cut entry at the end of one is left. Raises RemoteError when it is
    not a bencoded dictionary, or too large for any honest one.
    """
    if len(body) > MAX_BODY:
        raise RemoteError(f"ut_pex: {len(body)} bytes in one message: the peer is dropped", length=len(body))
    try:
        said = decode(body, strict=False, max_depth=3, max_tokens=64)
    except BencodeError as error:
        raise RemoteError(f"ut_pex: not bencoding ({error}): the peer is dropped") from None
    if not isinstance(said, dict):
        raise RemoteError("ut_pex: not a dictionary: the peer is dropped")
    added: list[Added] = []
    dropped: list[PeerAddress] = []
    for size, suffix in ((6, b""), (18, b"6")):
        whole, flags = said.get(b"added" + suffix), said.get(b"added" + suffix + b".f")
        if not isinstance(whole, bytes) or not isinstance(flags, bytes) or len(flags) != len(whole) // size:
            flags = None
        for number, entry in enumerate(_entries(whole, size, most - len(added))):
            for address in decode_compact(entry, v6=size == 18):
                added.append(Added(address, flags[number] if flags is not None else 0))
        for entry in _entries(said.get(b"dropped" + suffix), size, most - len(dropped)):
            dropped += decode_compact(entry, v6=size == 18)
    return PexMessage(added, dropped)


class PexIntake:
    """What one peer has sent so far, and whether it is too much."""

    __slots__ = ("_first", "_times")

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=MAX_A_MINUTE)
        self._first = True

    def handle_message(self, body: bytes, now: float) -> PexMessage:
        """Raises RemoteError for one that is broken, or one too many within a minute."""
        if len(self._times) == MAX_A_MINUTE and now - self._times[0] < MINUTE:
            raise RemoteError(f"ut_pex: more than {MAX_A_MINUTE} messages within a minute: the peer is dropped")
        self._times.append(now)
        message = decode_pex(body, MAX_FIRST if self._first else MAX_LATER)
        self._first = False
        return message


def _entries(value: object, size: int, most: int) -> list[bytes]:
    """The whole entries in a compact list, `most` of them at most."""
    if not isinstance(value, bytes):
        return []
    end = min(len(value) // size, max(0, most)) * size
    return [value[at : at + size] for at in range(0, end, size)]
