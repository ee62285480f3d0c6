"""Which files of different torrents may be the same: by numbers that both have, if they are, and that say nothing for sure.

The numbers are the same in every run, and the resume store knows complete files by them.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import xxhash

from btfast.metainfo.torrent import Torrent
from btfast.storage.identity import ABSENT
from btfast.storage.layout import Layout
from btfast.storage.messages import Known

WORTHWHILE = 65536  # bytes: a smaller file is fetched as soon as it is found
MOST_FILES = 10_000  # of one torrent that are kept or sought
MOST_HINTS = 16  # torrents, and collections, that a torrent names and that are looked at


def marks_of(torrent: Torrent, file: int) -> list[int]:
    """By which it is found in this run: of its tree (BEP 52), and of its first and last whole pieces.

    The latter only where the other torrent's pieces begin at the same bytes of the file.
    """
    entry = torrent.files[file]
    marks = []
    if entry.pieces_root is not None:
        marks.append(_mark(entry.length, entry.pieces_root))
    size = torrent.piece_length
    if torrent.pieces and entry.length >= size:
        begin = torrent.geometry.file_offset(file)
        first, end = -(-begin // size), (begin + entry.length) // size
        if first < end:
            ends = torrent.pieces[20 * first : 20 * first + 20], torrent.pieces[20 * end - 20 : 20 * end]
            marks.append(_mark(entry.length, size, begin % size, ends))
    return marks


def mark_of_name(layout: Layout, file: int) -> int:
    """What files of the same name and size have, whatever their torrents."""
    return _mark(layout.paths[file][-1], layout.lengths[file])


def are_related(one: Torrent, other: Torrent) -> bool:
    """Whether one calls the other similar, or both belong to a collection (BEP 38)."""
    return (
        any(info_hash in one.similar for info_hash in other.swarm_hashes)
        or any(info_hash in other.similar for info_hash in one.swarm_hashes)
        or not set(one.collections).isdisjoint(other.collections)
    )


def kept_marks(torrent: Torrent, layout: Layout, file: int) -> list[int]:
    """By which a file of this torrent is kept for later runs: its tree, and who its torrent is related to."""
    hints = [(b"is", name) for name in torrent.swarm_hashes] + [(b"names", name) for name in torrent.similar[:MOST_HINTS]]
    return _all(torrent, layout, file, hints)


def sought_marks(torrent: Torrent, layout: Layout, file: int) -> list[int]:
    """By which it is sought among the files of other torrents: those of the ones that are related have them."""
    hints = [(b"is", name) for name in torrent.similar[:MOST_HINTS]] + [(b"names", name) for name in torrent.swarm_hashes]
    return _all(torrent, layout, file, hints)


def _all(torrent: Torrent, layout: Layout, file: int, hints: Iterable[tuple[bytes, bytes]]) -> list[int]:
    name = mark_of_name(layout, file)
    named = [*hints, *((b"collection", name) for name in torrent.collections[:MOST_HINTS])]
    root = torrent.files[file].pieces_root
    roots = [] if root is None else [_mark(layout.lengths[file], root)]
    return roots + [_mark(kind, hint, name) for kind, hint in named]


def marks_to_seek(torrent: Torrent, layout: Layout, wanted: Iterable[int], known: Known | None) -> dict[int, list[int]]:
    """Of the wanted files of which nothing was recorded."""
    absent = (file for file in wanted if worthwhile(layout, file) and (known is None or known.names[file] == ABSENT))
    return {file: sought_marks(torrent, layout, file) for file in islice(absent, MOST_FILES)}


def worthwhile(layout: Layout, file: int) -> bool:
    """Whether it is worth to be looked for elsewhere."""
    return layout.lengths[file] >= WORTHWHILE and file not in layout.pads and layout.wants(file)


def _mark(*parts: object) -> int:
    """64 bits with a sign."""
    return xxhash.xxh3_64_intdigest(repr(parts).encode(errors="backslashreplace")) - (1 << 63)
