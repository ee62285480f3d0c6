"""What becomes of a task that fails."""

from __future__ import annotations

import asyncio

from btfast.engine.together import tell
from btfast.errors import Error, InternalError, StorageError


async def ended(error: Exception | None) -> asyncio.Task[None]:
    async def work() -> None:
        if error is not None:
            raise error

    task = asyncio.get_running_loop().create_task(work())
    await asyncio.wait([task])
    return task


async def test_what_a_task_has_raised_is_told_and_a_bug_says_that_it_is_one() -> None:
    told: list[Error] = []
    full = StorageError("the disk is full: make room")
    for error in (None, full, KeyError("x")):
        tell(await ended(error), "it", told.append)
    assert told[0] is full
    assert [str(error) for error in told[1:]] == ["it: KeyError: 'x': please report this"]
    assert isinstance(told[1], InternalError)


async def test_one_that_was_cancelled_has_nothing_to_tell() -> None:
    told: list[Error] = []
    task = asyncio.get_running_loop().create_task(asyncio.sleep(60))
    task.cancel()
    await asyncio.wait([task])
    tell(task, "it", told.append)
    assert told == []
