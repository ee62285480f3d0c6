"""One torrent's entry in the resume store: which files changed since it was recorded, and what may be claimed of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from errno import ENOENT
from itertools import islice
from typing import NamedTuple

from btfast._bitfield import Bitfield
from btfast.engine.likeness import MOST_FILES, kept_marks, worthwhile
from btfast.errors import RemoteError
from btfast.metainfo.addresses import PeerAddress, decode_both, encode_both
from btfast.metainfo.torrent import Torrent
from btfast.storage.identity import ABSENT, CHANGED, FINAL, UNFINISHED, Identity
from btfast.storage.layout import Layout, Opened
from btfast.storage.messages import Alike, FileSeen, Known, PartialPiece, PartsSeen, Row, TakenFile
from btfast.swarm.pieces import Pieces


def key_of(torrent: Torrent) -> bytes:
    """What the store knows a torrent by, whichever its version: the SHA-256 of its info dict."""
    return hashlib.sha256(torrent.info_raw).digest()


MOST_PEERS = 100
MOST_TRACKERS = 20


THERE = 1  # in the place of when a file was made: before this run


class Figures(NamedTuple):
    """Of this run: payload bytes; addresses of good peers; trackers that answered."""

    uploaded: int
    downloaded: int
    peers: list[PeerAddress]
    trackers: list[str]


class _Seen(NamedTuple):
    """What is to be recorded of a file: its name; whether to make it durable; which it was, None: the one that is there then."""

    name: int
    sync: bool
    identity: Identity | None = None


class TorrentRecord:
    """`changed` is called when something is to be recorded; `figures()` gives what else is.

    A piece is claimed only when the files that it lies in are made durable with the row that claims it.
    """

    def __init__(
        self, torrent: Torrent, layout: Layout, pieces: Pieces, known: Known | None,
        figures: Callable[[], Figures], changed: Callable[[TorrentRecord], None],
    ) -> None:  # fmt: skip
        self.number = layout.torrent
        self._torrent = torrent
        self._key = key_of(torrent)
        self._layout = layout
        self._pieces = pieces
        self._known = known
        self._figures = figures
        self._changed = changed
        self._seen: dict[int, _Seen] = {}  # files that changed
        self._last: dict[int, _Seen] = {}  # those of the row that was made last
        self._final: set[int] = set()
        self._unsure: set[int] = set()  # files of which bytes were lost on their way to the disk
        self._opened: dict[int, Opened] = {}  # which files the workers write into
        self._taken = {taken.file: taken for taken in (known.taken if known is not None else ())}
        self._unfinished = UNFINISHED if layout.suffix else FINAL
        self._ended = False
        self._news = False  # whether a file may be complete that was not, or was not recorded
        self.partial: Callable[[], list[PartialPiece]] = list
        self.complete = False  # every file has its final name

    @property
    def trackers(self) -> list[str]:
        """Those that answered an earlier run."""
        return self._known.trackers if self._known is not None else []

    def uploaded(self) -> int:
        """Payload bytes in this run and all before it."""
        return self._figures().uploaded + (self._known.uploaded if self._known is not None else 0)

    def peers(self) -> list[PeerAddress]:
        """Those that an earlier run was connected to; nobody but its trackers names peers of a private torrent (BEP 27)."""
        if self._known is None or not self._known.peers or self._torrent.private:
            return []
        try:
            return decode_both(self._known.peers)[:MOST_PEERS]
        except RemoteError:
            return []

    def begin(self, final: set[int], trusted: set[int], found: set[int], identities: dict[int, Identity]) -> None:
        """What a look at the disk has brought. `found`: files that are there, `final` of them under their final names.

        `trusted`: those that are as they were recorded. The others may still be on their way to the disk. `identities`: which
        files they were before the look: of one that somebody else has changed since nothing is claimed, and one that is gone
        when it is written into took what is right of it along.
        """
        self._final = set(final)
        self._opened = {file: Opened(identity.inode, THERE) for file, identity in identities.items()}
        self._news = bool(found - trusted)
        for file in found - trusted:
            name = FINAL if file in final else self._unfinished
            self._seen[file] = _Seen(name, True, identities[file]._replace(name=name))
        if self._known is not None:
            for file, name in enumerate(self._known.names):
                if name in (ABSENT, CHANGED) and file not in found:
                    self._seen[file] = _Seen(ABSENT, False)
        if self._layout.in_parts and (self._known is None or self._known.parts is None):
            parts = self._layout.parts_file
            self._seen[parts] = _Seen(FINAL, True, identities.get(parts))
        if self._seen:
            self._changed(self)

    def handle_written(self, index: int) -> None:
        """A piece, or something of it, was written or soon will be."""
        layout = self._layout
        for file in layout.geometry.piece_files(index):
            if file not in layout.pads and file not in self._final and layout.wants(file):
                self._seen[file] = _Seen(self._unfinished, True)
        if layout.keeps(index):
            self._seen[layout.parts_file] = _Seen(FINAL, True)
        self._changed(self)

    def handle_finished(self, file: int, identity: Identity | None) -> None:
        """It is durable under its final name. `identity`: as a worker has seen it then; None for a link."""
        self._final.add(file)
        self._news = True
        self._seen[file] = _Seen(FINAL, False, identity)
        self._changed(self)

    def handle_taken(self, taken: TakenFile, identity: Identity) -> None:
        """It has its final name, and is not what the torrent means: pieces with bytes of it are here no more."""
        self._taken[taken.file] = taken
        self.handle_finished(taken.file, identity)

    def handle_demoted(self, file: int) -> None:
        """It has lost its final name."""
        self._final.discard(file)
        self._seen[file] = _Seen(self._unfinished, True)
        self._changed(self)

    def handle_gone(self, file: int) -> None:
        """It is not there under either name."""
        self._final.discard(file)
        self._seen[file] = _Seen(ABSENT, False)
        self._changed(self)

    def handle_written_into(self, opened: dict[int, Opened]) -> int | None:
        """Which files a worker has written into. Returns one that was another when pieces were written before; they are lost."""
        for file, now in opened.items():
            before = self._opened.setdefault(file, now)
            if now.inode != before.inode or (now.made and before.made and now.made != before.made):
                self.handle_unsure(file)
                return file
            if now.made:  # who made it may be heard later than who found it there
                self._opened[file] = now
        return None

    def handle_reopened(self, file: int) -> None:
        """All workers open it anew, and what was in it is written again."""
        self._opened.pop(file, None)

    def handle_unsure(self, file: int) -> None:
        """Something of it is not as it was verified."""
        self._unsure.add(file)
        self._changed(self)

    def handle_failed(self, file: int, errno: int) -> bool:
        """It could not be made durable. False where it has only moved meanwhile; else nothing in it is claimed any more."""
        if errno == ENOENT and file in self._final:
            return False
        self._unsure.add(file)
        self._changed(self)
        return errno != ENOENT

    def repeat(self) -> None:
        """The row that was made last was not recorded."""
        self._seen = self._last | self._seen
        self._last = {}
        self._changed(self)

    def ends(self) -> bool:
        """The torrent will not change any more: whether there is something to record at last."""
        if self._ended:
            return False
        self._ended = True
        if self._seen:
            return True
        figures = self._figures()
        return bool(figures.uploaded or figures.downloaded)

    def row(self, used: int, *, busy: bool) -> Row:
        """What is to be recorded now; `used`: seconds since 1970; `busy`: pieces of it are being written."""
        layout, figures = self._layout, self._figures()
        self._last, self._seen = self._seen, {}
        if busy and not self._ended:  # their times are recorded when they rest
            self._seen = {file: seen for file, seen in self._last.items() if seen.sync}
            self._changed(self)
        have = self._pieces.have
        if self._unsure or self._taken or layout.in_parts:
            have = have.copy()  # what is in the parts file alone is recorded with that
            for index in layout.in_parts:
                have.clear(index)
            for file in self._taken:
                for index in layout.geometry.file_pieces(file):
                    have.clear(index)
            for file in self._unsure:
                self._last[file] = _Seen(ABSENT, False)
                for index in layout.geometry.file_pieces(file) if file != layout.parts_file else ():
                    have.clear(index)
        before = self._known
        return Row(
            torrent=self.number, key=self._key, directory=layout.directory, count=len(layout.paths),
            complete=self.complete and have.all(), have=have.to_bytes(),
            files=[
                FileSeen(file, self._path(file, seen.name), seen.name, seen.sync, busy and seen.sync, seen.identity)
                for file, seen in sorted(self._last.items())
            ],
            partial=self.partial(), parts=self._parts(), taken=list(self._taken.values()),
            alike=self._alike() if self._ended and self._news else [],
            uploaded=figures.uploaded + (before.uploaded if before is not None else 0),
            downloaded=figures.downloaded + (before.downloaded if before is not None else 0),
            peers=encode_both([] if self.complete else figures.peers or self.peers()),
            trackers=(figures.trackers or self.trackers)[:MOST_TRACKERS], used=used,
        )  # fmt: skip

    def _alike(self) -> list[Alike]:
        """Files that other torrents may have, too."""
        layout, have = self._layout, self._pieces.have
        complete = (
            file
            for file in sorted(self._final - self._taken.keys() - self._unsure)
            if worthwhile(layout, file) and all(have[index] for index in layout.geometry.file_pieces(file))
        )
        return [
            Alike(file, self._path(file, FINAL), kept_marks(self._torrent, layout, file))
            for file in islice(complete, MOST_FILES)
        ]

    def _parts(self) -> PartsSeen | None:
        layout = self._layout
        if not layout.in_parts or layout.parts_file in self._unsure:
            return None
        pieces, wanted = Bitfield(layout.geometry.piece_count), Bitfield(len(layout.paths))
        for index in layout.in_parts:
            if not any(file in self._unsure for file in layout.geometry.piece_files(index)):
                pieces.set(index)
        for file in filter(layout.wants, range(len(layout.paths))):
            wanted.set(file)
        return PartsSeen(pieces.to_bytes(), wanted.to_bytes())

    def _path(self, file: int, name: int) -> str:
        if file == self._layout.parts_file:
            return os.path.basename(self._layout.path(file))
        path = "/".join(self._layout.paths[file])
        return path if name == FINAL else path + self._layout.suffix
