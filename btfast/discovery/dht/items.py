"""BEP 44: small values that anybody may store, named by their hash, or by a public key whose owner may change them."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any, NamedTuple, Protocol

from btfast._bencode import BencodeError, decode, encode
from btfast.discovery.dht import krpc
from btfast.discovery.dht.node_id import distance
from btfast.errors import InputError, RemoteError

MAX_VALUE = 1000  # bytes, bencoded
MAX_SALT = 64
MAX_SEQ = (1 << 63) - 1
KEY_BYTES = 32
SIGNATURE_BYTES = 64
LIFE = 7200.0  # seconds; who wants it kept puts it again
MAX_ITEMS = 2000


class Signatures(Protocol):
    """Ed25519, by a library; floor 2 asks for it by this shape."""

    def verify(self, key: bytes, signature: bytes, message: bytes) -> bool: ...


class Item(NamedTuple):
    """`value`: bencoded. A mutable item has a key (32 bytes), an immutable one b""."""

    value: bytes
    key: bytes = b""
    salt: bytes = b""
    seq: int = 0
    signature: bytes = b""

    @property
    def target(self) -> bytes:
        """The 20 bytes under which it is stored."""
        return hashlib.sha1(self.key + self.salt if self.key else self.value).digest()

    @property
    def signed(self) -> bytes:
        """What the signature is of."""
        return signed_bytes(self.value, self.salt, self.seq)


class Refused(RemoteError):
    """A value that is not taken; `code` is KRPC's."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(f"DHT item: {why}", code=code)
        self.krpc_code = code
        self.why = why


def signed_bytes(value: bytes, salt: bytes, seq: int) -> bytes:
    """What the owner of a mutable item signs: `value` is bencoded."""
    head = b"4:salt%d:%b" % (len(salt), salt) if salt else b""
    return head + b"3:seqi%de1:v" % seq + value


def make_value(value: object) -> bytes:
    """A bencoded value. Raises InputError when it is too long or of a kind that bencode lacks."""
    try:
        encoded = encode(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"DHT item: {error}: give bytes, numbers, lists or dicts") from None
    if len(encoded) > MAX_VALUE:
        raise InputError(f"DHT item: {len(encoded)} bytes: {MAX_VALUE} at most are stored")
    return encoded


def decode_value(item: Item) -> Any:
    """The value itself."""
    return decode(item.value, max_depth=krpc.MAX_DEPTH, max_tokens=krpc.MAX_TOKENS)


def item_of_put(arguments: dict[bytes, Any]) -> Item:
    """What a put carries; a signature is there and not yet verified. Raises Refused."""
    value = _value_of(arguments.get(b"v"))
    key = arguments.get(b"k")
    if key is None:
        return Item(value)
    salt = arguments.get(b"salt", b"")
    if not isinstance(salt, bytes):
        raise Refused(krpc.PROTOCOL, "the salt is not a string")
    if len(salt) > MAX_SALT:
        raise Refused(krpc.SALT_TOO_BIG, f"the salt is longer than {MAX_SALT} bytes")
    return _mutable(value, key, salt, arguments)


def item_of_get(target: bytes, values: dict[bytes, Any], salt: bytes) -> Item | None:
    """What an answer to a get carries, None when it has nothing. The hash is checked, a signature is not yet.

    Raises Refused.
    """
    if values.get(b"v") is None:
        return None
    value = _value_of(values[b"v"])
    key = values.get(b"k")
    item = Item(value) if key is None else _mutable(value, key, salt, values)
    if item.target != target:
        raise Refused(krpc.GENERIC, "it is not what was asked for")
    return item


def _value_of(value: object) -> bytes:
    if value is None:
        raise Refused(krpc.PROTOCOL, "no value")
    encoded = encode(value)
    if len(encoded) > MAX_VALUE:
        raise Refused(krpc.TOO_BIG, f"the value is longer than {MAX_VALUE} bytes")
    return encoded


def _mutable(value: bytes, key: object, salt: bytes, fields: dict[bytes, Any]) -> Item:
    seq, signature = fields.get(b"seq"), fields.get(b"sig")
    if not isinstance(key, bytes) or len(key) != KEY_BYTES:
        raise Refused(krpc.PROTOCOL, f"the key is not {KEY_BYTES} bytes")
    if not isinstance(signature, bytes) or len(signature) != SIGNATURE_BYTES:
        raise Refused(krpc.BAD_SIGNATURE, f"the signature is not {SIGNATURE_BYTES} bytes")
    if not isinstance(seq, int) or not 0 <= seq <= MAX_SEQ:
        raise Refused(krpc.PROTOCOL, "the sequence number is missing or out of range")
    return Item(value, key, salt, seq, signature)


def is_canonical(data: bytes) -> bool:
    """Whether a packet is written as bencode demands: a value whose hash counts must have one form only."""
    try:
        decode(data, max_depth=krpc.MAX_DEPTH, max_tokens=krpc.MAX_TOKENS)
    except BencodeError:
        return False
    return True


class ItemStore:
    """At most MAX_ITEMS; of more, those nearest to our own id stay."""

    def __init__(self) -> None:
        self._items: OrderedDict[bytes, tuple[float, Item]] = OrderedDict()  # who was put longest ago comes first

    def __len__(self) -> int:
        return len(self._items)

    def find(self, target: bytes, now: float) -> Item | None:
        found = self._items.get(target)
        if found is None or found[0] <= now:
            return None
        return found[1]

    def check(self, item: Item, cas: object, now: float) -> None:
        """Whether an item may follow what is stored. Raises Refused."""
        stored = self.find(item.target, now) if item.key else None
        if stored is None:
            return
        if isinstance(cas, int) and cas != stored.seq:
            raise Refused(krpc.CAS_MISMATCH, f"the sequence number stored is {stored.seq}")
        if item.seq < stored.seq or (item.seq == stored.seq and item.value != stored.value):
            raise Refused(krpc.OLD_SEQ, f"sequence number {stored.seq} is stored already")

    def put(self, item: Item, own_id: bytes, now: float) -> bool:
        """Stores it for LIFE; False when there is only room for nearer ones. `check` comes before."""
        target = item.target
        if target not in self._items and len(self._items) >= MAX_ITEMS:
            self.expire(now)
            if len(self._items) >= MAX_ITEMS:
                farthest = max(self._items, key=lambda other: distance(other, own_id))
                if distance(farthest, own_id) <= distance(target, own_id):
                    return False
                del self._items[farthest]
        self._items[target] = (now + LIFE, item)
        self._items.move_to_end(target)
        return True

    def expire(self, now: float) -> None:
        """Forgets what is too old."""
        while self._items:
            target, (until, _) = next(iter(self._items.items()))
            if until > now:
                return
            del self._items[target]
