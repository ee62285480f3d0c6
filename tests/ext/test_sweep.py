"""Reading and hashing what is on disk, against hashlib and the merkle trees of btfast.metainfo."""

from __future__ import annotations

import hashlib
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btfast._plan import Plan
from btfast._sweep import GOOD, MISSING, SHA1_DIFFERS, SHA256_DIFFERS, Sweep
from btfast.metainfo import merkle

K16 = 16384
DATA = random.Random(5).randbytes(3 << 20)


class Disk:
    """Files below a folder, by path; None as content is a pad file of zeros."""

    def __init__(self, folder: Path, files: list[tuple[str | None, int]]) -> None:
        self.root = os.open(folder, os.O_RDONLY)
        self.folder = folder
        self.paths = [None if path is None else path.encode() for path, _ in files]
        self.lengths = [length for _, length in files]
        self.contents: list[bytes] = []
        at = 0
        for path, length in files:
            content = bytes(length) if path is None else DATA[at : at + length]
            assert len(content) == length
            at += 0 if path is None else length
            self.contents.append(content)
            if path is not None:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(content)

    @property
    def stream(self) -> bytes:
        return b"".join(self.contents)

    def plan(self, piece_length: int, available: list[int] | None = None, **options: object) -> Plan:
        return Plan(self.root, piece_length, self.paths, self.lengths, available or self.lengths, **options)  # type: ignore[arg-type]

    def close(self) -> None:
        os.close(self.root)


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[type[Disk]]:
    made: list[Disk] = []

    class Here(Disk):
        def __init__(self, *files: tuple[str | None, int]) -> None:
            super().__init__(tmp_path, list(files))
            made.append(self)

    yield Here
    for disk in made:
        disk.close()


def swept(plan: Plan) -> list[tuple[int, int, int]]:
    return Sweep(plan).pieces(0, plan.piece_count)


def sha1s(stream: bytes, piece_length: int) -> bytes:
    return b"".join(hashlib.sha1(stream[at : at + piece_length]).digest() for at in range(0, len(stream), piece_length))


@pytest.mark.parametrize("piece_length", [1, 1000, K16, 3 * K16, 65536, 200_000, 1 << 20, 1 << 22])
def test_pieces_are_hashed_across_files_of_any_size(on_disk: type[Disk], piece_length: int) -> None:
    size = 4000 if piece_length == 1 else 1_500_000
    disk = on_disk(("a/b", size // 3), ("a/empty", 0), ("c", 7), (None, 5000), ("d/e/f", size // 2), ("last", 0))
    plan = disk.plan(piece_length, keep=True)
    assert swept(plan) == []
    assert plan.sha1 == sha1s(disk.stream, piece_length)
    assert set(plan.states) == {GOOD}


def test_more_files_than_are_kept_open(on_disk: type[Disk]) -> None:
    disk = on_disk(*((f"{n % 7}/{n}", 2000 + n) for n in range(300)))
    before = len(os.listdir("/proc/self/fd"))
    plan = disk.plan(K16, keep=True)
    sweep = Sweep(plan)
    assert sweep.pieces(0, plan.piece_count) == []
    assert len(os.listdir("/proc/self/fd")) - before <= 70
    assert plan.sha1 == sha1s(disk.stream, K16)
    sweep.close()
    assert len(os.listdir("/proc/self/fd")) - before <= 2
    assert sweep.bytes_read == len(disk.stream)


@pytest.mark.parametrize("piece_length", [K16, 4 * K16, 1 << 20])
def test_trees_are_those_of_bep_52(on_disk: type[Disk], piece_length: int) -> None:
    lengths = [1, K16, K16 + 1, piece_length, piece_length + 1, 3 * piece_length // 2, 700_000]
    files: list[tuple[str | None, int]] = []
    for number, length in enumerate(lengths):
        files += [(f"f{number}", min(length, 800_000)), (None, -min(length, 800_000) % piece_length)]
    disk = on_disk(*files)
    plan = disk.plan(piece_length, sha256=True, keep=True)
    assert swept(plan) == []
    assert plan.sha1 == sha1s(disk.stream, piece_length)
    expected = b""
    for content in disk.contents[::2]:
        expected += b"".join(
            merkle.piece_root(merkle.leaf_hashes(content[at : at + piece_length]), piece_length, len(content))
            for at in range(0, len(content), piece_length)
        )
    assert plan.sha256 == expected


def test_expected_digests_are_compared_and_unknown_ones_are_not(on_disk: type[Disk]) -> None:
    disk = on_disk(("a", 5 * K16))
    right = disk.plan(K16, sha256=True, keep=True)
    swept(right)
    assert right.sha1 is not None
    assert right.sha256 is not None
    sha1 = bytearray(right.sha1)
    sha1[25] ^= 1  # of piece 1
    sha256 = bytearray(right.sha256)
    sha256[32 * 2] ^= 1  # of piece 2
    sha256[32 * 3 : 32 * 4] = bytes(32)
    plan = disk.plan(K16, sha256=True, expected_sha1=bytes(sha1), expected_sha256=bytes(sha256))
    swept(plan)
    assert list(plan.states) == [GOOD, SHA1_DIFFERS, SHA256_DIFFERS, GOOD, GOOD]
    assert plan.sha1 is None
    assert plan.sha256 is None


def test_what_is_known_to_be_missing_is_not_looked_for(on_disk: type[Disk]) -> None:
    disk = on_disk(("a", 2 * K16), ("b", K16), ("c", 2 * K16))
    plan = disk.plan(K16, available=[K16, -1, 2 * K16])
    assert swept(plan) == []
    assert list(plan.states) == [GOOD, MISSING, MISSING, GOOD, GOOD]


def test_what_turns_out_to_be_missing_is_reported(on_disk: type[Disk]) -> None:
    disk = on_disk(("a", 2 * K16), ("b", K16), ("sub/c", 2 * K16), ("d", K16), ("e", K16))
    os.truncate(disk.folder / "a", K16 + 5)
    (disk.folder / "b").unlink()
    (disk.folder / "sub").rename(disk.folder / "elsewhere")
    (disk.folder / "sub").symlink_to("elsewhere")
    (disk.folder / "d").unlink()
    os.mkfifo(disk.folder / "d")
    (disk.folder / "e").rename(disk.folder / "target")
    (disk.folder / "e").symlink_to("target")
    plan = disk.plan(K16)
    problems = {file: error for file, error, _ in swept(plan)}
    assert list(plan.states) == [GOOD] + [MISSING] * 6
    names = {file: errors for file, errors in problems.items() if file != 0}
    assert problems[0] == 0
    assert all(error > 0 for error in names.values())
    assert set(names) == {1, 2, 3, 4}


def test_runs_of_files_give_sums_and_the_pieces_within(on_disk: type[Disk]) -> None:
    disk = on_disk(("a", 100_000), (None, 31_072), ("empty", 0), ("b", 200_000), ("c", 3), ("d", 70_000))
    plan = disk.plan(K16, sums=True, keep=True)
    assert Sweep(plan).tracks([(0, 3), (3, 6)]) == []
    for number, (path, content) in enumerate(zip(disk.paths, disk.contents, strict=True)):
        expected = hashlib.sha256(content).digest() if path is not None and content else None
        assert plan.sum(number) == expected
    assert set(plan.states[:-1]) == {GOOD}
    assert plan.sha1 == sha1s(disk.stream, K16)


def test_pieces_across_the_ends_of_runs_are_left_open(on_disk: type[Disk]) -> None:
    disk = on_disk(("a", K16 + 10), ("b", 2 * K16))
    plan = disk.plan(K16, sums=True, keep=True)
    sweep = Sweep(plan)
    sweep.tracks([(0, 1), (1, 2)])
    assert list(plan.states) == [GOOD, 0, GOOD, GOOD]
    sweep.pieces(1, 1)
    assert plan.sha1 == sha1s(disk.stream, K16)


def test_a_stopped_plan_is_left_at_once(on_disk: type[Disk]) -> None:
    plan = on_disk(("a", 40 * K16)).plan(K16)
    plan.stop()
    swept(plan)
    assert set(plan.states) == {0}


def test_threads_share_a_plan(on_disk: type[Disk]) -> None:
    disk = on_disk(*((f"{n}", 9000) for n in range(300)))
    plan = disk.plan(K16, keep=True)
    threads = [
        threading.Thread(target=lambda first=first: Sweep(plan).pieces(first, min(20, plan.piece_count - first)))  # type: ignore[misc]
        for first in range(0, plan.piece_count, 20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert plan.sha1 == sha1s(disk.stream, K16)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(0, 80_000), st.booleans()), min_size=1, max_size=12),
    piece_length=st.integers(100, 90_000),
)
def test_any_layout_is_hashed_as_hashlib_does(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[tuple[int, bool]], piece_length: int
) -> None:
    folder = tmp_path_factory.mktemp("disk")
    disk = Disk(folder, [(None if pad else f"{n}", length) for n, (length, pad) in enumerate(lengths)])
    try:
        plan = disk.plan(piece_length, keep=True, sums=True)
        assert swept(plan) == []
        assert plan.sha1 == sha1s(disk.stream, piece_length)
        Sweep(plan).tracks([(0, len(lengths))])
        sums = [plan.sum(n) for n in range(len(lengths))]
        assert sums == [
            hashlib.sha256(content).digest() if content and not pad else None
            for content, (_, pad) in zip(disk.contents, lengths, strict=True)
        ]
    finally:
        disk.close()


@pytest.mark.parametrize(
    ("paths", "lengths", "options"),
    [
        ([b"a"], [5], {"piece_length": 0}),
        ([b"a"], [5], {"piece_length": 1 << 40}),
        ([b"a"], [-1], {}),
        ([b"a"], [1 << 62, 1 << 62], {}),
        ([b"a", b"b"], [1 << 62, 1 << 62], {}),
        ([b"../a"], [5], {}),
        ([b"x/../a"], [5], {}),
        ([b""], [5], {}),
        ([b"a\0b"], [5], {}),
        ([b"a"], [5], {"expected_sha1": bytes(19)}),
        ([b"a"], [5], {"expected_sha256": bytes(31)}),
        ([b"a"], [5], {"sha256": True, "piece_length": 3 * K16}),
        ([b"a"], [5], {"sha256": True, "piece_length": 8192}),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(
    tmp_path: Path, paths: list[bytes], lengths: list[int], options: dict[str, object]
) -> None:
    root = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(ValueError, match=r".+"):
            Plan(root, options.pop("piece_length", K16), paths, lengths, lengths, **options)  # type: ignore[arg-type]
    finally:
        os.close(root)


def test_absolute_paths_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(5))
    root = os.open(tmp_path, os.O_RDONLY)
    try:
        plan = Plan(root, K16, [os.fsencode(tmp_path / "a")], [5], [5])
        assert len(swept(plan)) == 1
        assert plan.states == bytes([MISSING])
    finally:
        os.close(root)


def test_pieces_outside_the_plan_are_refused(on_disk: type[Disk]) -> None:
    plan = on_disk(("a", 5 * K16)).plan(K16, sums=True)
    sweep = Sweep(plan)
    for first, count in ((-1, 1), (0, 6), (5, 1), (0, -1)):
        with pytest.raises(IndexError):
            sweep.pieces(first, count)
    for bounds in ([(0, 2)], [(1, 1)], [(-1, 1)]):
        with pytest.raises(IndexError):
            sweep.tracks(bounds)
    with pytest.raises(IndexError):
        plan.sum(1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        Plan(10**6, K16, [], [], [])
