"""An item of which an earlier run has recorded that it is complete, and whose files are as they were: all is said at once."""

from __future__ import annotations

from collections.abc import Callable

from btfast.engine.control import Add
from btfast.events import Complete, Event, Metadata, Warning
from btfast.metainfo.torrent import Torrent


def metadata_of(number: int, torrent: Torrent) -> Metadata:
    """The event that tells of the torrent behind item `number`."""
    return Metadata(
        id=number, name=torrent.name, info_hash=torrent.info_hash.hex(), size=torrent.total_length,
        files=len(torrent.files), pieces=torrent.piece_count, piece_length=torrent.piece_length, private=torrent.private,
    )  # fmt: skip


def introduce(emit: Callable[[Event], None], number: int, torrent: Torrent) -> None:
    """What is said of every torrent when its metadata is there."""
    emit(metadata_of(number, torrent))
    for original, used in torrent.renamed:
        emit(Warning(id=number, message=f"the name {original!r} is unsafe or clashes: written as {used!r}"))


def finished(emit: Callable[[Event], None], add: Add, torrent: Torrent) -> None:
    """There is nothing to do."""
    introduce(emit, add.id, torrent)
    files = [file for file in torrent.files if not file.pad]
    emit(
        Complete(
            id=add.id, source=add.source, name=torrent.name, info_hash=torrent.info_hash.hex(), directory=add.directory,
            files=[torrent.name] if torrent.single_file else ["/".join((torrent.name, *file.path)) for file in files],
            bytes=torrent.total_length, downloaded=0, uploaded=0, wasted=0, seconds=1e-6, rate=0.0,
            limited_by="nothing to do",
        )
    )  # fmt: skip
