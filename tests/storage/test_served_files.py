"""Files that blocks are served from: few are open, however many blocks wait, and each once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from disk_harness import Content

from btfast.engine import served_files
from btfast.engine.served_files import ServedFiles
from btfast.metainfo.geometry import FileSpan

MANY = Content({f"{n}": 10 for n in range(60)}, 16384)
BUDGET = 10


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> ServedFiles:
    monkeypatch.setattr(served_files, "descriptor_budget", lambda: BUDGET)
    return ServedFiles()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_blocks_that_wait_hold_a_bounded_number_of_descriptors(tmp_path: Path, served: ServedFiles) -> None:
    MANY.put_on_disk(tmp_path)
    layout = MANY.layout(tmp_path)
    before = descriptors()
    waiting = [served.segments(layout, [FileSpan(n, 0, 10)]) for n in range(3 * BUDGET)]
    assert descriptors() == before + 3 * BUDGET
    with pytest.raises(BlockingIOError):
        served.segments(layout, [FileSpan(50, 0, 10)])
    assert descriptors() == before + 3 * BUDGET
    again = served.segments(layout, [FileSpan(0, 0, 10)])
    assert again[0][:2] == waiting[0][0][:2], "it is open already, although it is not recent any more"
    del waiting[20:]
    (segment,) = served.segments(layout, [FileSpan(50, 0, 10)])
    assert os.pread(segment[1], 10, 0) == MANY.files["50"]


def test_without_blocks_only_the_recent_stay_open(tmp_path: Path, served: ServedFiles) -> None:
    MANY.put_on_disk(tmp_path)
    layout = MANY.layout(tmp_path)
    before = descriptors()
    for n in range(60):
        served.segments(layout, [FileSpan(n, 0, 10)])
    assert descriptors() == before + BUDGET
    served.forget(layout.torrent + 1)
    assert descriptors() == before + BUDGET
    served.forget(layout.torrent)
    assert descriptors() == before


def test_a_block_across_too_many_files_is_refused_before_any_is_opened(tmp_path: Path, served: ServedFiles) -> None:
    layout = MANY.layout(tmp_path)
    with pytest.raises(OSError, match="too many"):
        served.segments(layout, [FileSpan(n % 60, 0, 1) for n in range(5000)])


def test_what_nobody_asks_for_is_unmapped_after_a_while(monkeypatch: pytest.MonkeyPatch, served: ServedFiles) -> None:
    """A window is closed by the second of two calls with no use between them: 15 to 30 seconds after its last."""
    called: list[float] = []
    second = 0.0
    monkeypatch.setattr(served_files, "close_unused", lambda: called.append(second))
    for n in range(3600, 3600 + 61):
        second = float(n)
        served.tick(second, 0)
    assert called == [3600.0, 3615.0, 3630.0, 3645.0, 3660.0]


def test_what_is_mapped_has_its_place_in_what_the_arena_leaves(monkeypatch: pytest.MonkeyPatch, served: ServedFiles) -> None:
    kept: list[int] = []
    monkeypatch.setattr(served_files, "keep", kept.append)
    for second, spare in enumerate([256 << 20, 256 << 20, 100 << 20, 1 << 20, 0]):
        served.tick(float(second), spare)
    assert kept == [256, 100, served_files._FEWEST, served_files._FEWEST]
