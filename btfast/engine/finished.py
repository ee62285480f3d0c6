"""An item of which an earlier run has recorded that it is complete, and whose files are as they were: all is said at once."""

from __future__ import annotations

from collections.abc import Callable

from btfast.engine.control import Add
from btfast.engine.taken import Taken
from btfast.events import Complete, Event, Metadata, Warning
from btfast.metainfo.selection import Selection
from btfast.metainfo.torrent import Torrent

RENAMED_TOLD = 20  # names that are reported one by one


def metadata_of(number: int, torrent: Torrent, selection: Selection) -> Metadata:
    """The event that tells of the torrent behind item `number`."""
    return Metadata(
        id=number, name=torrent.name, info_hash=torrent.info_hash.hex(), size=torrent.total_length,
        files=sum(not file.pad for file in torrent.files), pieces=torrent.piece_count, piece_length=torrent.piece_length,
        private=torrent.private, wanted_files=len(selection.files), wanted_size=selection.total,
    )  # fmt: skip


def introduce(emit: Callable[[Event], None], number: int, torrent: Torrent, selection: Selection) -> None:
    """What is said of every torrent when its metadata is there."""
    emit(metadata_of(number, torrent, selection))
    for original, used in torrent.renamed[:RENAMED_TOLD]:
        emit(Warning(id=number, message=f"the name {original!r} is unsafe or clashes: written as {used!r}"))
    more = len(torrent.renamed) - RENAMED_TOLD
    if more > 0:
        emit(Warning(id=number, message=f"{more} more names are unsafe or clash: `btfast info --json` lists all"))


def finished(emit: Callable[[Event], None], add: Add, torrent: Torrent, taken: Taken) -> None:
    """There is nothing to do. Raises VerificationError where something is not what the torrent means."""
    selection = taken.wanted
    introduce(emit, add.id, torrent, selection)
    taken.tell()
    emit(
        Complete(
            id=add.id, source=add.source, name=torrent.name, info_hash=torrent.info_hash.hex(), directory=add.directory,
            files=[torrent.path_text(file) for file in selection.files], bytes=selection.total,
            downloaded=0, uploaded=0, wasted=0, seconds=1e-6, rate=0.0,
            limited_by="nothing to do",
        )
    )  # fmt: skip
