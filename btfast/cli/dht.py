"""Run a DHT node that others can begin with; `get-peers HASH`, `get TARGET`, `put VALUE` look up or store once."""

from __future__ import annotations

import argparse
import sys

from btfast.cli.command import INTERRUPTED
from btfast.cli.options import OUTPUT, Options
from btfast.cli.text import plural
from btfast.errors import InputError, RemoteError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio

    from btfast.cli.dht_items import Get, Put
    from btfast.config import Settings
    from btfast.discovery.dht.events import Event, SearchEnded
    from btfast.engine.dht import Dht

OPTIONS = ("port", "bind", "dht-bootstrap", "state", *OUTPUT)
STATUS_INTERVAL = 30.0  # seconds between lines about the node
LOOK_UP_SECONDS = 60.0
NO_ANSWER_SECONDS = 15.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words", nargs="*", metavar="get-peers HASH | get TARGET | put VALUE",
        help="look up the peers of an info-hash, or a stored value (by 40 hexadecimal digits, or by its owner's public key of "
        "64), or store a value of at most 1000 bytes (-: standard input), and end",
    )  # fmt: skip
    parser.add_argument(
        "--key", metavar="FILE", help="put: the private key of a value that can be changed later; made when it is not there"
    )
    parser.add_argument("--salt", default="", help="get, put: tells apart the values of one key")


def run(parsed: argparse.Namespace, options: Options) -> int:
    """Serves until it is stopped, or looks up once."""
    import asyncio

    words = parsed.words
    if not words:
        return asyncio.run(_serve(options))
    if len(words) == 2 and words[0] == "get-peers":
        return asyncio.run(_look_up(_info_hash(words[1]), options))
    if len(words) == 2 and words[0] in ("get", "put"):
        from btfast.cli.dht_items import Get, Put

        task = Get(words[1], parsed.salt) if words[0] == "get" else Put(words[1], parsed.salt, parsed.key)
        return asyncio.run(_item(task, options))
    raise InputError(
        f"dht: {' '.join(words)}: not understood: write `btfast dht`, or one of `get-peers HASH`, `get TARGET`, `put VALUE`"
    )


def _info_hash(text: str) -> bytes:
    from btfast.metainfo.magnet import Magnet

    magnet = Magnet.parse(text) if text.lower().startswith("magnet:") else Magnet.from_info_hash(text)
    return magnet.info_hash


class _Process:
    """What a node needs of the process around it."""

    def __init__(self, settings: Settings, loop: asyncio.AbstractEventLoop, port: int) -> None:
        from btfast.engine.resolve import Resolver
        from btfast.engine.udp import UdpSockets

        self.settings = settings
        self.loop = loop
        self.port = port
        self.resolver = Resolver(loop)
        self.udp = UdpSockets(self)

    def close(self) -> None:
        self.udp.close()
        self.resolver.close()


def _warn(message: str) -> None:
    from btfast.cli.text import printable

    print(f"btfast: warning: {printable(message)}", file=sys.stderr, flush=True)


def _open(options: Options, *, read_only: bool) -> tuple[_Process, Dht]:
    """A node that has begun to look for others. Raises StorageError where no socket can be had."""
    import asyncio

    from btfast.cli.settings import settings_of
    from btfast.engine.dht import Dht
    from btfast.errors import StorageError

    settings = settings_of(options)
    process = _Process(settings, asyncio.get_running_loop(), 0 if read_only else settings.port)
    dht = Dht(process, _warn, read_only=read_only)
    if not dht.start():
        process.close()
        raise StorageError(f"dht: {process.udp.problem}: choose another --bind or --port")
    return process, dht


async def _serve(options: Options) -> int:
    import asyncio
    import signal

    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    process, dht = _open(options, read_only=False)
    try:
        _print_addresses(process, options)
        while not stopped.is_set():
            try:
                async with asyncio.timeout(STATUS_INTERVAL):
                    await stopped.wait()
            except TimeoutError:
                _print_status(process, dht, options)
    finally:
        await dht.close()
        process.close()
    return INTERRUPTED


def _print_addresses(process: _Process, options: Options) -> None:
    from btfast.metainfo.addresses import PeerAddress

    bind = process.settings.bind
    hosts = {False: bind or "0.0.0.0", True: bind or "::"}
    addresses = [str(PeerAddress(hosts[v6], port)) for v6 in (False, True) if (port := process.udp.port(v6=v6))]
    if options["json"]:
        _print_json({"event": "dht", "addresses": addresses})
    elif not options["quiet"]:
        print(f"dht: {', '.join(addresses)}", flush=True)


def _print_status(process: _Process, dht: Dht, options: Options) -> None:
    node = dht.node
    assert node is not None
    now = process.loop.time()
    tables = [(name, table) for name, v6 in (("nodes", False), ("nodes6", True)) if (table := node.table(v6=v6))]
    figures: dict[str, object] = {name: len(table) for name, table in tables}
    figures |= {f"good_{name}": len(table.good(now)) for name, table in tables}
    figures |= {
        "hashes": node.peers.hashes, "peers": len(node.peers), "items": len(node.items), "queries": node.queries,
        "dropped": node.dropped,
    }  # fmt: skip
    if options["json"]:
        _print_json({"event": "dht_status", **figures})
    elif not options["quiet"]:
        known = ", ".join(f"{len(table)} {name} ({len(table.good(now))} good)" for name, table in tables)
        held = f"{plural(len(node.peers), 'peer')} of {plural(node.peers.hashes, 'torrent')}"
        print(f"btfast: dht: {known}; {held}; {node.queries} queries answered", file=sys.stderr, flush=True)


def _print_json(event: dict[str, object]) -> None:
    import msgspec

    print(msgspec.json.encode({"v": 1, **event}).decode(), flush=True)


class _LookUp:
    """engine.dht.Listener: prints each peer as it comes."""

    def __init__(self, options: Options, loop: asyncio.AbstractEventLoop) -> None:
        self._options = options
        self.found = 0
        self.ended: asyncio.Future[SearchEnded | None] = loop.create_future()

    def dht_found(self, event: Event) -> None:
        for peer in getattr(event, "peers", []):
            self.found += 1
            if self._options["json"]:
                _print_json({"event": "dht_peer", "address": str(peer)})
            else:
                print(peer, flush=True)

    def dht_ended(self, event: SearchEnded | None) -> None:
        if not self.ended.done():
            self.ended.set_result(event)


async def _look_up(info_hash: bytes, options: Options) -> int:
    """Prints the peers; those who ask need not be nodes that others ask (BEP 43)."""
    import asyncio

    process, dht = _open(options, read_only=True)
    loop = process.loop
    try:
        deadline = loop.time() + NO_ANSWER_SECONDS
        end = None
        while end is None or not end.answers:
            listener = _LookUp(options, loop)
            if dht.find_peers(info_hash, listener, scrape=True):
                async with asyncio.timeout(LOOK_UP_SECONDS):
                    end = await listener.ended
            if loop.time() > deadline or dht.hopeless:
                break
            if end is None or not end.answers:
                await asyncio.sleep(1.0)
    except TimeoutError:
        end = None
    finally:
        await dht.close()
        process.close()
    if end is None or not end.answers:
        raise RemoteError("dht: no node has answered: check the network, or name a node with --dht-bootstrap HOST:PORT")
    return _report(info_hash, end, options)


async def _item(task: Get | Put, options: Options) -> int:
    """Gets or puts one value."""
    import asyncio

    process, dht = _open(options, read_only=True)
    try:
        async with asyncio.timeout(LOOK_UP_SECONDS):
            result = await task.run(dht, process.loop)
    except TimeoutError:
        raise RemoteError("dht: no answer for a minute: try again later") from None
    finally:
        await dht.close()
        process.close()
    if options["json"]:
        _print_json(result.event)
    else:
        sys.stdout.buffer.write(result.printed)
        sys.stdout.buffer.flush()
        if not options["quiet"]:
            print(f"btfast: dht: {result.said}", file=sys.stderr, flush=True)
    return 0


def _report(info_hash: bytes, end: SearchEnded, options: Options) -> int:
    if options["json"]:
        _print_json(
            {
                "event": "dht_lookup", "info_hash": info_hash.hex(), "peers": end.found, "questions": end.questions,
                "answers": end.answers, "hops": end.hops, "seconds": end.seconds, "scrape_seeds": end.seeds,
                "scrape_peers": end.peers,
            }
        )  # fmt: skip
    elif not options["quiet"]:
        counted = ""
        if end.seeds is not None and end.peers is not None:
            counted = f"; in all about {end.seeds:.0f} seeds and {end.peers:.0f} other peers"
        asked = f"{end.answers} of {plural(end.questions, 'node')} answered in {end.seconds:.1f} s"
        print(f"btfast: dht: {plural(end.found, 'peer')}; {asked}{counted}", file=sys.stderr, flush=True)
    if not end.found:
        raise RemoteError(f"dht: nobody has announced {info_hash.hex()}: try again later, or a tracker")
    return 0
