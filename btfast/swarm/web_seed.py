"""One web seed of a torrent: what it has, how it fares, and when it may be asked again. No socket, no clock.

A web seed is a peer that is always unchoked and has everything (BEP 19), until it turns out otherwise: a file that is not
there (404), that has another size, or whose bytes do not match the hashes is not asked for any more, and the rest still is.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from btfast._bitfield import Bitfield
from btfast.metainfo.geometry import Geometry
from btfast.metainfo.reach import Reach

WIDEST = 4  # connections to one seed
LONG_WAY = 0.01  # seconds to an answer from which on one connection is taken to be too few
FAST = 64 << 20  # bytes a second above which one connection more is of no use
FIRST_WAIT = 1.0  # seconds after a failure, doubled with each that follows
LONGEST_WAIT = 300.0
BUSY_WAIT = 10.0  # seconds after a 503 that does not say how long
MOST_RETRY_AFTER = 3600.0
HOPELESS = 4  # failures in a row after which nothing is expected of it any more
STRANGE = 3  # answers that break the protocol before it is given up
TWICE = 2  # pieces of one file that came wrong: then the file is not the one that the torrent means
BROKEN = 3  # errors of the server in a row over one file: then the others are tried without it
MOST_MOVED = 4096  # files whose place is kept; the others are asked for where the seed itself has them
WRONG_FILES = 3  # wrong files, and none right, before the whole seed is given up


class Lacks(Protocol):
    """The picker, as far as it is told what a seed has."""

    def peer_lacks(self, peer: int, index: int, count: int = 1) -> None: ...


class Place(NamedTuple):
    """A URL, and how near the host is that redirected us there: None where no redirect led to it."""

    url: str
    before: Reach | None = None


class WebSeed:
    """`number` names it to the picker. `by_piece`: it speaks BEP 17, else BEP 19. `named`: the user named it."""

    def __init__(
        self, number: int, url: str, geometry: Geometry, picker: Lacks, *, by_piece: bool = False, named: bool = False
    ) -> None:  # fmt: skip
        self.number = number
        self.url = url
        self.by_piece = by_piece
        self.named = named
        self._geometry = geometry
        self._picker = picker
        self.have = Bitfield.full(geometry.piece_count)
        self.lacking: dict[int, str] = {}  # files that it does not have, and why
        self.stale: dict[int, str] = {}  # files that it has in another version, and how that shows
        self.newly_lost: list[int] = []  # files of both; whoever tells of them clears it
        self.moved: dict[int, Place] = {}  # where files were redirected to
        self.base = Place(url)  # below which files are, as the last redirect showed
        self.validators: dict[int, bytes] = {}  # what If-Range says of files
        self.remembered: set[int] = set()  # files whose validator is of an earlier run
        self.changed: set[int] = set()  # files that are other ones than in an earlier run; whoever tells it clears it
        self.unsettled: set[int] = set()  # files that changed while they were fetched
        self.broken: dict[int, int] = {}  # files: errors of the server in a row
        self.modified: dict[int, bytes] = {}  # Last-Modified of files
        self.newly_dated: list[int] = []  # files of it; whoever looks at them clears it
        self.ranges = True  # it answers requests for a part with that part
        self.pipelines = False  # it answers requests that are sent before the last answer has come
        self._closes = False  # it was seen to close connections under such requests
        self.gone = ""  # why it is not used for this torrent any more
        self.trouble = ""  # what went wrong last
        self.failures = 0  # in a row
        self._strange = 0
        self.ready_at = 0.0
        self.latency = 0.0  # seconds from a request to its answer, the shortest so far; 0: not known yet
        self._wrong: dict[int, set[int]] = {}  # files: pieces that came wrong
        self._failed: dict[int, int] = {}  # pieces that came wrong: how often
        self._right: set[int] = set()  # files with a right piece of its own from here
        self.received = 0  # bytes of whole blocks

    def ready(self, now: float) -> bool:
        """Whether it may be asked now."""
        return not self.gone and now >= self.ready_at and not self.have.none()

    @property
    def exhausted(self) -> bool:
        """Nothing is expected of it any more, though it may be asked again where others go on."""
        return bool(self.gone) or self.failures >= HOPELESS or self.have.none()

    def width(self, rate: float, lanes: int) -> int:
        """How many connections are right now, `rate` (bytes a second) coming over `lanes` of them.

        On a short path one connection fills the link; on a long one its window does not.
        """
        if not self.ranges or self.failures:
            return 1
        if self.latency > LONG_WAY:
            return WIDEST
        return lanes if lanes and rate > FAST * lanes else min(WIDEST, lanes + 1)

    # What happens

    def keep_moved(self, file: int, place: Place) -> None:
        """It redirects to there; the oldest of too many is forgotten."""
        self.moved.pop(file, None)
        if len(self.moved) >= MOST_MOVED:
            del self.moved[next(iter(self.moved))]
        self.moved[file] = place

    def handle_progress(self, count: int) -> None:
        """Whole blocks came, so many bytes."""
        self.received += count
        self.failures = 0
        self._strange = 0

    def handle_kept(self, *, kept: bool) -> None:
        """A connection was kept open after an answer, or closed: then more requests on it would be lost, and the answer too."""
        self._closes = self._closes or not kept
        self.pipelines = self.ranges and not self._closes

    def handle_answered(self, seconds: float) -> None:
        """A request that had nothing before it was answered so soon."""
        self.latency = min(self.latency or seconds, seconds)

    def handle_failure(self, now: float, why: str) -> None:
        """A connection was refused, broken, or silent for too long."""
        self.trouble = why
        self.failures += 1
        self.ready_at = max(self.ready_at, now + min(LONGEST_WAIT, FIRST_WAIT * 2 ** (self.failures - 1)))

    def handle_busy(self, now: float, why: str, retry_after: float | None) -> None:
        """It asks for patience (503, 429), for so many seconds if it says so."""
        self.trouble = why
        wait = BUSY_WAIT if retry_after is None else min(max(retry_after, FIRST_WAIT), MOST_RETRY_AFTER)
        self.ready_at = max(self.ready_at, now + wait)

    def handle_strange(self, now: float, why: str) -> None:
        """It answered what breaks the protocol; after STRANGE times it is gone."""
        self._strange += 1
        self.handle_failure(now, why)
        if self._strange >= STRANGE:
            self.drop(why)

    def handle_broken(self, file: int, why: str) -> bool:
        """The server failed over this file. True when it is given up for that: others are left that it may have."""
        self.broken[file] = errors = self.broken.get(file, 0) + 1
        own = self._geometry.file_pieces(file)
        if errors < BROKEN or not any(self.have[index] for index in range(len(self.have)) if index not in own):
            return False
        self.handle_missing(file, why)
        return True

    def handle_missing(self, file: int, why: str) -> None:
        """It does not have this file; without the last one it is gone."""
        self.trouble = why
        self._lose(file, why, self.lacking)

    def handle_stale(self, file: int, why: str) -> None:
        """It has another version of this file."""
        self.trouble = why
        self._lose(file, why, self.stale)

    def _lose(self, file: int, why: str, losses: dict[int, str]) -> None:
        if file in self.lacking or file in self.stale:
            return
        losses[file] = why
        self.newly_lost.append(file)
        pieces = self._geometry.file_pieces(file)
        if any(self.have[index] for index in pieces):
            self._picker.peer_lacks(self.number, pieces.start, len(pieces))
        if self.have.none():
            self.drop(why)

    def drop(self, why: str) -> None:
        """It is not used for this torrent any more."""
        self.gone = self.gone or why

    def handle_right(self, index: int) -> None:
        """A piece that came from here alone has the right hash."""
        spans = self._geometry.piece_spans(index)
        if len(spans) == 1:
            self._right.add(spans[0].file)
            self._wrong.pop(spans[0].file, None)

    def handle_wrong(self, index: int, newer: frozenset[int] | set[int] = frozenset()) -> list[int]:
        """A piece that came from here alone has the wrong hash. The files that are taken for stale now.

        One wrong piece may be a fault on the way, and is fetched once more. `newer`: files that were changed after the
        torrent was made.
        """
        self._failed[index] = again = self._failed.get(index, 0) + 1
        files = [file for file, _, _ in self._geometry.piece_spans(index)]
        suspects = [file for file in files if file in newer]
        if not suspects:
            suspects = [file for file in files if file not in self._right] or files
        found = []
        for file in suspects:
            wrong = self._wrong.setdefault(file, set())
            wrong.add(index)
            if len(wrong) >= TWICE or again >= TWICE:
                found.append(file)
        return found

    @property
    def hopelessly_wrong(self) -> bool:
        """So much of it is wrong, and nothing right, that the rest is not worth trying."""
        return len(self.stale) >= WRONG_FILES and not self._right
