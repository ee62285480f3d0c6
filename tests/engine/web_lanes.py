"""Lanes of a web seed by themselves: real connections to a scripted server, and a small picker that gives pieces in order."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any, cast

from engine_parts import Clock

from btfast._bencode import encode
from btfast.config import Settings
from btfast.engine.web_answers import Verdicts
from btfast.engine.web_hosts import WebHosts
from btfast.engine.web_lane import Lane
from btfast.engine.web_seeds import WebSeeds
from btfast.metainfo.geometry import Geometry
from btfast.metainfo.reach import Reach
from btfast.metainfo.torrent import Torrent
from btfast.metainfo.web_files import WebFiles
from btfast.swarm.blocks import BlockRun
from btfast.swarm.pieces import Pieces
from btfast.swarm.web_range import Landed, Landing, WebRange, chained
from btfast.swarm.web_seed import WebSeed

PIECE = 65_536


class Ground:
    """web_lane.Owner for one seed of files of these lengths; a range has `take` pieces. `short`: there is no memory now."""

    def __init__(self, url: str, *lengths: int, aligned: bool = False, take: int = 1, **settings: Any) -> None:
        files = [{"length": length, "path": [f"f{number}"]} for number, length in enumerate(lengths)]
        count = -(-sum(lengths) // PIECE)
        info = {"files": files, "name": "n", "piece length": PIECE, "pieces": bytes(20 * count)}
        self.torrent = Torrent.parse(encode({"info": info}))
        self.geometry = Geometry(PIECE, list(lengths), aligned=aligned)
        self.pieces = Pieces(self.geometry)
        self.data = [random.Random(number).randbytes(length) for number, length in enumerate(lengths)]
        self.memory = bytearray(PIECE * self.geometry.piece_count)
        self.take = take
        self.short = False
        self.came: set[tuple[int, int]] = set()  # blocks
        self.back: list[BlockRun] = []
        self.thrown_away = 0
        self.seed = WebSeed(1, url, self.geometry, cast(Any, self))
        self.clock = Clock()
        self.retry: Any = None
        self.context: Any = SimpleNamespace(
            loop=self.clock, settings=Settings(**settings), starved={}, wait_for_room=self._wait_for_room,
        )  # fmt: skip
        self.hosts = WebHosts(bind="")
        files_at = WebFiles(self.torrent)
        self.verdicts = Verdicts(self.geometry, self.pieces, list(lengths), files_at, self.torrent.info_hash)

    def lane(self) -> Lane:
        return Lane(self.context, self.hosts, self.seed, self.verdicts, self, None)

    def _wait_for_room(self, who: object, retry: Any) -> None:
        self.retry = retry

    @property
    def complete(self) -> bool:
        return len(self.came) == sum(self.geometry.block_count(index) for index in range(self.geometry.piece_count))

    def all_of(self, index: int) -> BlockRun:
        return BlockRun(index, 0, self.geometry.block_count(index))

    def arrived(self) -> bool:
        """Whether every file is what the server has."""
        starts = [self.geometry.file_offset(file) for file in range(len(self.data))]
        return all(
            self.memory[at : at + len(data)] == data for at, data in zip(starts, self.data, strict=True)
        )

    # the picker of the seed

    def peer_lacks(self, peer: int, index: int, count: int = 1) -> None: ...

    # web_lane.Owner

    def next_block(self, index: int, block: int) -> int:
        return -1  # a piece is asked for as a whole

    def next_ranges(self, seed: WebSeed, at: int = -1, block: int = -1) -> list[WebRange]:
        first = self.pieces.next_wanted(0) if at < 0 else at
        if self.short or first < 0:
            return []
        runs = []
        for index in range(first, min(first + self.take, self.geometry.piece_count)):
            if not self.pieces.is_wanted(index):
                break
            self.pieces.open(index)
            runs.append(BlockRun(index, 0, self.geometry.block_count(index)))
        return [WebRange(self.geometry, chain, ()) for chain in chained(runs, self.geometry)]

    def room_for(self, landing: Landing) -> memoryview:
        at = landing.index * PIECE + landing.begin
        return memoryview(self.memory)[at : at + landing.length]

    def landed(self, seed: WebSeed, landed: Landed) -> None:
        first = landed.begin // 16_384
        self.came.update((landed.index, block) for block in range(first, first + -(-landed.length // 16_384)))

    def wasted(self, count: int) -> None:
        self.thrown_away += count

    def returned(self, seed: WebSeed, runs: list[BlockRun]) -> None:
        self.back += runs

    def starving(self, seed: WebSeed) -> bool:
        return self.short

    def may_reach(self, seed: WebSeed, reach: Reach, url: str) -> str:
        return WebSeeds.may_reach(cast(Any, self), seed, reach, url)

    def changed(self, seed: WebSeed) -> None: ...
