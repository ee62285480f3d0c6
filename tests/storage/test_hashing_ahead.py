"""While pieces are written the next ones are hashed; each is answered for as soon as its own write has ended."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from disk_harness import Content, on_disk
from workshop import Workshop

from btfast._arena import Slot
from btfast.storage.ahead import Ahead
from btfast.storage.judging import judge_pieces
from btfast.storage.messages import MISMATCH, OK, WRITE_PIECE, encode

PIECE = 512 << 10
BATCH = 16
CONTENT = Content({"data": 40 * PIECE}, PIECE)


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    found = Workshop(24 << 20)
    found.control.sendall(encode(CONTENT.order(tmp_path, io="buffered")))
    yield found
    found.close()


class Writes:
    """What is written in the worker's process; `before(n)` runs ahead of write number n."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lengths: list[int] = []
        self.before: Callable[[int], object] = lambda number: None
        self._real = os.pwritev
        monkeypatch.setattr(os, "pwritev", self._pwritev)

    def _pwritev(self, fd: int, views: Sequence[memoryview], offset: int) -> int:
        self.before(len(self.lengths))
        self.lengths.append(self._real(fd, views, offset))
        return self.lengths[-1]


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Writes:
    return Writes(monkeypatch)


class Begun:
    """How many pieces were given to the thread, each time."""

    def __init__(self, ahead: Ahead, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts: list[int] = []
        real = ahead.begin

        def begin(payloads: Sequence[memoryview], *rest: object) -> None:
            self.counts.append(len(payloads))
            real(payloads, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(ahead, "begin", begin)


def give(workshop: Workshop, indexes: Sequence[int], *, wrong: Sequence[int] = ()) -> list[Slot]:
    slots = []
    for index in indexes:
        slot = CONTENT.slot(workshop.arena, index)
        if index in wrong:
            slot.write(PIECE // 2, b"wrong")
        digest = hashlib.sha1(CONTENT.piece(index)).digest()
        workshop.jobs.put(WRITE_PIECE, 1000 + index, 0, index, slot.offset, slot.length, digest)
        slots.append(slot)
    return slots


def answers(workshop: Workshop) -> dict[int, int]:
    """Statuses by piece, of what is answered by now."""
    return {record[3]: record[7] for record in workshop.completions.take()}


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "btfast.ahead"]


def test_what_waits_is_hashed_while_pieces_are_written(
    tmp_path: Path, workshop: Workshop, writes: Writes, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = Begun(workshop.worker._ahead, monkeypatch)
    found: list[dict[int, int]] = []

    def before(number: int) -> None:
        found.append(answers(workshop))
        if number == 0:
            held.extend(give(workshop, range(BATCH, 40), wrong=[20, 39]))
            assert begun.counts == []
        elif number == 1:
            assert begun.counts == [BATCH]
        if number == 5:
            workshop.control.shutdown(socket.SHUT_WR)

    held = give(workshop, range(BATCH))
    writes.before = before
    workshop.worker.run()
    found.append(answers(workshop))
    assert begun.counts == [BATCH, 8]
    # A write has 4 MiB or ends at a gap; what it completed is answered before the next.
    assert [length // PIECE for length in writes.lengths] == [8, 8, 4, 8, 3, 7]
    assert found[1] == dict.fromkeys(range(8), OK)
    assert found[2] == dict.fromkeys(range(8, 16), OK) | {20: MISMATCH}
    assert {index: status for part in found for index, status in part.items()} == {
        index: MISMATCH if index in (20, 39) else OK for index in range(40)
    }
    data = bytearray(CONTENT.data)
    for index in (20, 39):
        data[index * PIECE : (index + 1) * PIECE] = bytes(PIECE)
    assert on_disk(tmp_path) == {"data": bytes(data)}
    assert threads() == []


def test_a_worker_that_leaves_waits_for_what_it_hashes(workshop: Workshop, writes: Writes) -> None:
    held = give(workshop, range(2 * BATCH))
    writes.before = lambda number: number or workshop.control.shutdown(socket.SHUT_WR)
    workshop.worker.run()
    assert answers(workshop) == dict.fromkeys(range(BATCH), OK)
    assert len(held) == 2 * BATCH
    assert threads() == []


def test_the_thread_judges_as_its_worker_would() -> None:
    data = [CONTENT.piece(index) for index in range(3)]
    payloads = [memoryview(bytearray(piece)) for piece in data]
    digests = [hashlib.sha1(data[0]).digest(), bytes(32), hashlib.sha1(data[2]).digest() + bytes(32)]
    shapes = {1: (PIECE, 32), 2: (PIECE, 32)}
    ahead = Ahead()
    for _ in range(2):
        ahead.begin(payloads, digests, shapes)
        assert ahead.verdicts() == judge_pieces(payloads, digests, shapes.__getitem__)
    ahead.close()
    ahead.close()
    assert threads() == []


def test_what_goes_wrong_in_the_thread_is_raised_where_it_is_waited_for() -> None:
    ahead = Ahead()
    ahead.begin([memoryview(bytearray(5))], [bytes(32)], {})
    with pytest.raises(KeyError):
        ahead.verdicts()
    ahead.begin([memoryview(bytearray(5))], [hashlib.sha1(bytes(5)).digest()], {})
    assert ahead.verdicts() == [OK]
    ahead.close()
