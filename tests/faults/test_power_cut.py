"""Whatever a power cut leaves of what was written: nothing is claimed that is not there, and the next run goes on."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path
from typing import NamedTuple

import msgspec
import psutil
import pytest
from support.commands import get, run, running
from support.power_cut import PowerCut
from support.scripted_peer import ScriptedPeer
from support.torrents import Made, make, tree
from support.v2_torrents import make_v2

from btfast._bitfield import Bitfield
from btfast.engine.recording import key_of
from btfast.metainfo.paths import parts_name
from btfast.metainfo.torrent import Torrent
from btfast.storage.resume_store import Entry, ResumeStore
from btfast.storage.slots import Slots

CUTS = int(os.environ.get("BTFAST_CRASHES", "0")) or 1
FILES = {"big.bin": 5_000_000, "small.bin": 200_000, "sub/c.bin": 1_000_001}
MANY = {f"{number % 7}/{number}": 30_011 * (number % 6) for number in range(60)}  # empty, of a piece, of some pieces
TINY = {f"{number % 7}/{number}": number % 300 for number in range(1500)}  # many of them finished at once
LARGE = 12 << 20  # more than a quarter of the memory: such pieces are written in parts, before they are verified


class Kind(NamedTuple):
    """What is downloaded, and how. `files`: their numbers, empty for all of them; `aligned`: each begins with a piece."""

    made: Made
    words: tuple[str, ...] = ()
    files: tuple[int, ...] = ()
    aligned: bool = False

    @property
    def torrent(self) -> Torrent:
        return Torrent.parse(self.made.torrent)

    def peer(self, rate: int = 0, holds: int = 0) -> ScriptedPeer:
        more = {"rate": rate, "holds": holds, "drip": self.wanted // 80}
        if not self.aligned:
            return ScriptedPeer(self.made, **more)
        length = self.made.piece_length
        stream = b"".join(content + bytes(-len(content) % length) for content in self.made.contents().values())
        return ScriptedPeer(self.made._replace(data=stream), **more)

    def get(self, root: Path, peer: ScriptedPeer, *, workers: int = 2) -> list[str | Path]:
        chosen = ("--files", ",".join(map(str, self.files))) if self.files else ()
        words = (*self.words, *chosen, "--state", "state")
        return get(self.made.save(root), *words, peers=(peer.address,), workers=workers)

    @property
    def wanted(self) -> int:
        """Bytes of the pieces that are fetched."""
        geometry, torrent = self.torrent.geometry, self.torrent
        numbers = self.files or range(len(torrent.files))
        indexes = {index for number in numbers for index in geometry.file_pieces(number)}
        return sum(map(geometry.piece_size, indexes))

    @property
    def expected(self) -> dict[str, bytes]:
        names = {path for number, path in enumerate(self.made.files) if not self.files or number in self.files}
        return {path: content for path, content in self.made.contents().items() if path in names}


TREE = Kind(make(FILES, name="tree"))
KINDS = {
    "tree": TREE,
    "buffered": TREE._replace(words=("--io", "buffered")),
    "direct": TREE._replace(words=("--io", "direct")),
    "in place": TREE._replace(words=("--in-place",)),
    "many files": Kind(make(MANY, name="many")),
    "tiny files": Kind(make(TINY, name="tiny")),
    "v2": Kind(make_v2(MANY, name="many"), aligned=True),
    "hybrid": Kind(make_v2(FILES, name="tree", hybrid=True), aligned=True),
    "large pieces": Kind(make({"a": LARGE - 1000, "b": LARGE // 3}, name="large", piece_length=LARGE)),
    "some files": Kind(make(MANY, name="many"), files=tuple(range(1, 60, 4))),
}


def _entry(root: Path, torrent: Torrent) -> Entry | None:
    store = ResumeStore(str(root / "state" / "resume.db"))
    (entry,) = store.load([(key_of(torrent), str(root / "out"))])
    store.close()
    assert store.messages == []
    return entry


def claimed(root: Path, kind: Kind) -> tuple[int, int]:
    """How many pieces the store claims in files, and how many in the parts file; each of them must be on disk."""
    torrent = kind.torrent
    entry = _entry(root, torrent)
    if entry is None:
        return 0, 0
    geometry, contents = torrent.geometry, kind.made.contents()
    paths = [str(torrent.file_path(number)) for number in range(len(torrent.files))]
    pads = {number for number, file in enumerate(torrent.files) if file.pad}

    def right(index: int, among: set[int]) -> bool:
        for file, offset, length in geometry.piece_spans(index):
            if file not in pads and file in among:
                path = root / "out" / paths[file]
                path = path if path.exists() else path.with_name(f"{path.name}.part")
                found = path.read_bytes()[offset : offset + length] if path.exists() else b""
                if found != contents[paths[file]][offset : offset + length]:
                    return False
        return True

    indexes = Bitfield(geometry.piece_count, entry.have).indices()
    wrong = [index for index in indexes if not right(index, set(range(len(paths))))]
    assert wrong == [], "claimed and not there"
    if not entry.parts:
        return len(indexes), 0
    _, (pieces, wanted) = msgspec.msgpack.decode(entry.parts)
    with_shares = set(Bitfield(len(paths), wanted).indices())
    slots = Slots(geometry, pads)
    kept = (root / "out" / parts_name(torrent.name, torrent.info_hash)).read_bytes()
    in_parts = Bitfield(geometry.piece_count, pieces).indices()
    for index in in_parts:
        size = geometry.piece_size(index)
        assert kept[slots.offset(index) :][:size] == kind.made.block(index, 0, size), f"piece {index} is not in the parts file"
        assert right(index, with_shares), f"somebody lacks a share of piece {index}"
    return len(indexes), len(in_parts)


def goes_on(root: Path, kind: Kind) -> int:
    """Bytes that a run fetched which went on with what was left."""
    with kind.peer() as peer:
        done = run(root, *kind.get(root, peer, workers=1))
    assert (done.code, done.err) == (0, "")
    assert {path: data for path, data in tree(root / "out").items() if not path.startswith(".")} == kind.expected
    fetched: int = done.one("complete")["downloaded"]
    return fetched


@pytest.mark.parametrize("round_number", range(CUTS))
@pytest.mark.parametrize("name", KINDS)
def test_a_cut_after_an_interrupt_loses_nothing_that_was_recorded(tmp_path: Path, round_number: int, name: str) -> None:
    kind = KINDS[name]
    rng = random.Random(f"{round_number} {name}")
    cut = PowerCut(tmp_path, tmp_path.parent)
    blocks = kind.wanted // 16384
    enough = rng.randint(blocks // 20, blocks * 9 // 10)
    with kind.peer(holds=enough) as peer:
        with running(tmp_path, *kind.get(tmp_path, peer), variables=cut.environment) as command:
            command.until(lambda: peer.blocks_sent >= enough, "some blocks were sent")
            command.signal(signal.SIGINT)
            kept = command.end().one("failed")["done"]
    cut.happen(rng, kept=rng.choice([0.0, 0.5, 0.9]))
    claimed(tmp_path, kind)
    # The database itself may be behind: its last commits are not forced out. What it lost is hashed, not fetched.
    assert goes_on(tmp_path, kind) <= kind.wanted - kept


@pytest.mark.parametrize("round_number", range(max(1, CUTS // 3)))
def test_a_cut_at_any_moment_leaves_no_false_claim(tmp_path: Path, round_number: int) -> None:
    rng = random.Random(round_number)
    kind = KINDS[list(KINDS)[round_number % len(KINDS)]]
    cut = PowerCut(tmp_path, tmp_path.parent)
    with kind.peer(kind.wanted // 8) as peer:
        with running(tmp_path, *kind.get(tmp_path, peer), variables=cut.environment) as command:
            command.until(lambda: (tmp_path / "state" / "resume.db").exists(), "something was recorded")
            time.sleep(rng.random() * 0.8)  # any moment is one
            for process in [psutil.Process(command.process.pid), *command.family]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
    cut.happen(rng, kept=rng.choice([0.0, 0.5, 0.9]))
    claimed(tmp_path, kind)
    goes_on(tmp_path, kind)


def test_a_cut_after_the_end_loses_nothing(tmp_path: Path) -> None:
    """Of a choice of files, whose shared pieces are in the parts file as well."""
    kind = KINDS["some files"]
    cut = PowerCut(tmp_path, tmp_path.parent)
    with kind.peer() as peer:
        assert run(tmp_path, *kind.get(tmp_path, peer), variables=cut.environment).code == 0
    cut.happen(random.Random(1), kept=0.0)
    in_files, in_parts = claimed(tmp_path, kind)
    assert in_files > 0
    assert in_parts > 0
    assert goes_on(tmp_path, kind) == 0
