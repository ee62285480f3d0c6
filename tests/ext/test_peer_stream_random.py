"""Random scripts of requests and cancels by us and messages by a peer, cut anywhere, against the slowest right parser."""

from __future__ import annotations

import random
import struct

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stream_harness import (
    BLOCK,
    CANARY,
    KEEP_ALIVE,
    Event,
    Pair,
    allocated,
    blocks_of,
    expand,
    have,
    message,
    piece,
    triple,
)

from btfast._arena import Arena, Slot
from btfast._peer_stream import BLOCK_EVENT, CLOSED_EVENT

LENGTHS = [3 * BLOCK + 100, 60, 2 * BLOCK, BLOCK, 700]  # of the pieces
Key = tuple[int, int, int]


class Model:
    """What a stream must do, told byte by byte, with a picture of what the slots may hold."""

    def __init__(self, memory: list[bytearray]) -> None:
        self.open: dict[Key, bool] = {}  # blocks asked for, oldest first: whether direct
        self.memory = memory
        self.buffer = b""
        self.arriving: tuple[Key, int, bytearray] | None = None  # block, 0 discarded 1 direct 2 aside, bytes so far
        self.closed = False
        self.payload = self.wasted = 0

    def request(self, index: int, begin: int, length: int, direct: bool) -> None:
        for at, n in blocks_of(begin, length):
            self.open[index, at, n] = direct

    def take_back(self, index: int, begin: int, length: int, slots: list[Slot]) -> int:
        """A cancel: what the slot holds there now must stay."""
        taken = 0
        for key in [k for k in self.open if k[0] == index and begin <= k[1] and k[1] + k[2] <= begin + length]:
            if self.open.pop(key):
                self.freeze(key, slots)
            taken += key[2]
        if self.arriving is not None:
            key, mode, _ = self.arriving
            if mode and key[0] == index and begin <= key[1] and key[1] + key[2] <= begin + length:
                if mode == 1:
                    self.freeze(key, slots)
                self.arriving = (key, 0, self.arriving[2])
                taken += key[2]
        return taken

    def freeze(self, key: Key, slots: list[Slot]) -> None:
        index, begin, length = key
        self.memory[index][begin : begin + length] = memoryview(slots[index])[begin : begin + length]

    def feed(self, data: bytes) -> list[Event]:
        self.buffer += data
        events: list[Event] = []
        while not self.closed:
            if self.arriving is not None:
                if not self._block(events):
                    break
            elif not self._message(events):
                break
        return events

    def _block(self, events: list[Event]) -> bool:
        assert self.arriving is not None
        key, mode, got = self.arriving
        index, begin, length = key
        part = self.buffer[: length - len(got)]
        self.buffer = self.buffer[len(part) :]
        if mode == 1:
            self.memory[index][begin + len(got) : begin + len(got) + len(part)] = part
        got += part
        if len(got) < length:
            return False
        self.arriving = None
        if mode == 0:
            self.wasted += length
        else:
            self.payload += length
            events.append((7, *key) if mode == 1 else (BLOCK_EVENT, index, begin, bytes(got)))
        return True

    def _message(self, events: list[Event]) -> bool:
        if len(self.buffer) < 4:
            return False
        (length,) = struct.unpack(">I", self.buffer[:4])
        if length == 0:
            self.buffer = self.buffer[4:]
            return True
        if len(self.buffer) < 5:
            return False
        kind = self.buffer[4]
        if kind == 7:
            if not 9 <= length <= 9 + 131072:
                self.closed = True
            elif len(self.buffer) >= 13:
                index, begin = struct.unpack(">II", self.buffer[5:13])
                self.buffer = self.buffer[13:]
                key = (index, begin, length - 9)
                mode = {None: 0, True: 1, False: 2}[self.open.pop(key, None)]
                self.arriving = (key, mode, bytearray())
                return True
            return False
        hashes = range(49, 49 + 32 * 576 + 1, 32)
        right = {0: [1], 1: [1], 4: [5], 5: range(1, 102), 6: [13], 16: [13], 20: range(2, 1 << 20), 21: [49], 22: hashes}
        if length not in right.get(kind, range(1, 1 << 20)):
            self.closed = True
            return False
        if len(self.buffer) < 4 + length:
            return False
        body = self.buffer[5 : 4 + length]
        self.buffer = self.buffer[4 + length :]
        if kind in (0, 1):
            events.append((kind,))
        elif kind == 4:
            events.append((4, *struct.unpack(">I", body)))
        elif kind == 5:
            events.append((5, body))
        elif kind in (6, 16):
            events.append((kind, *struct.unpack(">III", body)))
        elif kind == 20:
            events.append((20, body[0], body[1:]))
        elif kind in (21, 22):
            events.append((kind, body[:32], *struct.unpack(">IIII", body[32:48]), *([body[48:]] if kind == 22 else [])))
        return True


class Script:
    """Plays one random script and compares after every step."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.arena = Arena.create(sum(LENGTHS) // 4096 * 4096 + 4096 * (2 + len(LENGTHS)))
        self.arena.view(0, self.arena.size)[:] = bytes([CANARY]) * self.arena.size
        self.slots = [allocated(self.arena, length, 100 * i) for i, length in enumerate(LENGTHS)]
        self.model = Model([bytearray(slot) for slot in self.slots])
        self.on_the_way = b""
        self.noise = random.Random(5)

    def play(self, name: str, a: int, b: int) -> None:
        getattr(self, name)(a, b)
        if self.model.closed:
            return
        stream = self.pair.stream
        assert stream.outstanding == sum(length for _, _, length in self.model.open)
        open_blocks = expand([(7, *run) for run in stream.open_runs()])
        assert open_blocks == [(7, *key) for key in self.model.open]
        assert (stream.payload, stream.wasted) == (self.model.payload, self.model.wasted)
        self.compare_memory()

    def compare_memory(self) -> None:
        memory = bytearray(self.arena.view(0, self.arena.size))
        expected = bytearray([CANARY]) * self.arena.size
        for slot, picture in zip(self.slots, self.model.memory, strict=True):
            expected[slot.offset : slot.offset + slot.length] = picture
        unsettled = [key for key, direct in self.model.open.items() if direct]  # the peer may write here
        if self.model.arriving is not None and self.model.arriving[1] == 1:
            (index, begin, length), _, got = self.model.arriving
            unsettled.append((index, begin + len(got), length - len(got)))
        for index, begin, length in unsettled:
            at = self.slots[index].offset + begin
            memory[at : at + length] = expected[at : at + length]
        assert memory == expected

    # we

    def request(self, a: int, b: int) -> None:
        index = a % len(LENGTHS)
        parts = list(blocks_of(0, LENGTHS[index]))
        first = b % len(parts)
        run = []
        for at, n in parts[first : first + 1 + b // 8 % 3]:
            taken = (index, at, n) in self.model.open
            arriving = self.model.arriving is not None and self.model.arriving[:2] == ((index, at, n), 1)
            if taken or arriving:
                break
            run.append((at, n))
        if run:
            length = sum(n for _, n in run)
            direct = b % 5 != 0
            self.pair.stream.request(index, run[0][0], length, self.slots[index], direct=direct)
            self.model.request(index, run[0][0], length, direct)

    def cancel(self, a: int, b: int) -> None:
        index = a % len(LENGTHS)
        begin = [0, BLOCK, 2 * BLOCK, 5, b][b % 5]
        length = [BLOCK, 60, 1 << 20, 2 * BLOCK, b][a // 8 % 5]
        taken = self.model.take_back(index, begin, length, self.slots)
        assert self.pair.stream.cancel(index, begin, length, tell=b % 2 == 0) == taken

    def drop(self, a: int, b: int) -> None:
        for index, length in enumerate(LENGTHS):
            self.model.take_back(index, 0, length, self.slots)
        self.pair.stream.drop_requests()

    def flush(self, a: int, b: int) -> None:
        if self.pair.stream.flush():
            self.pair.sent()

    # the peer

    def answer(self, a: int, b: int) -> None:
        """The oldest open blocks, as most peers do."""
        for key in list(self.model.open)[: 1 + a % 4]:
            self.on_the_way += piece(key[0], key[1], self.noise.randbytes(key[2]))

    def answer_any(self, a: int, b: int) -> None:
        if self.model.open:
            index, begin, length = list(self.model.open)[a % len(self.model.open)]
            self.on_the_way += piece(index, begin, self.noise.randbytes(length))

    def unasked(self, a: int, b: int) -> None:
        length = [60, 0, BLOCK, 100, 20_000, 131072][b % 6]
        data = self.noise.randbytes(length)
        if a % 3 == 0 and self.model.open:  # payload that looks like what is expected
            index, begin, n = next(iter(self.model.open))
            data = (piece(index, begin, bytes(n))[:13] * (length // 13 + 1))[:length]
        self.on_the_way += piece(a % 7, b // 8 % 4 * BLOCK + a % 2, data)

    def say(self, a: int, b: int) -> None:
        self.on_the_way += [
            have(b),
            KEEP_ALIVE,
            message(0),
            message(1),
            message(5, bytes(b % 101)),
            triple(6, 1, b, 3),
            triple(16, 0, b, BLOCK),
            message(20, bytes(1 + b % 3000)),
            message(77, bytes(b % 3000)),
            message(21, bytes(48)),
            message(22, bytes(48 + 32 * (b % 100))),
        ][a % 11]

    def misbehave(self, a: int, b: int) -> None:
        self.on_the_way += [
            message(0, b"x"),
            message(4, b"abc"),
            message(5, bytes(102)),
            message(20),
            b"\xff\xff\xff\xff\x07",
            b"\xff\xff\xff\xff\x4d",
            struct.pack(">IB", 8, 7),
            message(22, bytes(50)),
        ][a % 8]

    def arrive(self, a: int, b: int) -> None:
        size = [1, 5, 13, 17, 1 + b % 100, 1 + b, 3 * b, 1 << 20][a % 8]
        data, self.on_the_way = self.on_the_way[:size], self.on_the_way[size:]
        if not data or self.model.closed:
            return
        events = expand(self.pair.feed(data))
        expected = self.model.feed(data)
        if self.model.closed:
            assert events[-1][0] == CLOSED_EVENT
            assert events[:-1] == expected
            assert self.pair.stream.error is not None
            self.compare_memory()
        else:
            assert events == expected


OURS = ["request", "request", "request", "cancel", "drop", "flush"]
THEIRS = ["answer", "answer", "answer", "answer_any", "unasked", "say", "say"]
STEPS = st.tuples(
    st.sampled_from([*OURS, *THEIRS, "misbehave", *["arrive"] * 10]), st.integers(0, 255), st.integers(0, 65535)
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(STEPS, min_size=10, max_size=80), st.booleans())
def test_any_script_lands_the_right_bytes_once(steps: list[tuple[str, int, int]], encrypted: bool) -> None:
    with Pair(bitfield_limit=100, encrypted=encrypted) as pair:
        script = Script(pair)
        for step in steps:
            script.play(*step)
        while script.on_the_way and not script.model.closed:
            script.play("arrive", 7, 0)
        arena = script.arena
        pair.stream.drop_requests()
    del script, pair
    assert arena.used == 0


def test_long_scripts_of_a_lively_peer() -> None:
    """Deeper than a search for small counter-examples goes: no misbehaviour, thousands of steps."""
    rng = random.Random(11)
    for number in range(6):
        with Pair(bitfield_limit=100, encrypted=number % 2 == 1) as pair:
            script = Script(pair)
            names = ["request"] * 4 + ["cancel", "flush"] + THEIRS + ["arrive"] * 10
            for _ in range(600):
                script.play(rng.choice(names), rng.randrange(256), rng.randrange(65536))
            assert script.model.payload > 0
            assert script.model.wasted > 0
