"""Entry of the network process, started by the client as `python -m btfast.engine FD`; not for people.

The workers are started first, as soon as the settings are here: this process has no thread and no loop yet.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

if __name__ == "__main__":  # msgspec does without it, and is loaded 7 ms sooner
    sys.modules["typing_extensions"] = None  # type: ignore[assignment]

from btfast._arena import Arena
from btfast.engine.budget import arena_budget, worker_count
from btfast.engine.control import read_configure
from btfast.engine.worker_start import StartedWorker, start_workers
from btfast.process_name import name_process

if TYPE_CHECKING:
    from btfast.engine.control import Configure


async def _run(control: socket.socket, configure: Configure, arena: Arena, started: list[StartedWorker]) -> None:
    import asyncio

    from btfast.engine.engine import Engine

    loop = asyncio.get_running_loop()
    engine = Engine(configure.settings, arena, started, details=configure.details)
    # A terminal's Ctrl-C reaches the caller, which says Stop; whoever sends SIGTERM here means the same.
    loop.add_signal_handler(signal.SIGTERM, engine.stop)
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    # What was imported lives for ever; and most of what a download makes is freed by counting, so cycles are looked for
    # seldom: of 500 small torrents they hold 40,000 objects in all, and a look costs 10 ms.
    gc.freeze()
    await loop.create_unix_connection(lambda: engine, sock=control)
    await engine.finished
    with contextlib.suppress(TimeoutError):  # a caller that does not read what it was told
        async with asyncio.timeout(0.5):
            await engine.gone.wait()
    # Everything is saved and said: taking the interpreter apart, and its threads, would only make the caller wait.
    os._exit(0)


def serve(descriptor: int) -> None:
    """Does what the caller at the other end of this control stream asks until it is told to stop, or the caller is gone."""
    name_process("btfast-engine")
    gc.set_threshold(200_000, 20, 20)
    control = socket.socket(fileno=descriptor)
    configure = read_configure(control)
    if configure is None:  # the caller is gone already
        return
    settings = configure.settings
    arena = Arena.create(arena_budget(settings.memory))
    started = start_workers(arena, worker_count(settings.workers))
    control.setblocking(False)
    try:
        import uvloop
    except ImportError:
        import asyncio

        asyncio.run(_run(control, configure, arena, started))
    else:
        uvloop.run(_run(control, configure, arena, started))


if __name__ == "__main__":
    serve(int(sys.argv[1]))
