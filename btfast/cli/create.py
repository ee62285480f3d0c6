"""Make a .torrent of a file or a folder."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from btfast.cli.command import INTERRUPTED
from btfast.cli.options import OUTPUT, Options
from btfast.cli.text import duration, plural, printable, rate, size
from btfast.errors import InputError, StorageError

if TYPE_CHECKING:
    from btfast.metainfo.create import Recipe
    from btfast.metainfo.torrent import Torrent

OPTIONS = (
    "torrent-version", "piece-size", "tracker", "web-seed", "http-seed", "node", "private", "source", "comment", "name",
    "similar", "collection", "update-url", "date", "mtime", "attributes", "dot-hidden", "align", "leave-out",
    "follow-links", "torrent-file", "force", "workers", *OUTPUT,
)  # fmt: skip
PROGRESS_INTERVAL = 0.25  # seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="a file, or a folder with all that is in it")


def run(parsed: argparse.Namespace, options: Options) -> int:
    """Writes NAME.torrent into the working directory, or where it was told to."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    recipe = _recipe(options)
    target = _target(parsed.path, recipe, options)
    workers = options["workers"]
    if not isinstance(workers, int):
        workers = 0
    if not 0 <= workers <= 256:
        raise InputError(f"{options.spelled('workers')}: {workers}: give 1 to 256, or 0 for one a core")
    from btfast.metainfo.torrent import Torrent

    try:
        torrent = Torrent.parse(_make(parsed.path, recipe, workers, options), what=target)
    except KeyboardInterrupt:
        print(f"btfast: error: {printable(parsed.path)}: interrupted: nothing was written", file=sys.stderr)
        return INTERRUPTED
    if target == "-":
        sys.stdout.buffer.write(torrent.raw)
        return 0
    write(target, torrent.raw, force=bool(options["force"]))
    _tell(torrent, target, time.monotonic() - started, options)
    return 0


def write(path: str, data: bytes, *, force: bool) -> None:
    """The file as a whole, durable, or nothing. Raises InputError where there is one and not `force`, StorageError."""
    draft = f"{path}.{os.getpid()}.part"
    try:
        with open(draft, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if force:
            os.replace(draft, path)
        else:
            _place(draft, path)
    except FileExistsError:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise _exists(path) from None
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise StorageError(f"{path}: cannot be written: {error.strerror}: choose another with -o") from error


def _place(draft: str, path: str) -> None:
    """Gives the draft its name. FileExistsError where somebody else has put something there meanwhile."""
    try:
        os.link(draft, path)  # unlike a rename it never replaces what is there
    except FileExistsError:
        raise
    except OSError:  # a file system without links: the name is taken before it is replaced
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        os.replace(draft, path)
    else:
        os.unlink(draft)


def _exists(path: str) -> InputError:
    return InputError(f"{path}: exists: give another with -o FILE, or --force to replace it")


def _recipe(options: Options) -> Recipe:
    from btfast.config import parse_size
    from btfast.metainfo.create import Recipe

    def text(name: str) -> str:
        return options.text(name)

    return Recipe(
        version=text("torrent-version") or "1",  # type: ignore[arg-type]
        piece_length=parse_size(text("piece-size") or 0),
        name=text("name"),
        announce_list=tuple(tuple(tier.replace(",", " ").split()) for tier in options.texts("tracker")),
        url_list=tuple(options.texts("web-seed")),
        httpseeds=tuple(options.texts("http-seed")),
        nodes=tuple(options.texts("node")),
        private=bool(options["private"]),
        source=text("source"),
        comment=text("comment"),
        similar=_info_hashes(options.texts("similar")),
        collections=tuple(options.texts("collection")),
        update_url=text("update-url"),
        creation_date=_date() if options["date"] else None,
        mtime=bool(options["mtime"]),
        attributes=options["attributes"] is not False,
        dot_hidden=bool(options["dot-hidden"]),
        align=bool(options["align"]),
        exclude=tuple(options.texts("leave-out")),
        follow_links=bool(options["follow-links"]),
    )


def _info_hashes(texts: Sequence[str]) -> tuple[bytes, ...]:
    """From info-hashes, or the .torrent files that have them."""
    from btfast.metainfo.magnet import Magnet
    from btfast.metainfo.torrent import Torrent

    return tuple(
        Torrent.load(text).info_hash if text.endswith(".torrent") else Magnet.from_info_hash(text).info_hash
        for text in texts
    )


def _date() -> int:
    """Now, or what reproducible builds say that it is."""
    told = os.environ.get("SOURCE_DATE_EPOCH", "")
    return int(told) if told.isascii() and told.isdigit() else int(time.time())


def _target(path: str, recipe: Recipe, options: Options) -> str:
    """Where the .torrent goes; it is told before anything is hashed when it cannot be."""
    absolute = os.path.abspath(path)
    target = options.text("torrent-file") or f"{recipe.name or os.path.basename(absolute)}.torrent"
    if target == "-":
        if options["json"]:
            raise InputError("--json: its lines would mix with the .torrent on stdout: give a file with -o")
        return target
    if os.path.isdir(target):
        raise InputError(f"{target}: a folder: give the name of a file with -o")
    if os.path.exists(target) and os.path.exists(absolute) and os.path.samefile(target, absolute):
        raise InputError(f"{target}: is what the torrent is to be made of: give another name with -o FILE")
    if os.path.lexists(target) and not options["force"]:
        raise _exists(target)
    folder = os.path.dirname(os.path.abspath(target))
    if os.path.isdir(absolute) and os.path.commonpath([os.path.realpath(folder), os.path.realpath(absolute)]) == (
        os.path.realpath(absolute)
    ):
        raise InputError(f"{target}: would be in the folder that it is made of: give another place with -o FILE")
    if not os.access(folder, os.W_OK):
        raise StorageError(f"{folder}: cannot be written: choose another with -o FILE")
    return target


def _make(path: str, recipe: Recipe, workers: int, options: Options) -> bytes:
    from btfast.cli.reporters import reporters_of
    from btfast.cli.totals import Totals
    from btfast.events import Progress
    from btfast.metainfo.create import create_torrent

    totals = Totals(1)
    totals.names[0] = os.path.basename(os.path.abspath(path))
    reporters = reporters_of(options, totals)
    started = due = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal due
        now = time.monotonic()
        if now < due:
            return
        due = now + PROGRESS_INTERVAL
        pace = done / max(now - started, 0.001)
        event = Progress(
            id=0, state="hashing", done=done, total=total, rate_down=pace, rate_up=0.0, peers=0, seeds=0,
            eta=(total - done) / pace if pace else None,
        )  # fmt: skip
        totals.handle_event(event)
        for reporter in reporters:
            reporter.handle_event(event)
            reporter.poll(now)

    try:
        return create_torrent(path, recipe, threads=workers, progress=progress)
    finally:
        for reporter in reporters:
            reporter.close()


def _tell(torrent: Torrent, target: str, seconds: float, options: Options) -> None:
    total = sum(file.length for file in torrent.files if not file.pad)
    if torrent.renamed and not options["quiet"]:
        names = plural(len(torrent.renamed), "name")
        print(f"btfast: warning: {names} will be changed where it is downloaded to be safe there", file=sys.stderr)
    if options["json"]:
        import msgspec

        facts = {
            "event": "created", "v": 1, "path": target, "name": torrent.name, "info_hash": torrent.info_hash.hex(),
            "info_hash_v2": torrent.info_hash_v2.hex() if torrent.info_hash_v2 is not None else None,
            "magnet": torrent.magnet().uri(), "size": total, "files": sum(not file.pad for file in torrent.files),
            "pieces": torrent.piece_count, "piece_length": torrent.piece_length, "seconds": seconds,
        }  # fmt: skip
        sys.stdout.buffer.write(msgspec.json.encode(facts) + b"\n")
    elif not options["quiet"]:
        pieces = f"{plural(torrent.piece_count, 'piece')} of {size(torrent.piece_length)}"
        pace = rate(total / seconds) if seconds else "at once"
        print(f"{printable(target)}: {size(total)}, {pieces}, info-hash {torrent.info_hash.hex()}, "
              f"in {duration(seconds)}, {pace}")  # fmt: skip
