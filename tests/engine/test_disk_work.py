"""What the disk refuses is tried again where that helps; nothing that is kept in the parts file is lost over it."""

from __future__ import annotations

from errno import EACCES, ENOSPC
from types import SimpleNamespace
from typing import Any, cast

import pytest
from engine_parts import Clock

from btfast.config import Settings
from btfast.engine.disk_work import DiskWork
from btfast.engine.worker_process import Job
from btfast.errors import StorageError
from btfast.metainfo.geometry import Geometry
from btfast.storage.messages import FAILED, MISMATCH, OK, RESTORE_PIECE, Problem


class Item:
    """All that a disk's work of one torrent speaks to."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.again: list[Job] = []
        self.failures: list[Exception] = []
        self.restored: list[tuple[int, bool]] = []
        self.warnings: list[str] = []
        self.paused = 0
        context: Any = SimpleNamespace(
            loop=self.clock, settings=Settings(), workers=SimpleNamespace(again=self.again.append),
            emit=lambda event: self.warnings.append(event.message),
        )  # fmt: skip
        layout = SimpleNamespace(torrent=0, lengths=[100], geometry=Geometry(16_384, [100]), path=lambda file: "out/f")
        self.work = DiskWork(context, 0, cast(Any, layout), cast(Any, None), cast(Any, None), cast(Any, self))
        self.work.fetching = cast(Any, SimpleNamespace(pause=self._pause, go_on=self._go_on))

    def _pause(self) -> None:
        self.paused += 1

    def _go_on(self) -> None:
        self.paused -= 1

    # disk_work.Owner

    def fail(self, error: Exception) -> None:
        self.failures.append(error)

    def handle_restored(self, index: int, *, whole: bool) -> None:
        self.restored.append((index, whole))

    def handle_answered(self) -> None: ...


@pytest.mark.parametrize(("status", "whole"), [(OK, True), (MISMATCH, False)])
async def test_a_piece_of_the_parts_file_waits_for_room(status: int, whole: bool) -> None:
    item = Item()
    job = Job(RESTORE_PIECE, 0, 0, None, b"")
    item.work.handle_problem(Problem(0, "out/f", "No space left on device", ENOSPC))
    item.work.handle_completed(job, FAILED, ENOSPC)
    assert (item.failures, item.restored, item.paused) == ([], [], 1)
    assert "make room, and it goes on" in item.warnings[0]
    item.work.tick(item.clock.time() + 1)
    assert item.again == [job]
    item.work.handle_completed(job, status, 0)
    assert (item.failures, item.restored, item.paused) == ([], [(0, whole)], 0)
    assert not item.work.paused


async def test_what_waiting_does_not_mend_ends_it() -> None:
    item = Item()
    item.work.handle_completed(Job(RESTORE_PIECE, 0, 0, None, b""), FAILED, EACCES)
    (error,) = item.failures
    assert isinstance(error, StorageError)
    assert item.paused == 0
