"""Run a tracker."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from btfast.cli.command import INTERRUPTED
from btfast.cli.options import OUTPUT, Options
from btfast.cli.text import plural
from btfast.errors import InputError, SourceNotFoundError

if TYPE_CHECKING:
    from btfast.tracker.access import Access
    from btfast.tracker.server import TrackerServer

OPTIONS = ("tracker-bind", "tracker-port", "interval", "expiry", "whitelist", "keys", *OUTPUT)
STATUS_INTERVAL = 30.0  # seconds between lines about its load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options only."""


def run(parsed: argparse.Namespace, options: Options) -> int:
    """Serves announces and scrapes over HTTP and UDP until it is stopped."""
    import asyncio

    try:
        import uvloop
    except ImportError:
        return asyncio.run(_serve(options))
    return uvloop.run(_serve(options))


async def _serve(options: Options) -> int:
    import asyncio
    import signal

    from btfast.tracker.server import serve
    from btfast.tracker.store import Limits

    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    bind, port, interval = options.text("tracker-bind"), _number(options, "tracker-port"), _number(options, "interval")
    if port not in range(65536):
        raise InputError(f"{options.spelled('tracker-port')}: {port}: not a port: give 0 to 65535")
    access = read_access(options)
    limits = None
    if options.given("expiry"):
        expiry = _number(options, "expiry")
        if expiry <= interval:
            raise InputError(f"--expiry {expiry}: shorter than the interval of {interval} s: give more")
        limits = Limits(expiry=float(expiry))
    server = await serve(bind or None, port, interval=interval, limits=limits, access=access)

    def read_again() -> None:
        try:
            server.access.replace(read_access(options))
        except InputError as error:
            print(f"btfast: warning: {error}: the lists stay as they were", file=sys.stderr, flush=True)

    if options["whitelist"] or options["keys"]:
        loop.add_signal_handler(signal.SIGHUP, read_again)
    try:
        _announce(server, bind, options)
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


def _announce(server: TrackerServer, bind: str, options: Options) -> None:
    """Says where it can be reached."""
    host = f"[{bind}]" if ":" in bind else bind or "0.0.0.0"
    key = "KEY/" if server.access.keys is not None else ""
    url, udp = (f"{scheme}://{host}:{server.port}/{key}announce" for scheme in ("http", "udp"))
    if options["json"]:
        print(f'{{"event":"tracker","v":1,"url":"{url}","udp":"{udp}","port":{server.port}}}', flush=True)
    elif not options["quiet"]:
        print(f"tracker: {url}\ntracker: {udp}", flush=True)


def read_access(options: Options) -> Access:
    """Who may use the tracker, from the files that the options name. InputError when they cannot be read."""
    from btfast.tracker.access import Access, parse_keys, parse_whitelist

    whitelist, keys = options.text("whitelist"), options.text("keys")
    return Access(
        parse_whitelist(_read(whitelist, "--whitelist"), whitelist) if whitelist else None,
        parse_keys(_read(keys, "--keys"), keys) if keys else None,
    )


def _read(path: str, option: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except FileNotFoundError:
        raise SourceNotFoundError(f"{option} {path}: no such file: check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not text"
        raise InputError(f"{option} {path}: cannot be read: {why}: correct it") from None


def _number(options: Options, name: str) -> int:
    value = options[name]
    return value if isinstance(value, int) else 0
