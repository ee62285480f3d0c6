"""Who fetches a file that several torrents of a run have, who waits, and for how long."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Mapping, Sequence
from typing import Any

from btfast._bencode import encode
from btfast._bitfield import Bitfield
from btfast.config import Settings
from btfast.engine.control import Add
from btfast.engine.placing import order_of
from btfast.engine.sharing import LEAST, WINDOW, Share, Sharing
from btfast.errors import Error
from btfast.metainfo.selection import Selection
from btfast.metainfo.torrent import Torrent
from btfast.storage.layout import Layout
from btfast.swarm.pieces import Pieces

PIECE = 65536
BIG = random.Random(1).randbytes(4 * PIECE + 99)


def torrent_of(files: Mapping[str, bytes], name: str, **info: object) -> Torrent:
    stream = b"".join(files.values())
    hashes = [hashlib.sha1(stream[at : at + PIECE]).digest() for at in range(0, len(stream), PIECE)]
    entries = [{"length": len(data), "path": [path]} for path, data in files.items()]
    whole = {"name": name, "piece length": PIECE, "pieces": b"".join(hashes), "files": entries, **info}
    return Torrent.parse(encode({"info": whole}))


class Process:
    """A network process with a clock to set, in which copies arrive when a test lets them."""

    def __init__(self) -> None:
        self.loop = self
        self.reusing: Any = self
        self.sharing = Sharing()
        self.now = 0.0
        self.copies: list[tuple[str, int, str]] = []
        self.works = True

    def time(self) -> float:
        return self.now

    def create_task(self, work: Any) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)

    async def copy(self, torrent: Torrent, layout: Layout, number: int, path: str) -> int:
        self.copies.append((torrent.name, number, path))
        await asyncio.sleep(0)
        return layout.lengths[number] if self.works else 0


class Party:
    """One torrent in it. `right`: the pieces that are found right once a file was copied."""

    def __init__(
        self, process: Any, torrent: Torrent, *, there: Sequence[int] = (), right: Sequence[int] = range(99)
    ) -> None:
        selection = Selection(torrent, None)
        self.torrent = torrent
        self.pieces = Pieces(torrent.geometry)
        self.layout = Layout(order_of(0, Add(id=0, source="", directory="/nowhere"), torrent, selection, Settings()))
        self.received = 0
        self.final: set[int] = set()
        self.found: list[int] = []
        self.errors: list[Error] = []
        self.right = right
        self.share = Share(
            process, torrent, self.layout, self.pieces, self.check, received=lambda: self.received,
            has=self.final.__contains__, handle_found=self.found.append, fail=self.errors.append,
        )  # fmt: skip
        self.share.begin(there)

    async def check(self, touched: Bitfield, right: Bitfield) -> None:
        for index in touched.indices():
            if index in self.right:
                right.set(index)

    def finish(self, file: int) -> None:
        self.final.add(file)
        self.share.handle_file(file)

    async def settled(self) -> None:
        while self.share._working is not None:
            await asyncio.sleep(0)
        assert self.errors == []

    @property
    def wanted(self) -> list[int]:
        return self.pieces.wanted_indexes()


FIRST = {"big": BIG, "one": b"1" * 100_000}
SECOND = {"renamed": BIG, "two": b"2" * 100_000}


async def test_the_second_torrent_waits_for_the_file_and_fetches_what_else_it_has() -> None:
    process = Process()
    first, second = Party(process, torrent_of(FIRST, "a")), Party(process, torrent_of(SECOND, "b"), right=range(4))
    assert (first.wanted, second.wanted) == ([0, 1, 2, 3, 4, 5], [5])
    assert not second.pieces.complete
    first.finish(1)
    assert process.copies == []
    first.finish(0)
    await second.settled()
    assert process.copies == [("b", 0, "/nowhere/a/big")]
    # Piece 4 has bytes of both files: it is not whole, and fetched.
    assert (second.found, second.wanted, second.share.copied) == ([0, 1, 2, 3], [4, 5], len(BIG))
    assert second.share.waits == {}


async def test_a_piece_with_bytes_of_two_files_that_are_waited_for_is_held_until_both_have_come() -> None:
    process = Process()
    both = {"big": BIG, "next": random.Random(3).randbytes(3 * PIECE)}
    first, second = Party(process, torrent_of(both, "a")), Party(process, torrent_of(both, "b"), right=range(4))
    assert second.share.waits.keys() == {0, 1}
    first.finish(0)
    await second.settled()
    assert (second.found, second.wanted, second.pieces.held) == ([0, 1, 2, 3], [], {4, 5, 6, 7})
    second.right = range(99)
    first.finish(1)
    await second.settled()
    assert (second.found, second.pieces.complete) == (list(range(8)), True)


async def test_what_is_wrong_in_the_copy_is_fetched_and_what_cannot_be_copied_too() -> None:
    process = Process()
    first = Party(process, torrent_of(FIRST, "a"))
    second, third = Party(process, torrent_of(SECOND, "b"), right=(0, 3)), Party(process, torrent_of(SECOND, "c"))
    first.finish(0)
    await second.settled()
    assert second.wanted == [1, 2, 4, 5]
    process.works = False
    await third.settled()
    process.works = True
    fourth = Party(process, torrent_of(SECOND, "d"))
    await fourth.settled()
    assert fourth.found == [0, 1, 2, 3, 4]  # from one that has it already
    assert third.share.waits == fourth.share.waits == {}


async def test_when_the_one_that_fetches_ends_the_next_takes_its_place() -> None:
    process = Process()
    first, second, third = (Party(process, torrent_of(FIRST | {"own": name.encode() * 70_000}, name)) for name in "abc")
    assert second.share.waits.keys() == third.share.waits.keys() == {0}
    await first.share.close()
    assert (second.share.waits, len(second.wanted)) == ({}, second.torrent.piece_count)
    assert {owner for owner, _ in third.share.waits.values()} == {second.share}
    await third.share.close()
    second.finish(0)
    assert process.copies == []


async def test_nobody_waits_for_a_torrent_that_does_not_get_on() -> None:
    process = Process()
    first, second, third = (Party(process, torrent_of(FIRST, name)) for name in "abc")
    first.received = LEAST
    process.now = WINDOW
    first.share.tick(process.now)
    assert second.share.waits
    first.received += LEAST - 1
    process.now = 2 * WINDOW - 1
    first.share.tick(process.now)
    assert second.share.waits
    process.now = 2 * WINDOW
    first.share.tick(process.now)
    assert (second.share.waits, second.wanted) == ({}, first.wanted)
    assert {owner for owner, _ in third.share.waits.values()} == {second.share}
    second.finish(0)
    await third.settled()
    assert third.found == [0, 1, 2, 3, 4]


async def test_a_torrent_that_waits_and_ends_stops_its_copy_first() -> None:
    process = Process()
    first, second = Party(process, torrent_of(FIRST, "a")), Party(process, torrent_of(FIRST, "b"))
    first.finish(0)
    await second.share.close()
    assert second.share._working is None
    assert process.copies == []
    assert second.found == []
    first.finish(1)
    await first.share.close()
    assert process.sharing._index == {}
    assert process.sharing._indexed == 0


async def test_what_is_on_disk_already_and_small_or_other_files_are_not_waited_for() -> None:
    process = Process()
    Party(process, torrent_of({**FIRST, "small": b"s" * 1000}, "a"))
    begun = Party(process, torrent_of(SECOND, "b"), there=[0])
    assert begun.share.waits == {}
    other = random.Random(2).randbytes(len(BIG))
    assert Party(process, torrent_of({"big": other, "small": b"s" * 1000}, "c")).share.waits == {}
    moved = torrent_of({"before": b"x", "big": BIG}, "d")  # its pieces begin elsewhere in the file
    assert Party(process, moved).share.waits == {}


async def test_name_and_size_do_where_a_torrent_says_that_it_is_similar() -> None:
    process = Process()
    first = torrent_of(FIRST, "a", collections=["x", "set"])
    Party(process, first)
    moved = {"before": b"x", "big": BIG}
    assert Party(process, torrent_of(moved, "b", similar=[first.info_hash])).share.waits.keys() == {1}
    assert Party(process, torrent_of(moved, "c", collections=["set"])).share.waits.keys() == {1}
    assert Party(process, torrent_of(moved, "d", collections=["sets"], similar=[bytes(20), b"short", 7])).share.waits == {}


async def test_the_similar_one_may_be_that_which_came_first() -> None:
    process = Process()
    second = torrent_of({"before": b"x", "big": BIG}, "b")
    Party(process, torrent_of(FIRST, "a", similar=[second.info_hash]))
    assert Party(process, second).share.waits.keys() == {1}


async def test_nothing_is_looked_up_for_a_torrent_alone() -> None:
    process = Process()
    Party(process, torrent_of(FIRST, "a"))
    assert process.sharing._index == {}
