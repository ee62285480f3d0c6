"""The LTEP handshake (BEP 10) and the small extension bodies: upload_only (BEP 21), lt_donthave (BEP 54)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from btfast._bencode import BencodeError, decode_prefix, encode
from btfast.errors import RemoteError
from btfast.wire import ids
from btfast.wire.messages import MAX_EXTENDED, encode_extended

OUR_IDS: Final[Mapping[str, int]] = {
    "ut_pex": ids.EXT_PEX,
    "ut_metadata": ids.EXT_METADATA,
    "upload_only": ids.EXT_UPLOAD_ONLY,
    "lt_donthave": ids.EXT_DONT_HAVE,
}
OUR_REQQ: Final = 2000  # requests that we queue for one peer

_MAX_NAMES = 256  # extension names read from one handshake
_MAX_TEXT = 256  # bytes of a name or of the client's name that are kept
_MAX_REQQ = 1 << 16


class ExtendedHandshake(msgspec.Struct, frozen=True, kw_only=True):
    """What a peer said about itself. `m` maps extension names to the ids it wants to receive; 0 disables one.

    `reqq`: requests it queues. `port`: where it listens. `yourip`: our address as it sees us, 4 or 16 bytes.
    """

    m: dict[str, int] = msgspec.field(default_factory=dict)
    client: str = ""
    port: int | None = None
    reqq: int | None = None
    metadata_size: int | None = None
    upload_only: bool = False
    yourip: bytes | None = None
    ipv4: bytes | None = None
    ipv6: bytes | None = None
    encryption: bool = False


def encode_extended_handshake(
    *,
    m: Mapping[str, int] = OUR_IDS,
    client: str = "",
    port: int | None = None,
    reqq: int | None = OUR_REQQ,
    metadata_size: int | None = None,
    upload_only: bool = False,
    yourip: bytes | None = None,
    ipv4: bytes | None = None,
    ipv6: bytes | None = None,
    encryption: bool = False,
) -> bytes:
    """The whole framed message (id 20, extension id 0); what is None, empty or False is left out."""
    body: dict[str, Any] = {"m": dict(m)}
    if client:
        body["v"] = client
    if upload_only:
        body["upload_only"] = 1
    if encryption:
        body["e"] = 1
    optional = {"p": port, "reqq": reqq, "metadata_size": metadata_size, "yourip": yourip, "ipv4": ipv4, "ipv6": ipv6}
    for key, value in optional.items():
        if value is not None:
            body[key] = value
    return encode_extended(ids.EXT_HANDSHAKE, encode(body))


def decode_extended_handshake(data: bytes) -> ExtendedHandshake:
    """Reads the body after the extension id 0; keys of a wrong type or out of range count as absent.

    Raises RemoteError when it is not a bencoded dictionary within the limits, and never anything else.
    """
    if len(data) > MAX_EXTENDED:
        raise RemoteError(f"LTEP handshake: {len(data)} bytes: above {MAX_EXTENDED}: it is ignored", length=len(data))
    try:
        body, _ = decode_prefix(data, strict=False, max_depth=8, max_tokens=4096)
    except BencodeError as error:
        raise RemoteError(f"LTEP handshake: not bencoding ({error}): it is ignored") from None
    if not isinstance(body, dict):
        raise RemoteError("LTEP handshake: not a dictionary: it is ignored")
    return ExtendedHandshake(
        m=_names(body.get(b"m")),
        client=_text(body.get(b"v")),
        port=_number(body, b"p", 1, 65535),
        reqq=_number(body, b"reqq", 1, _MAX_REQQ),
        metadata_size=_number(body, b"metadata_size", 1, 1 << 40),
        upload_only=_number(body, b"upload_only", 1, 1) == 1,
        yourip=_address(body, b"yourip", (4, 16)),
        ipv4=_address(body, b"ipv4", (4,)),
        ipv6=_address(body, b"ipv6", (16,)),
        encryption=_number(body, b"e", 1, 255) is not None,
    )


def merge_names(known: Mapping[str, int], said: Mapping[str, int]) -> dict[str, int]:
    """The extension ids after another handshake: additive, 0 removes a name (BEP 10). Only of names that we speak."""
    merged = {**known, **said}
    return {name: number for name, number in merged.items() if number and name in OUR_IDS}


def encode_upload_only(upload_only: bool) -> bytes:
    """The body of upload_only (BEP 21 as libtorrent sends it): one byte, 0 or 1."""
    return b"\1" if upload_only else b"\0"


def decode_upload_only(body: bytes) -> bool:
    """Raises RemoteError."""
    if len(body) != 1:
        raise RemoteError(f"upload_only: {len(body)} bytes instead of 1: the peer is dropped", length=len(body))
    return body != b"\0"


def encode_dont_have(index: int) -> bytes:
    """The body of lt_donthave (BEP 54)."""
    return index.to_bytes(4, "big")


def decode_dont_have(body: bytes) -> int:
    """The piece index of lt_donthave (BEP 54). Raises RemoteError."""
    if len(body) != 4:
        raise RemoteError(f"lt_donthave: {len(body)} bytes instead of 4: the peer is dropped", length=len(body))
    return int.from_bytes(body, "big")


def _names(value: object) -> dict[str, int]:
    if not isinstance(value, dict):
        return {}
    names: dict[str, int] = {}
    for key, number in value.items():
        if len(names) >= _MAX_NAMES:
            break
        if isinstance(number, int) and 0 <= number <= 255 and 0 < len(key) <= _MAX_TEXT:
            names[key.decode("utf-8", "replace")] = number
    return names


def _text(value: object) -> str:
    if not isinstance(value, bytes):
        return ""
    text = value[:_MAX_TEXT].decode("utf-8", "replace")
    return text if text.isprintable() else "".join(character for character in text if character.isprintable())


def _number(body: dict[bytes, object], key: bytes, low: int, high: int) -> int | None:
    value = body.get(key)
    return value if isinstance(value, int) and low <= value <= high else None


def _address(body: dict[bytes, object], key: bytes, lengths: tuple[int, ...]) -> bytes | None:
    value = body.get(key)
    return value if isinstance(value, bytes) and len(value) in lengths else None
