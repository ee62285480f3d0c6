"""Print the magnet link of a .torrent."""

from __future__ import annotations

import argparse

from btfast.cli.options import OUTPUT, Options

OPTIONS = OUTPUT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("torrent", metavar="TORRENT", help="a .torrent file")


def run(parsed: argparse.Namespace, options: Options) -> int:
    from btfast.client.sources import read_torrent, shown, stat_torrent
    from btfast.metainfo.torrent import Torrent

    stat_torrent(parsed.torrent)
    uri = Torrent.parse(read_torrent(parsed.torrent), what=shown(parsed.torrent)).magnet().uri()
    if options["json"]:
        import json

        uri = json.dumps({"event": "magnet", "v": 1, "uri": uri})
    print(uri)
    return 0
