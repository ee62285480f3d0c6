"""What the answers of a web server mean for the seed and for what was asked: taken, asked again elsewhere, or lost.

Servers lie, change, move and lose files. Every answer is held against the torrent before a byte of it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import urljoin

from btfast.metainfo.fields import MAX_URL_BYTES
from btfast.metainfo.geometry import BLOCK, Geometry
from btfast.metainfo.reach import Reach
from btfast.metainfo.web_files import WebFiles, piece_url
from btfast.swarm.pieces import Pieces
from btfast.swarm.web_range import PAD, WebRange
from btfast.swarm.web_seed import Place, WebSeed
from btfast.wire.http import UNKNOWN, Head, content_range

REDIRECTS = 5
_REDIRECTING = frozenset((301, 302, 303, 307, 308))
_BUSY = frozenset((408, 425, 429, 500, 502, 503, 504))
_BROKEN = frozenset((500, 502, 504))
_PAGES = (".html", ".htm", ".xhtml", ".shtml")  # files that may be pages themselves
_ABSENT = frozenset((401, 402, 403, 404, 406, 410, 451))


class Ask:
    """One request: bytes of a file, or of a piece (BEP 17), for a part of a range."""

    __slots__ = (
        "again", "before", "cached", "came", "expected", "file", "first", "left", "piece", "place", "range", "redirects",
        "url", "validator", "zeros",
    )  # fmt: skip

    def __init__(self, one: WebRange, file: int, first: int, length: int, *, piece: int = -1) -> None:
        self.range = one
        self.file = file  # PAD where it is asked by piece
        self.piece = piece
        self.first = first  # in the file or the piece: the next byte
        self.left = length
        self.zeros = 0  # bytes of pad files that follow
        self.came = 0  # bytes of the present answer
        self.expected = 0  # bytes that the present answer still holds; 0: not known
        self.again = False  # it is to be asked once more
        self.redirects = 0
        self.cached = False  # we asked where earlier redirects led, and not the seed itself
        self.place: Place | None = None  # where the seed itself leads this request
        self.url = ""
        self.before: Reach | None = None  # how near the host is that redirected us to the URL
        self.validator = b""


class Verdict(NamedTuple):
    """`accepted`: the body is what was asked for, behind `skip` bytes; `whole`: it goes on to the file's end.

    Else `moved`: ask again, `lost`: the seed has less than before, or another version, `failed`: the connection is of no
    more use, `body`: look at the body as well.
    """

    accepted: bool = False
    skip: int = 0
    whole: bool = False
    length: int = UNKNOWN
    moved: bool = False
    broken: bool = False  # it may be this one file that the server fails at
    lost: bool = False
    failed: bool = False
    body: bool = False
    why: str = ""
    retry_after: float | None = None


class Following(NamedTuple):
    """Where the whole of a file goes on: nothing more of use in it, bytes to skip, or a piece to take, or one under way from
    `block` on; `bytes` are passed over where it cannot be taken.
    """

    nothing: bool = False
    skip: int = 0
    piece: int = -1
    block: int = -1
    bytes: int = 0


class Verdicts:
    """For the web seeds of one torrent. `lengths`: of its files."""

    def __init__(self, geometry: Geometry, pieces: Pieces, lengths: list[int], files: WebFiles, info_hash: bytes) -> None:
        self._geometry = geometry
        self._pieces = pieces
        self._lengths = lengths
        self._files = files
        self._info_hash = info_hash

    def locate(self, seed: WebSeed, ask: Ask) -> str:
        """Sets where to ask, and who led there; of the URL the part that others chose, and not we."""
        if seed.by_piece:
            size = self._geometry.piece_size(ask.piece)
            base, ask.before = seed.base
            if not ask.redirects:
                ask.cached = base != seed.url
            ask.url = piece_url(base, self._info_hash, ask.piece, ask.first, ask.left, size)
            return base
        ask.url, ask.before = ask.place or self.place(seed, ask.file)
        if ask.place is None:
            ask.cached = ask.url != self._files.url(seed.url, ask.file)
        return ask.url

    def place(self, seed: WebSeed, file: int) -> Place:
        """Where a seed has a file."""
        found = seed.moved.get(file)
        return found or Place(self._files.url(seed.base.url, file), seed.base.before)

    def headers(self, seed: WebSeed, ask: Ask) -> str:
        """The lines of a request that say which part is wanted."""
        ask.validator = b""
        if seed.by_piece or (ask.first == 0 and ask.left == self._lengths[ask.file]):
            return ""
        lines = f"Range: bytes={ask.first}-{ask.first + ask.left - 1}\r\n"
        ask.validator = seed.validators.get(ask.file, b"")
        if ask.validator:
            lines += f"If-Range: {ask.validator.decode('ascii')}\r\n"
        return lines

    def of(self, seed: WebSeed, ask: Ask, head: Head, now: float, reach: Reach) -> Verdict:
        """The meaning of an answer of a host so near; the seed is told."""
        verdict = self._meaning(seed, ask, head, now, reach)
        if verdict.accepted:
            ask.redirects, ask.place = 0, None
            seed.broken.pop(ask.file, None)
        return verdict

    def _meaning(self, seed: WebSeed, ask: Ask, head: Head, now: float, reach: Reach) -> Verdict:
        status = head.status
        said = f"HTTP {status} {_printable(head.reason)}".rstrip()
        if status in (200, 206) and head.coded:
            return self._lose(seed, ask, "sends it compressed, which it was asked not to")
        if status == 200:
            return self._piece(seed, ask, head, now) if seed.by_piece else self._all(seed, ask, head, now)
        if status == 206:
            return self._piece(seed, ask, head, now) if seed.by_piece else self._part(seed, ask, head, now)
        if status in _REDIRECTING:
            return self._redirected(seed, ask, head, said, reach)
        if status == 416 and not seed.by_piece:
            found = content_range(head)
            there = f" ({found.total} bytes there)" if found is not None and found.total != UNKNOWN else ""
            return self._stale(seed, ask, f"is shorter there than in the torrent{there}")
        if status in _BUSY:
            wait = retry_after(head)
            return Verdict(body=True, why=said, retry_after=wait, broken=status in _BROKEN and wait is None)
        if status in _ABSENT or 400 <= status < 500:
            return self._lose(seed, ask, said)
        seed.handle_failure(now, said)
        return Verdict(failed=True, why=said)

    def busy(self, seed: WebSeed, ask: Ask, verdict: Verdict, body: bytes, now: float) -> None:
        """The body of an answer that asks for patience: by BEP 17 it says for how many seconds."""
        if verdict.broken and ask.file != PAD and seed.handle_broken(ask.file, verdict.why):
            return
        wait = verdict.retry_after
        text = body.strip()
        if wait is None and seed.by_piece and text.isdigit() and len(text) < 8:
            wait = float(text)
        seed.handle_busy(now, verdict.why, wait)

    def following(self, ask: Ask, next_block: Callable[[int, int], int]) -> Following:
        """What to do with the rest of a whole file from `ask.first` on. `next_block(piece, block)`: the next one of a piece
        under way that nobody is asked for, or -1.
        """
        start = self._geometry.file_offset(ask.file)
        end = start + self._lengths[ask.file]
        at = start + ask.first
        piece_length = self._geometry.piece_length
        index, begin = divmod(at, piece_length)
        block = next_block(index, begin // BLOCK) if begin % BLOCK == 0 else -1
        if block >= 0 and (there := index * piece_length + block * BLOCK) < end:
            if there > at:
                return Following(skip=there - at)
            return Following(piece=index, block=block, bytes=min(BLOCK, end - at))
        index = -(-at // piece_length)
        wanted = self._pieces.next_wanted(index)
        if wanted < 0 or wanted * piece_length >= end:
            return Following(nothing=True)
        if wanted * piece_length > at:
            return Following(skip=wanted * piece_length - at)
        return Following(piece=wanted, bytes=min(self._geometry.piece_size(wanted), end - at))

    def _all(self, seed: WebSeed, ask: Ask, head: Head, now: float) -> Verdict:
        total = self._lengths[ask.file]
        if head.length != total and head.is_page and not self._files.url(seed.url, ask.file).lower().endswith(_PAGES):
            return self._lose(seed, ask, "sends a web page instead")
        if head.length not in (UNKNOWN, total):
            return self._stale(seed, ask, f"is {head.length} bytes there, and {total} in the torrent")
        if ask.validator and ask.validator != head.validator:
            return self._changed(seed, ask, head)
        self._remember(seed, ask, head)
        if ask.first == 0 and ask.left == total:
            return Verdict(accepted=True, length=head.length)
        seed.ranges = seed.pipelines = False
        return Verdict(accepted=True, skip=ask.first, whole=True)

    def _part(self, seed: WebSeed, ask: Ask, head: Head, now: float) -> Verdict:
        found = content_range(head)
        if found is None or found.first < 0:
            return self._strange(seed, now, "does not say which part of a file it sends")
        if found.total not in (UNKNOWN, self._lengths[ask.file]):
            total = self._lengths[ask.file]
            return self._stale(seed, ask, f"is {found.total} bytes there, and {total} in the torrent")
        if found.first != ask.first or found.last >= ask.first + ask.left:
            return self._strange(seed, now, "sends another part of a file than it was asked for")
        length = found.last - found.first + 1
        if head.length not in (UNKNOWN, length):
            return self._strange(seed, now, "lies about the length of its answer")
        before = seed.validators.get(ask.file, b"")
        if before and head.validator != before:
            return self._changed(seed, ask, head)
        self._remember(seed, ask, head)
        return Verdict(accepted=True, length=length)

    def _changed(self, seed: WebSeed, ask: Ask, head: Head) -> Verdict:
        """Another version, or another server of several with the same name: asked for anew, and held against the hashes.

        Where it changes twice, what the servers say of it is of no use, and only the hashes count.
        """
        told = ask.file in seed.remembered
        if told:
            seed.remembered.discard(ask.file)
            seed.changed.add(ask.file)
        seed.validators[ask.file] = head.validator if told or ask.file not in seed.unsettled else b""
        if not told:
            seed.unsettled.add(ask.file)
        ask.again = True
        return Verdict(moved=True, lost=told, why="changed")

    def _piece(self, seed: WebSeed, ask: Ask, head: Head, now: float) -> Verdict:
        if head.length != ask.left and head.is_page:
            return self._strange(seed, now, "sends a web page instead of a piece")
        if head.length not in (UNKNOWN, ask.left):
            return self._strange(seed, now, f"sends {head.length} bytes where {ask.left} were asked for")
        return Verdict(accepted=True, length=head.length)

    def _redirected(self, seed: WebSeed, ask: Ask, head: Head, said: str, reach: Reach) -> Verdict:
        value = head.headers.get(b"location", b"")
        if len(value) > MAX_URL_BYTES:
            return self._lose(seed, ask, f"{said}, to an address of {len(value)} bytes, more than the {MAX_URL_BYTES} allowed")
        location = value.decode("utf-8", "replace").strip()
        try:
            url = urljoin(ask.url, location).partition("#")[0] if location else ""
        except ValueError:
            url = ""
        if not url.lower().startswith(("http://", "https://")) or not url.isprintable():
            return self._lose(seed, ask, f"{said}, to something that is no web address")
        ask.redirects += 1
        if ask.redirects > REDIRECTS:
            return self._lose(seed, ask, f"redirects more than {REDIRECTS} times")
        # All lanes go there from now on: who led there counts for each of them, and so does who led to him.
        before = reach if ask.before is None else max(reach, ask.before)
        if seed.by_piece:
            seed.base = Place(url.partition("info_hash=")[0].rstrip("?&"), before)
        else:
            suffix = self._files.suffix(seed.url, ask.file)
            if suffix and url.endswith(suffix) and ask.file not in seed.moved:
                seed.base = Place(url.removesuffix(suffix), before)
            else:
                seed.keep_moved(ask.file, Place(url, before))
            ask.place = Place(url, before)
        ask.again = True
        return Verdict(moved=True, why=said)

    def _asks_origin(self, seed: WebSeed, ask: Ask) -> bool:
        """Whether the seed itself is asked, after a refusal where its earlier redirects led.

        Those may hold for a few minutes only (signed URLs), and where its neighbours went was but a guess for this file.
        """
        if not ask.cached:
            return False
        ask.cached, ask.again, ask.redirects = False, True, 0
        if seed.by_piece:
            if ask.url.startswith(seed.base.url):
                seed.base = Place(seed.url)
            return True
        ask.place = Place(self._files.url(seed.url, ask.file))
        seed.keep_moved(ask.file, ask.place)
        return True

    def _remember(self, seed: WebSeed, ask: Ask, head: Head) -> None:
        seed.validators.setdefault(ask.file, head.validator)
        if ask.file not in seed.modified:
            seed.newly_dated.append(ask.file)
        seed.modified[ask.file] = head.headers.get(b"last-modified", b"")[:64]

    def _lose(self, seed: WebSeed, ask: Ask, why: str) -> Verdict:
        if self._asks_origin(seed, ask):
            return Verdict(moved=True, why=why)
        if seed.by_piece:
            seed.drop(why)
        else:
            seed.handle_missing(ask.file, why)
        return Verdict(lost=True, why=why)

    def _stale(self, seed: WebSeed, ask: Ask, why: str) -> Verdict:
        if self._asks_origin(seed, ask):
            return Verdict(moved=True, why=why)
        seed.handle_stale(ask.file, why)
        return Verdict(lost=True, why=why)

    def _strange(self, seed: WebSeed, now: float, why: str) -> Verdict:
        seed.handle_strange(now, why)
        return Verdict(failed=True, lost=bool(seed.gone), why=why)

    def asks_of(self, seed: WebSeed, one: WebRange) -> tuple[int, list[Ask]]:
        """The requests for a range, and how many bytes of pad files stand before the first."""
        if seed.by_piece:
            return 0, [
                Ask(one, PAD, begin, length, piece=index) for index, begin, length in one.pieces
            ]
        lead, asks = 0, []
        for file, first, length in one.parts:
            if file != PAD:
                asks.append(Ask(one, file, first, length))
            elif asks:
                asks[-1].zeros += length
            else:
                lead += length
        return lead, asks


def retry_after(head: Head) -> float | None:
    """Seconds that the server asks for, None where it does not say. A date counts from the server's own clock."""
    value = head.headers.get(b"retry-after", b"").strip()
    if value.isdigit():
        return float(value[:9])
    try:
        then = parsedate_to_datetime(value.decode("ascii", "replace"))
        now = parsedate_to_datetime(head.headers.get(b"date", b"").decode("ascii", "replace"))
        return max(0.0, (then - now).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None


def _printable(value: bytes) -> str:
    text = value[:60].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else " " for c in text).strip()
