"""What of a hybrid came before its layers is looked at again when they come: all of that, nothing else, and nothing twice."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from support.v2_torrents import make_v2

from btfast._bitfield import Bitfield
from btfast.engine.second_look import SecondLook
from btfast.errors import Error
from btfast.metainfo import merkle
from btfast.metainfo.torrent import Torrent
from btfast.storage.messages import BAD, GOOD, SPLIT, CheckPieces, PiecesChecked
from btfast.swarm.pieces import Pieces

PIECE = 65536
FILES = {"a": 20 * PIECE, "b": 3 * PIECE + 5, "c": 100}
MADE = make_v2(FILES, name="t", hybrid=True, layers=False)


class Disk:
    """Answers questions as a worker does, when the test lets it. `states`: of pieces that are not GOOD."""

    def __init__(self, states: dict[int, int]) -> None:
        self.asked: list[list[int]] = []
        self.sizes: set[int] = set()
        self.may = asyncio.Event()
        self._states = states

    async def check(self, order: CheckPieces, worker: int) -> PiecesChecked:
        count = len(order.hashes) // order.size
        indexes = list(range(order.first, order.first + count))
        self.asked.append(indexes)
        self.sizes.add(order.size)
        await self.may.wait()
        return PiecesChecked(0, order.first, bytes(self._states.get(index, GOOD) for index in indexes))


class Bench:
    def __init__(self, have: list[int], states: dict[int, int] | None = None) -> None:
        self.torrent = Torrent.parse(MADE.torrent)
        geometry = self.torrent.geometry
        self.disk = Disk(states or {})
        self.pieces = Pieces(geometry, Bitfield(geometry.piece_count), wanted=True)
        self.pieces.found(have)
        self.failed: list[Error] = []
        self.ends = 0
        context: Any = SimpleNamespace(loop=asyncio.get_running_loop(), workers=self.disk)
        layout: Any = SimpleNamespace(torrent=0)
        self.look = SecondLook(context, self.torrent, layout, self.pieces, self.failed.append, self._ended)

    def _ended(self) -> None:
        assert not self.look.busy
        self.ends += 1

    def learn(self, name: str) -> None:
        data = MADE.contents()[f"t/{name}"]
        (root,) = (file.pieces_root for file in self.torrent.files if file.path == (name,))
        assert root is not None
        leaves = merkle.leaf_hashes(data)
        tree = merkle.Tree(leaves, 0, len(data))
        self.torrent.hashes.add_layer(root, tree.run(merkle.piece_level(PIECE), 0, -(-len(data) // PIECE)))
        self.look.handle_learned(root)

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    def receive(self, index: int) -> None:
        """All blocks of a piece; its hash is not known yet."""
        self.pieces.open(index)
        self.pieces.whole(index)


async def test_what_came_before_its_layer_is_read_again_in_runs_and_by_both_hashes() -> None:
    bench = Bench([*range(18), 19, 21, 23])
    assert not bench.look.busy
    bench.learn("a")
    assert bench.look.busy
    bench.disk.may.set()
    await bench.settle()
    assert bench.disk.asked == [list(range(16)), [16, 17], [19]]
    assert bench.disk.sizes == {52}
    assert (bench.look.busy, bench.ends, bench.failed) == (False, 1, [])
    bench.learn("b")
    await bench.settle()
    assert bench.disk.asked[3:] == [[21], [23]]
    assert bench.ends == 2


async def test_a_piece_that_is_on_its_way_to_the_disk_is_looked_at_there() -> None:
    bench = Bench([])
    for index in (1, 2):
        bench.receive(index)
    bench.learn("a")
    assert bench.look.busy
    bench.disk.may.set()
    await bench.settle()
    assert bench.disk.asked == []
    bench.look.handle_bad(2)  # it comes again, and both of its hashes are known by then
    bench.look.handle_verified(1)
    bench.look.handle_verified(2)
    await bench.settle()
    assert bench.disk.asked == [[1]]
    assert (bench.look.busy, bench.ends) == (False, 1)


@pytest.mark.parametrize(("state", "fails"), [(SPLIT, True), (BAD, False)])
async def test_only_halves_that_differ_end_the_torrent(state: int, fails: bool) -> None:
    bench = Bench([3, 4, 5], {4: state})
    bench.learn("a")
    bench.disk.may.set()
    await bench.settle()
    assert [str(error).split(": ")[1][:7] for error in bench.failed] == (["piece 4"] if fails else [])
    assert not bench.look.busy


async def test_who_leaves_does_not_wait_for_it() -> None:
    bench = Bench([3])
    bench.learn("a")
    await bench.settle()
    bench.look.close()
    await bench.settle()
    assert (bench.look.busy, bench.ends) == (False, 0)


async def test_a_look_that_cannot_be_had_ends_the_torrent() -> None:
    async def broken(order: CheckPieces, worker: int) -> PiecesChecked:
        raise ZeroDivisionError("a bug")

    bench = Bench([0])
    bench.disk.check = broken  # type: ignore[method-assign]
    bench.learn("a")
    while not bench.ends:
        await asyncio.sleep(0)
    assert [str(error) for error in bench.failed] == ["t: ZeroDivisionError: a bug: please report this"]
