"""What a node keeps from one run to the next: where it is, its ids, and nodes that answered."""

from __future__ import annotations

from typing import Any, NamedTuple

from btfast._bencode import BencodeError, decode, encode
from btfast.discovery.dht import krpc
from btfast.discovery.dht.endpoints import may_speak
from btfast.discovery.dht.krpc import Contact
from btfast.discovery.dht.node_id import ID_BYTES
from btfast.errors import InputError

VERSION = 1
MAX_SAVED = 300  # nodes of a family
MAX_BYTES = 1 << 16


class SavedFamily(NamedTuple):
    """`host`: our address as others saw it, b"" when that was not known."""

    node_id: bytes = b""
    host: bytes = b""
    contacts: tuple[Contact, ...] = ()


class Saved(NamedTuple):
    """IPv4, IPv6."""

    v4: SavedFamily = SavedFamily()
    v6: SavedFamily = SavedFamily()


def encode_state(saved: Saved) -> bytes:
    """The bytes of a state file."""
    top: dict[bytes, Any] = {b"v": VERSION}
    for name, family in ((b"4", saved.v4), (b"6", saved.v6)):
        top[b"id" + name] = family.node_id
        top[b"host" + name] = family.host
        top[b"nodes" + name] = krpc.encode_nodes(family.contacts[:MAX_SAVED])
    return encode(top)


def decode_state(data: bytes) -> Saved:
    """Raises InputError for what is no state."""
    if len(data) > MAX_BYTES:
        raise InputError(f"DHT state: {len(data)} bytes: it is damaged")
    try:
        top = decode(data, max_depth=4, max_tokens=100)
    except BencodeError as error:
        raise InputError(f"DHT state: {error}: it is damaged") from None
    if not isinstance(top, dict) or top.get(b"v") != VERSION:
        raise InputError("DHT state: written by another version")
    return Saved(_family(top, b"4", 4), _family(top, b"6", 16))


def _family(top: dict[bytes, Any], name: bytes, size: int) -> SavedFamily:
    node_id, host, nodes = top.get(b"id" + name), top.get(b"host" + name), top.get(b"nodes" + name)
    step = ID_BYTES + size + 2
    if not (isinstance(node_id, bytes) and len(node_id) in (0, ID_BYTES)):
        raise InputError("DHT state: its node id is damaged")
    if not (isinstance(host, bytes) and len(host) in (0, size)):
        raise InputError("DHT state: its address is damaged")
    if not isinstance(nodes, bytes) or len(nodes) % step:
        raise InputError("DHT state: its nodes are damaged")
    contacts = (Contact(nodes[at : at + ID_BYTES], nodes[at + ID_BYTES : at + step]) for at in range(0, len(nodes), step))
    return SavedFamily(node_id, host, tuple(contact for contact in contacts if may_speak(contact.endpoint))[:MAX_SAVED])
