"""Drives a PeerStream over a real socket: what a peer sends, cut anywhere, against what must come out.

`Model` is the oracle: the slowest parser that could be right, over the same bytes.
"""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from btfast._arena import Arena, Slot
from btfast._peer_stream import BLOCK_EVENT, CLOSED_EVENT, HANDSHAKE_EVENT, INFO_HASH_EVENT, PeerStream
from btfast._rc4 import Rc4

BLOCK = 16384
CANARY = 0xA5
HANDSHAKE = b"\x13BitTorrent protocol" + bytes(8) + b"h" * 20 + b"-XX0001-peerpeerpeer"

Event = tuple[object, ...]
KEEP_ALIVE = bytes(4)


def message(kind: int, body: bytes = b"") -> bytes:
    return struct.pack(">IB", 1 + len(body), kind) + body


def have(index: int) -> bytes:
    return message(4, struct.pack(">I", index))


def triple(kind: int, index: int, begin: int, length: int) -> bytes:
    return message(kind, struct.pack(">III", index, begin, length))


def piece(index: int, begin: int, data: bytes) -> bytes:
    return message(7, struct.pack(">II", index, begin) + data)


def content(index: int, begin: int, length: int) -> bytes:
    """The right bytes of that place: any two places differ."""
    return random.Random(index << 40 | begin).randbytes(length)


def block(index: int, begin: int, length: int = BLOCK) -> bytes:
    return piece(index, begin, content(index, begin, length))


def blocks_of(begin: int, length: int) -> Iterator[tuple[int, int]]:
    for at in range(begin, begin + length, BLOCK):
        yield at, min(BLOCK, begin + length - at)


def expand(events: Iterable[Event]) -> list[Event]:
    """Runs of blocks as single blocks: how they are gathered into runs depends on the cuts."""
    found: list[Event] = []
    for event in events:
        if event[0] == 7:
            _, index, begin, length = event
            assert isinstance(begin, int)
            assert isinstance(length, int)
            found += [(7, index, at, n) for at, n in blocks_of(begin, length)]
        else:
            found.append(event)
    return found


def allocated(arena: Arena, length: int, file_offset: int = 0) -> Slot:
    slot = arena.allocate(length, file_offset)
    assert slot is not None
    return slot


class Request(NamedTuple):
    index: int
    begin: int
    length: int
    direct: bool = True


class Pair:
    """A PeerStream and the peer's end of its socket. `encrypted`: both speak RC4, and nobody else notices."""

    def __init__(
        self, *, tcp: bool = False, bitfield_limit: int = 1 << 21, handshake: bool = True, encrypted: bool = False
    ) -> None:
        if tcp:
            with socket.create_server(("127.0.0.1", 0)) as server:
                self.peer = socket.create_connection(server.getsockname())
                self.ours, _ = server.accept()
        else:
            self.ours, self.peer = socket.socketpair()
        self.ours.setblocking(False)
        self.peer.settimeout(60)
        self.stream = PeerStream(self.ours.fileno(), bitfield_limit=bitfield_limit)
        self.fed = 0
        self._outward = self._inward = None
        if encrypted:
            self.stream.encrypt(Rc4(b"to us"), Rc4(b"from us"))
            self._outward, self._inward = Rc4(b"to us"), Rc4(b"from us")
        if handshake:
            assert self.feed(HANDSHAKE) == [(INFO_HASH_EVENT, HANDSHAKE[:48]), (HANDSHAKE_EVENT, HANDSHAKE)]

    def feed(self, data: bytes, most: int = 1 << 20) -> list[Event]:
        """Sends `data`, in one go if the socket's buffer takes it, and lets the stream read all of it, `most` a wake-up."""
        events: list[Event] = []
        rest = memoryview(data if self._outward is None else self._outward.crypt(data))
        while rest:
            self.peer.setblocking(False)
            sent = self.peer.send(rest)
            self.peer.settimeout(60)
            rest = rest[sent:]
            self.fed += sent
            while self.stream.received < self.fed and self.stream.error is None:
                before = self.stream.received
                events += self.stream.handle_readable(most)
                assert self.stream.received <= before + most
            if self.stream.error is not None:
                break
        return events

    def feed_cut(self, data: bytes, sizes: Iterable[int]) -> list[Event]:
        events: list[Event] = []
        at = 0
        for size in sizes:
            events += self.feed(data[at : at + size])
            at += size
            if at >= len(data) or self.stream.error is not None:
                break
        return events

    def read(self, size: int) -> bytes:
        """At most so many bytes of what the stream has sent."""
        found = self.peer.recv(size)
        return found if self._inward is None else self._inward.crypt(found)

    def sent(self) -> bytes:
        """What the stream has sent and the peer not yet read."""
        self.peer.setblocking(False)
        found = b""
        try:
            while chunk := self.read(1 << 20):
                found += chunk
        except BlockingIOError:
            pass
        self.peer.settimeout(60)
        return found

    def close(self) -> None:
        self.ours.close()
        self.peer.close()

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def cuts(length: int, *, every: int = 3000, rng_seed: int = 1) -> Iterator[tuple[str, Sequence[int]]]:
    """Ways to cut `length` bytes: whole, every split point where that is not too many, byte by byte, at random."""
    yield "whole", [length]
    if length <= every:
        yield "bytes", [1] * length
        for at in range(1, length):
            yield f"at {at}", [at, length - at]
    rng = random.Random(rng_seed)
    for number in range(12):
        sizes: list[int] = []
        while sum(sizes) < length:
            sizes.append(rng.choice([rng.randint(1, 30), rng.randint(1, 3000), rng.randint(1, 60000)]))
        yield f"random {number}", sizes


class Case(NamedTuple):
    """`slots`: bytes of each piece; `requests` are made before `data` comes; `lands`: blocks that must be in place."""

    name: str
    slots: dict[int, int]
    requests: list[Request]
    data: bytes
    events: list[Event]
    lands: list[tuple[int, int, int]]
    closes: bool = False
    bitfield_limit: int = 1 << 21
    before: Callable[[PeerStream], object] | None = None


def run_case(case: Case) -> None:
    """The case whole, byte by byte, at every split, at random splits, and with trailing bytes of another message."""
    trailing = have(77)
    for name, sizes in cuts(len(case.data)):
        _run_once(case, name, sizes, b"", b"")
        if not name.startswith("at"):
            _run_once(case, f"{name}, encrypted", sizes, b"", b"", encrypted=True)
    if not case.closes:
        for at in range(1, len(trailing)):
            _run_once(case, f"trailing {at}", [len(case.data) + at], trailing[:at], trailing[at:])


def _run_once(
    case: Case, name: str, sizes: Sequence[int], trailing: bytes, rest: bytes, *, encrypted: bool = False
) -> None:
    total = sum((length + 4095) // 4096 * 4096 for length in case.slots.values()) + 4096
    arena = Arena.create(total)
    arena.view(0, total)[:] = bytes([CANARY]) * total
    slots = {index: allocated(arena, length) for index, length in case.slots.items()}
    with Pair(bitfield_limit=case.bitfield_limit, encrypted=encrypted) as pair:
        slot = None
        for request in case.requests:
            slot = slots[request.index]
            pair.stream.request(request.index, request.begin, request.length, slot, direct=request.direct)
        if case.before is not None:
            case.before(pair.stream)
        asked = pair.stream.outstanding
        events = expand(pair.feed_cut(case.data + trailing, [*sizes, 1 << 30]))
        if case.closes:
            assert events[-1][0] == CLOSED_EVENT, name
            assert events[-1][1] == pair.stream.error, name
            assert events[:-1] == case.events, name
            assert pair.stream.handle_readable() == [], name
        else:
            assert events == case.events, name
            assert pair.stream.error is None, name
            assert pair.stream.received == 68 + len(case.data) + len(trailing), name
        answered = sum(n for _, _, n in case.lands) + sum(len(e[3]) for e in events if e[0] == BLOCK_EVENT)
        assert pair.stream.payload == answered, name
        if not case.closes:
            assert pair.stream.outstanding == asked - answered, name
        if rest:
            assert pair.feed(rest) == [(4, 77)], name
        _check_slots(case, arena, slots, name)
    pair = slots = slot = None  # type: ignore[assignment]
    assert arena.used == 0, f"{name}: a slot is still held"


def _check_slots(case: Case, arena: Arena, slots: dict[int, Slot], name: str) -> None:
    memory = bytearray(arena.view(0, arena.size))
    for index, begin, length in case.lands:
        at = slots[index].offset + begin
        assert memory[at : at + length] == content(index, begin, length), f"{name}: block {index}+{begin}"
    for request in case.requests:
        if request.direct:  # the peer may write here, also what turns out to be something else
            at = slots[request.index].offset + request.begin
            memory[at : at + request.length] = bytes([CANARY]) * request.length
    assert memory == bytes([CANARY]) * arena.size, f"{name}: written outside of what was asked for"
