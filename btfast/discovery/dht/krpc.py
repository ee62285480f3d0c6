"""KRPC messages as bytes and back (BEP 5, 32, 43), and the lists of nodes and peers in them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from btfast._bencode import BencodeError
from btfast._bencode import decode as _decode
from btfast._bencode import encode as _encode
from btfast.discovery.dht.endpoints import V4_BYTES, V6_BYTES, Endpoint
from btfast.discovery.dht.node_id import ID_BYTES
from btfast.errors import RemoteError

MAX_PACKET = 4096  # bytes that are looked at; what honest nodes send is below 1,500
MAX_DEPTH = 10
MAX_TOKENS = 500
MAX_TRANSACTION = 32  # bytes of a transaction id, which is echoed
MAX_TOKEN = 64  # bytes of a token that somebody gives us
MAX_NODES = 32  # of one reply that are looked at
MAX_VALUES = 200

GENERIC, SERVER, PROTOCOL, UNKNOWN_METHOD = 201, 202, 203, 204
TOO_BIG, BAD_SIGNATURE, SALT_TOO_BIG, CAS_MISMATCH, OLD_SEQ = 205, 206, 207, 301, 302  # BEP 44


class Contact(NamedTuple):
    """A node: who, and where."""

    node_id: bytes
    endpoint: Endpoint


class Query(NamedTuple):
    """`arguments` has a valid `id`; nothing else in it has been looked at."""

    transaction: bytes
    method: bytes
    arguments: dict[bytes, Any]
    read_only: bool


class Reply(NamedTuple):
    """`values` has a valid `id`. `ip`: where the sender sees us, as an endpoint (BEP 42)."""

    transaction: bytes
    values: dict[bytes, Any]
    ip: Endpoint | None


class Failure(NamedTuple):
    """An error reply."""

    transaction: bytes
    code: int
    message: str


Message = Query | Reply | Failure


def decode(data: bytes) -> Message:
    """Reads one datagram. Raises RemoteError."""
    if len(data) > MAX_PACKET:
        raise RemoteError(f"DHT packet: {len(data)} bytes: longer than any node sends")
    try:
        top = _decode(data, strict=False, max_depth=MAX_DEPTH, max_tokens=MAX_TOKENS)
    except BencodeError as error:
        raise RemoteError(f"DHT packet: {error}") from None
    if not isinstance(top, dict):
        raise RemoteError("DHT packet: not a dict")
    transaction = top.get(b"t")
    if not isinstance(transaction, bytes) or not 0 < len(transaction) <= MAX_TRANSACTION:
        raise RemoteError("DHT packet: no transaction id")
    kind = top.get(b"y")
    if kind == b"q":
        method = top.get(b"q")
        if not isinstance(method, bytes):
            raise RemoteError("DHT query: no method")
        return Query(transaction, method, _with_id(top.get(b"a")), top.get(b"ro") == 1)
    if kind == b"r":
        ip = top.get(b"ip")
        seen = ip if isinstance(ip, bytes) and len(ip) in (V4_BYTES, V6_BYTES) else None
        return Reply(transaction, _with_id(top.get(b"r")), seen)
    if kind == b"e":
        return Failure(transaction, *_error_of(top.get(b"e")))
    raise RemoteError("DHT packet: neither query, reply nor error")


def _with_id(body: object) -> dict[bytes, Any]:
    if not isinstance(body, dict):
        raise RemoteError("DHT packet: no body")
    node_id = body.get(b"id")
    if not isinstance(node_id, bytes) or len(node_id) != ID_BYTES:
        raise RemoteError("DHT packet: no node id of 20 bytes")
    return body


def _error_of(body: object) -> tuple[int, str]:
    if isinstance(body, list) and len(body) >= 2 and isinstance(body[0], int) and isinstance(body[1], bytes):
        return body[0], body[1][:200].decode("utf-8", "replace")
    return GENERIC, ""


def encode_query(
    transaction: bytes, method: bytes, arguments: dict[bytes, Any], *, version: bytes, read_only: bool = False
) -> bytes:
    """A query of ours."""
    top: dict[bytes, Any] = {b"a": arguments, b"q": method, b"t": transaction, b"v": version, b"y": b"q"}
    if read_only:
        top[b"ro"] = 1
    return _encode(top)


def encode_reply(transaction: bytes, values: dict[bytes, Any], *, version: bytes, ip: Endpoint) -> bytes:
    """An answer of ours; `ip`: where it goes to."""
    return _encode({b"ip": ip, b"r": values, b"t": transaction, b"v": version, b"y": b"r"})


def encode_failure(transaction: bytes, code: int, message: str, *, version: bytes) -> bytes:
    """An error of ours."""
    return _encode({b"e": [code, message.encode()], b"t": transaction, b"v": version, b"y": b"e"})


def decode_nodes(values: dict[bytes, Any], *, v6: bool) -> list[Contact]:
    """The first MAX_NODES of `nodes`, with `v6` of `nodes6`. Empty when the list is damaged."""
    packed = values.get(b"nodes6" if v6 else b"nodes")
    size = ID_BYTES + (V6_BYTES if v6 else V4_BYTES)
    if not isinstance(packed, bytes) or len(packed) % size:
        return []
    return [
        Contact(packed[at : at + ID_BYTES], packed[at + ID_BYTES : at + size])
        for at in range(0, min(len(packed), MAX_NODES * size), size)
    ]


def encode_nodes(contacts: Iterable[Contact]) -> bytes:
    """26 or 38 bytes each."""
    return b"".join([contact.node_id + contact.endpoint for contact in contacts])


def decode_values(values: dict[bytes, Any]) -> list[Endpoint]:
    """The first MAX_VALUES of `values`, both families (BEP 32); what is no endpoint is left out."""
    listed = values.get(b"values")
    if not isinstance(listed, list):
        return []
    return [
        value for value in listed[:MAX_VALUES] if isinstance(value, bytes) and len(value) in (V4_BYTES, V6_BYTES)
    ]


def decode_token(values: dict[bytes, Any]) -> bytes | None:
    """What has to be shown to be allowed to announce."""
    token = values.get(b"token")
    return token if isinstance(token, bytes) and 0 < len(token) <= MAX_TOKEN else None


def decode_target(arguments: dict[bytes, Any], key: bytes) -> bytes | None:
    """The 20 bytes under `key`."""
    target = arguments.get(key)
    return target if isinstance(target, bytes) and len(target) == ID_BYTES else None


def decode_want(arguments: dict[bytes, Any], *, v6: bool) -> tuple[bool, bool]:
    """Whether IPv4 nodes and IPv6 nodes are asked for; without `want` it is the family of the packet (BEP 32)."""
    want = arguments.get(b"want")
    if isinstance(want, list):
        n4, n6 = b"n4" in want, b"n6" in want
        if n4 or n6:
            return n4, n6
    return not v6, v6
