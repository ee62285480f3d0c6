"""Entry of the network process, started by the client as `python -m btfast.engine --control-fd N`; not for people."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import signal
import socket

from btfast.engine.engine import Engine


async def _run(control: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    engine = Engine()
    # A terminal's Ctrl-C reaches the caller, which says Stop; whoever sends SIGTERM here means the same.
    loop.add_signal_handler(signal.SIGTERM, engine.stop)
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    await loop.create_unix_connection(lambda: engine, sock=control)
    await engine.finished
    with contextlib.suppress(TimeoutError):  # a caller that does not read what it was told
        async with asyncio.timeout(0.5):
            await engine.gone.wait()
    # Everything is saved and said: taking the interpreter apart, and its threads, would only make the caller wait.
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="btfast engine")
    parser.add_argument("--control-fd", type=int, required=True)
    # What was imported lives for ever; and what a download makes is freed by counting, so cycles are looked for seldom.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    control = socket.socket(fileno=parser.parse_args().control_fd)
    control.setblocking(False)
    try:
        import uvloop
    except ImportError:
        asyncio.run(_run(control))
    else:
        uvloop.run(_run(control))


if __name__ == "__main__":
    main()
