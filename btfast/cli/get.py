"""Download torrents; exits when everything is complete and verified."""

from __future__ import annotations

import argparse
import os
import sys

from btfast.cli.options import NETWORK, OUTPUT, SELECTION, Options
from btfast.errors import InputError, SourceNotFoundError, StorageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btfast.cli.run import Item
    from btfast.metainfo.selection import WantedKeywords

OPTIONS = (
    "output", "input", "jobs", "peer", "web-seed", "accept-stale", *SELECTION, "check", "reuse", "in-place", "metadata-only",
    "dry-run", *NETWORK, *OUTPUT,
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = "a .torrent file, the http(s) URL of one, a magnet link, an info-hash"
    parser.add_argument("sources", nargs="*", metavar="SOURCE", help=what)


def run(parsed: argparse.Namespace, options: Options) -> int:
    if not parsed.sources and not options.texts("input"):
        raise InputError("get: no source: give a .torrent file, a URL, a magnet link, or a list with -i FILE")
    if options["dry-run"]:
        from btfast.cli.dry_run import dry_run

        return dry_run(read_items(parsed.sources, options), options)

    from btfast.client.launch import launch_fork

    network = launch_fork()
    try:
        from btfast.cli.settings import settings_of, shows_details
        from btfast.engine.control import Configure, encode

        settings = settings_of(options)
        network.send(encode(Configure(settings, details=shows_details(options))))

        from btfast.cli.run import run_items

        return run_items(settings, read_items(parsed.sources, options), options, network)
    finally:
        network.close()


def read_items(sources: list[str], options: Options) -> list[Item]:
    """The sources of the command line, then those of the lists. Raises InputError or StorageError."""
    from btfast.cli.run import Item
    from btfast.client.sources import each_of
    from btfast.metainfo.addresses import parse_host_port

    peers = [parse_host_port(peer) for peer in options.texts("peer")]
    directory = options.text("output")
    found = [(source, directory) for source in sources]
    for path in options.texts("input"):
        found += [(source, where or directory) for source, where in parse_list(read_list(path))]
    only = bool(options["metadata-only"])
    servers = options.texts("web-seed")
    wanted = wanted_of(options)
    return [
        Item(each, where, peers, metadata_only=only, web_seeds=servers, wanted=wanted)
        for source, where in found
        for each in each_of(source)
    ]


def wanted_of(options: Options) -> WantedKeywords:
    """What the options say of files and their order. Raises InputError."""
    from btfast.metainfo.selection import Wanted, parse_priority

    wanted: WantedKeywords = {
        "files": options.texts("files"),
        "select": options.texts("select"),
        "exclude": options.texts("exclude"),
        "priorities": [parse_priority(text) for text in options.texts("priority")],
        "sequential": bool(options["sequential"]),
        "first_last": bool(options["first-last"]),
    }
    Wanted.of(**wanted)
    return wanted


def read_list(path: str) -> str:
    """Text of a list; `-` is stdin."""
    try:
        if path == "-":
            return sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        raise SourceNotFoundError(f"{path}: no such list: check the path") from None
    except IsADirectoryError:
        raise InputError(f"{path}: a directory: give a file with one source a line") from None
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}: check its permissions") from error


def parse_list(text: str) -> list[tuple[str, str]]:
    """(source, directory or "") of each line; empty lines and those that start with # are skipped."""
    found = []
    for line in text.splitlines():
        source, _, directory = line.strip().partition("\t")
        if source and not source.startswith("#"):
            found.append((source.strip(), os.path.expanduser(directory.strip())))
    return found
