"""Which pieces wait for their hashes, and for how long."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from support.v2_torrents import make_v2

from btfast._bitfield import Bitfield
from btfast.engine.hashless import HYBRID_PATIENCE, KEEP, Hashless
from btfast.errors import Error
from btfast.metainfo.torrent import Torrent
from btfast.swarm.pieces import HASHLESS, HAVE, Pieces

PIECE = 65536
FILES = {"a": 3 * PIECE, "b": 2 * PIECE + 5, "c": 100}


class Bench:
    """`right`: pieces that are on disk."""

    def __init__(self, *, hybrid: bool = False, there: tuple[int, ...] = (), right: tuple[int, ...] = ()) -> None:
        self.whole = Torrent.parse(make_v2(FILES, name="t", hybrid=hybrid).torrent)
        self.torrent = Torrent.parse(make_v2(FILES, name="t", hybrid=hybrid, layers=False).torrent)
        self.pieces = Pieces(self.torrent.geometry, has_hash=self.torrent.hashes.digest)
        self.now = 1000.0
        self.went_on = self.kept = 0
        self.verified: list[int] = []
        self.failed: list[Error] = []
        self.looked = asyncio.Event()
        self._right = right
        context: Any = SimpleNamespace(loop=self)
        release: Any = self.pieces.hashes_came
        self.hashless = Hashless(context, self.torrent, self.pieces, there, self._check, self, release, self._go_on)

    def time(self) -> float:
        return self.now

    def create_task(self, work: Any) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)

    async def _check(self, touched: Bitfield, right: Bitfield) -> None:
        for index in self._right:
            if touched[index]:
                right.set(index)

    def _go_on(self) -> None:
        self.went_on += 1

    def handle_layers(self) -> None:
        self.kept += 1

    def handle_verified(self, index: int) -> None:
        self.verified.append(index)

    def handle_answered(self) -> None:
        self.looked.set()

    def fail(self, error: Error) -> None:
        self.failed.append(error)

    def learn(self, name: str, *, told: bool = True) -> None:
        root = next(file.pieces_root or b"" for file in self.torrent.files if file.path == (name,))
        self.torrent.hashes.add_layer(root, self.whole.hashes.layers[root])
        if told:
            self.hashless.handle_learned(root)


async def test_only_pieces_of_files_without_a_layer_wait_and_each_file_for_its_own() -> None:
    bench = Bench()
    assert bench.pieces.wanted_indexes() == [6]
    assert bench.hashless.lacking() == ["a", "b"]
    assert not bench.hashless.stuck
    bench.learn("a")
    assert bench.pieces.wanted_indexes() == [0, 1, 2, 6]
    assert (bench.hashless.lacking(), bench.went_on) == (["b"], 1)
    bench.pieces.found([0, 1, 2, 6])
    assert bench.hashless.stuck
    bench.learn("b")
    assert (bench.pieces.wanted_indexes(), bench.hashless.lacking(), bench.hashless.stuck) == ([3, 4, 5], [], False)


async def test_what_was_there_is_looked_at_before_it_is_asked_for() -> None:
    bench = Bench(there=(0,), right=(0, 2))
    bench.learn("a")
    assert bench.hashless.busy
    assert bench.pieces.wanted_indexes() == [6]
    await bench.looked.wait()
    assert (bench.verified, bench.pieces.wanted_indexes(), bench.failed) == ([0, 2], [1, 6], [])
    assert [bench.pieces.state(index) for index in (0, 2)] == [HAVE, HAVE]
    assert not bench.hashless.busy


async def test_a_hybrid_does_not_wait_for_long() -> None:
    bench = Bench(hybrid=True)
    assert bench.pieces.count(HASHLESS) == 6
    bench.hashless.tick(bench.now + HYBRID_PATIENCE / 2)
    assert bench.pieces.count(HASHLESS) == 6
    bench.hashless.tick(bench.now + HYBRID_PATIENCE)
    assert (bench.pieces.count(HASHLESS), bench.hashless.lacking()) == (0, [])
    bench.learn("a")
    assert bench.went_on == 2


async def test_a_layer_that_came_with_another_torrents_file_is_noticed_and_layers_are_kept_together() -> None:
    bench = Bench()
    bench.learn("a", told=False)
    bench.hashless.tick(bench.now)
    assert bench.pieces.wanted_indexes() == [0, 1, 2, 6]
    assert bench.kept == 0
    bench.hashless.tick(bench.now + KEEP)
    assert bench.kept == 1
    bench.learn("b")
    assert bench.kept == 2, "all have come"
    bench.hashless.close()
    assert bench.kept == 2
