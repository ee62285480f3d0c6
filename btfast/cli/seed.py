"""Serve data that is complete, until stopped or a limit is reached."""

from __future__ import annotations

import argparse

from btfast.cli.options import NETWORK, OUTPUT, Options

OPTIONS = ("data", "jobs", "peer", "check", "super-seed", *NETWORK, *OUTPUT)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("torrents", nargs="+", metavar="TORRENT", help="a .torrent file whose data is complete")


def run(parsed: argparse.Namespace, options: Options) -> int:
    from btfast.client.launch import launch_fork

    network = launch_fork()
    try:
        from btfast.cli.settings import settings_of, shows_details
        from btfast.engine.control import Configure, encode

        settings = settings_of(options)
        network.send(encode(Configure(settings, details=shows_details(options))))

        from btfast.cli.run import Item, run_items
        from btfast.metainfo.addresses import parse_host_port

        peers = [parse_host_port(peer) for peer in options.texts("peer")]
        items = [Item(torrent, options.text("data"), peers, seed=True) for torrent in parsed.torrents]
        return run_items(settings, items, options, network)
    finally:
        network.close()
