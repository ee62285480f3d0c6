"""A flag lets all go on who wait for it, and those who gave up waiting leave nothing behind."""

from __future__ import annotations

import asyncio

from btfast.engine.flag import Flag


async def test_all_who_wait_go_on_also_where_it_is_taken_back_at_once() -> None:
    flag = Flag()
    waiting = [asyncio.create_task(flag.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    flag.set()
    flag.clear()
    await asyncio.gather(*waiting)
    late = asyncio.create_task(flag.wait())
    await asyncio.sleep(0)
    assert not late.done()
    flag.set()
    await late
    await flag.wait()  # it is set: nothing to wait for


async def test_who_gives_up_waiting_is_forgotten_and_takes_nobody_along() -> None:
    flag = Flag()
    stays, *leave = [asyncio.create_task(flag.wait()) for _ in range(100)]
    await asyncio.sleep(0)
    for task in leave:
        task.cancel()
    await asyncio.gather(*leave, return_exceptions=True)
    other = asyncio.create_task(flag.wait())
    await asyncio.sleep(0)
    assert len(flag._waiting) == 2
    flag.set()
    await asyncio.gather(stays, other)
