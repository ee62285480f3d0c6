"""`btfast dht get` and `put`: small values in the DHT (BEP 44)."""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

from btfast.cli.text import plural
from btfast.errors import InputError, RemoteError, StorageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio

    from btfast.discovery.dht.events import Event, SearchEnded
    from btfast.discovery.dht.items import Item
    from btfast.engine.dht import Dht

NO_ANSWER_SECONDS = 15.0
KEY_DIGITS = 64  # a key is 32 bytes, as hexadecimal digits: the private one in its file, the public one where it is named


class Result(NamedTuple):
    """`printed` goes to standard output, `event` in its place with --json, `said` beside it."""

    printed: bytes
    event: dict[str, object]
    said: str


class _Found:
    """engine.dht.Listener: keeps the newest value."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.item: Item | None = None
        self.ended: asyncio.Future[SearchEnded | None] = loop.create_future()

    def dht_found(self, event: Event) -> None:
        self.item = getattr(event, "item", self.item)

    def dht_ended(self, event: SearchEnded | None) -> None:
        if not self.ended.done():
            self.ended.set_result(event)


async def _find(dht: Dht, loop: asyncio.AbstractEventLoop, target: bytes, salt: bytes) -> Item | None:
    """What is stored there, None for nothing. Raises RemoteError where no node answers."""
    import asyncio

    deadline = loop.time() + NO_ANSWER_SECONDS
    while True:
        found = _Found(loop)
        end = await found.ended if dht.find_item(target, found, salt=salt) else None
        if end is not None and end.answers:
            return found.item
        if loop.time() > deadline or dht.hopeless:
            raise RemoteError("dht: no node has answered: check the network, or name a node with --dht-bootstrap HOST:PORT")
        await asyncio.sleep(0.5)


def _salt(text: str) -> bytes:
    from btfast.discovery.dht.items import MAX_SALT

    salt = text.encode()
    if len(salt) > MAX_SALT:
        raise InputError(f"dht: --salt: {len(salt)} bytes: {MAX_SALT} at most")
    return salt


def _hexadecimal(text: str, digits: int) -> bytes | None:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        return None
    return found if len(text) == digits else None


class Get:
    """Finds a value by the 40 digits that `put` printed, or by its owner's public key and the salt."""

    def __init__(self, name: str, salt: str) -> None:
        from btfast.discovery.dht.items import Item

        self._salt = _salt(salt)
        key, target = _hexadecimal(name, KEY_DIGITS), _hexadecimal(name, 40)
        if key is None and target is None:
            raise InputError(f"dht: get {name!r}: give the 40 hexadecimal digits of a value, or the 64 of its owner's public key")
        self._target = target or Item(b"", key or b"", self._salt).target

    async def run(self, dht: Dht, loop: asyncio.AbstractEventLoop) -> Result:
        from btfast.discovery.dht.items import decode_value

        item = await _find(dht, loop, self._target, self._salt)
        if item is None:
            raise RemoteError(f"dht: nobody has a value of {self._target.hex()}: it may have expired, or has another salt")
        value = decode_value(item)
        printed = value if isinstance(value, bytes) else item.value
        event: dict[str, object] = {"event": "dht_item", "target": self._target.hex(), "value": item.value.hex()}
        if item.key:
            event |= {"key": item.key.hex(), "salt": item.salt.decode(errors="replace"), "seq": item.seq}
        what = f"version {item.seq} of {item.key.hex()}" if item.key else self._target.hex()
        return Result(printed, event, f"{len(printed)} bytes, {what}")


class Put:
    """Stores bytes; with a key they can be changed later, by putting others with the same key and salt."""

    def __init__(self, value: str, salt: str, key_file: str | None) -> None:
        from btfast.discovery.dht.items import MAX_VALUE, make_value

        data = sys.stdin.buffer.read(MAX_VALUE + 1) if value == "-" else os.fsencode(value)
        self._value = make_value(data)
        self._salt = _salt(salt)
        if self._salt and key_file is None:
            raise InputError("dht: put --salt: only values with a key have one: give --key FILE as well")
        self._seed = _private_key(key_file) if key_file is not None else b""

    async def run(self, dht: Dht, loop: asyncio.AbstractEventLoop) -> Result:
        from btfast.discovery.dht.items import Item
        from btfast.discovery.dht.signatures import public_key, sign

        item = Item(self._value)
        if self._seed:
            item = Item(self._value, public_key(self._seed), self._salt)
        before = await _find(dht, loop, item.target, self._salt)
        if self._seed:
            item = item._replace(seq=before.seq + 1 if before is not None else 1)
            item = item._replace(signature=sign(self._seed, item.signed))
        found = _Found(loop)
        end = await found.ended if dht.put_item(item, found) else None
        if end is None or not end.stored:
            raise RemoteError("dht: no node has taken the value: try again later")
        event: dict[str, object] = {"event": "dht_stored", "target": item.target.hex(), "nodes": end.stored}
        if item.key:
            event |= {"key": item.key.hex(), "seq": item.seq}
        name = item.key.hex() if item.key else item.target.hex()
        return Result(name.encode() + b"\n", event, f"stored at {plural(end.stored, 'node')} for about two hours")


def _private_key(path: str) -> bytes:
    """Of the file, which is made when it is not there. Raises InputError and StorageError."""
    try:
        with open(path, encoding="ascii") as file:
            key = _hexadecimal(file.read(KEY_DIGITS + 2).strip(), KEY_DIGITS)
    except FileNotFoundError:
        return _new_key(path)
    except UnicodeDecodeError:
        key = None
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}: give another --key", path=path) from None
    if key is None:
        raise InputError(f"{path}: not a key: a key file has {KEY_DIGITS} hexadecimal digits")
    return key


def _new_key(path: str) -> bytes:
    key = os.urandom(KEY_DIGITS // 2)
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(key.hex() + "\n")
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}: give another --key", path=path) from None
    return key
