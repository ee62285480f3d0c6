"""Run a tracker."""

from __future__ import annotations

import argparse
import sys

from btfast.cli.command import INTERRUPTED
from btfast.cli.options import OUTPUT, Options
from btfast.cli.text import plural

OPTIONS = ("tracker-bind", "tracker-port", *OUTPUT)
STATUS_INTERVAL = 30.0  # seconds between lines about its load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options only."""


def run(parsed: argparse.Namespace, options: Options) -> int:
    """Serves HTTP announces and scrapes until it is stopped."""
    import asyncio

    return asyncio.run(_serve(options))


async def _serve(options: Options) -> int:
    import asyncio
    import signal

    from btfast.tracker.http import serve

    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    bind, port = options.text("tracker-bind"), options["tracker-port"]
    server = await serve(bind or None, port if isinstance(port, int) else 0)
    try:
        host = f"[{bind}]" if ":" in bind else bind or "0.0.0.0"
        url = f"http://{host}:{server.port}/announce"
        if options["json"]:
            print(f'{{"event":"tracker","v":1,"url":"{url}","port":{server.port}}}', flush=True)
        elif not options["quiet"]:
            print(f"tracker: {url}", flush=True)
        while not stopped.is_set():
            try:
                async with asyncio.timeout(STATUS_INTERVAL):
                    await stopped.wait()
            except TimeoutError:
                if not options["quiet"]:
                    store = server.store
                    load = f"{plural(store.swarms, 'torrent')}, {plural(store.peers, 'peer')}"
                    print(f"btfast: tracker: {load}", file=sys.stderr, flush=True)
    finally:
        await server.close()
    return INTERRUPTED
