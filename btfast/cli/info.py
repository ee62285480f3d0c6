"""Print what is in a .torrent or a magnet link."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from btfast.cli.options import OUTPUT, Options
from btfast.cli.text import file_line, plural, printable, size
from btfast.errors import InputError

if TYPE_CHECKING:
    from btfast.metainfo.torrent import Torrent

OPTIONS = ("scrape", *OUTPUT)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="a .torrent file or a magnet link")


def run(parsed: argparse.Namespace, options: Options) -> int:
    """Human-readable lines, or with --json one object with `"event":"info"`."""
    facts = magnet_facts(parsed.source) if parsed.source[:7].lower() == "magnet:" else torrent_facts(parsed.source)
    if options["scrape"]:
        from btfast.cli.scrape import scrape

        hashes = dict.fromkeys(str(facts[key])[:40] for key in ("info_hash", "info_hash_v2") if facts[key])
        facts["swarms"] = scrape(facts["trackers"], [bytes.fromhex(digits) for digits in hashes])  # type: ignore[arg-type]
    if options["json"]:
        import msgspec

        sys.stdout.buffer.write(msgspec.json.encode({"event": "info", "v": 1, **facts}) + b"\n")
        return 0
    for name, value in facts.items():
        if name == "swarms":
            from btfast.cli.scrape import line

            print("swarms:" + "".join(f"\n  {printable(line(swarm))}" for swarm in value))  # type: ignore[attr-defined]
        elif name == "files":
            for file in value:  # type: ignore[attr-defined]
                root = f"  root {file['pieces_root']}" if options["verbose"] and "pieces_root" in file else ""
                print(file_line(file["index"], file["size"], file["path"]) + root)
        elif name != "hybrid" and value not in (None, [], "", False, 0):
            print(f"{name.replace('_', ' ') + ':':<15}{_text(name, value)}")
    return 0


def torrent_facts(path: str) -> dict[str, object]:
    """What the .torrent says; sizes in bytes. Raises InputError, SourceNotFoundError, StorageError."""
    from btfast.client.sources import is_url, read_torrent, shown, stat_torrent
    from btfast.metainfo.torrent import Torrent

    if is_url(path):
        raise InputError(f"{shown(path)}: a URL: download the .torrent first and give its path")
    stat_torrent(path)
    torrent = Torrent.parse(read_torrent(path), what=shown(path))
    return {
        "name": torrent.name,
        "version": torrent.version,
        "info_hash": torrent.info_hash.hex(),
        "info_hash_v2": _hex(torrent.info_hash_v2),
        "size": sum(file.length for file in torrent.files if not file.pad),
        "piece_length": torrent.piece_length,
        "pieces": torrent.piece_count,
        "private": torrent.private,
        "hybrid": torrent.hybrid,
        "missing_piece_layers": len(torrent.hashes.missing),
        "trackers": [list(tier) for tier in torrent.announce_list],
        "web_seeds": list(torrent.url_list),
        "source": torrent.source,
        "comment": torrent.comment,
        "created_by": torrent.created_by,
        "creation_date": torrent.creation_date,
        "renamed": [list(pair) for pair in torrent.renamed],
        "files": _files(torrent),
    }


def magnet_facts(uri: str) -> dict[str, object]:
    """What the link says. Raises InputError."""
    from btfast.metainfo.magnet import Magnet

    magnet = Magnet.parse(uri)
    return {
        "name": magnet.name,
        "info_hash": magnet.info_hash.hex(),
        "info_hash_v2": _hex(magnet.info_hash_v2),
        "trackers": [[url] for url in magnet.trackers],
        "web_seeds": list(magnet.web_seeds),
        "peers": [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in magnet.peers],
    }


def _files(torrent: Torrent) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for index, file in enumerate(torrent.files):
        if not file.pad:
            root = {} if file.pieces_root is None else {"pieces_root": file.pieces_root.hex()}
            found.append({"index": index, "path": str(torrent.file_path(index)), "size": file.length, **root})
    return found


def _hex(digest: bytes | None) -> str | None:
    return None if digest is None else digest.hex()


def _text(name: str, value: object) -> str:
    if name == "trackers":
        return " | ".join(printable(", ".join(tier)) for tier in value)  # type: ignore[attr-defined]
    if name == "renamed":
        return printable(plural(len(value), "name")) + " changed to be safe here"  # type: ignore[arg-type]
    if name in ("size", "piece_length"):
        return f"{size(value)} ({value} bytes)"  # type: ignore[arg-type]
    if name == "creation_date":
        try:
            return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(value))  # type: ignore[arg-type]
        except (ValueError, OverflowError, OSError):
            return str(value)
    if isinstance(value, list):
        return ", ".join(printable(str(entry)) for entry in value)
    return "yes" if value is True else printable(str(value))
