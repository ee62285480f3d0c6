"""What a bug of ours may cost: its item, with a reason, and not the others; or the run, and then not as an interrupt."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from btfast._arena import Arena
from btfast.config import Settings
from btfast.engine.engine import Engine
from btfast.errors import Error, InternalError


class Item:
    name = "the item"

    def __init__(self) -> None:
        self.errors: list[Error] = []

    def fail(self, error: Error) -> None:
        self.errors.append(error)


def engine() -> Engine:
    return Engine(Settings(), Arena.create(16 << 20), [])


async def test_a_bug_in_an_items_tick_ends_that_item() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    item = Item()
    with engine()._to_blame(cast(Any, item)):
        raise ZeroDivisionError("oops")
    assert [str(error) for error in item.errors] == ["the item: ZeroDivisionError: oops: please report this"]
    assert isinstance(item.errors[0], InternalError)
    assert isinstance(told[0]["exception"], ZeroDivisionError)


async def test_items_that_a_broken_run_cancels_are_not_called_interrupted() -> None:
    broken = engine()

    async def bug() -> None:
        raise ZeroDivisionError("oops")

    task = asyncio.ensure_future(bug())
    await asyncio.wait([task])
    broken._ended(cast("asyncio.Task[None]", task))
    assert isinstance(broken.finished.exception(), ZeroDivisionError)
    assert isinstance(broken._limit, InternalError)
    assert "ZeroDivisionError: oops" in str(broken._limit)
