"""Which files of a torrent are wanted and in what order, and what follows from that for its pieces (BEP 53).

`Wanted` is what somebody asked for, before the torrent is known; `Selection` what that means for one torrent.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Self, TypedDict

import msgspec

from btfast.errors import InputError
from btfast.metainfo.globs import matcher

if TYPE_CHECKING:
    from btfast.metainfo.torrent import Torrent

SKIP, LOW, NORMAL, HIGH, FIRST = range(5)  # FIRST: the first and last pieces of files, where those are asked for first
LEVELS = {"low": LOW, "normal": NORMAL, "high": HIGH}
END = 2**31 - 1  # of a range that has none

_RANGE = re.compile(r"(\d{1,9})(?:(-)(\d{1,9})?)?")
_LISTED = 5  # globs that a message repeats

Range = tuple[int, int]  # first and last, both included


class WantedKeywords(TypedDict, total=False):
    """How callers say what they want of a torrent: see Wanted.of."""

    files: Iterable[int | str] | str
    select: Iterable[str] | str
    exclude: Iterable[str] | str
    priorities: Mapping[str, str] | Iterable[tuple[str, str]]
    sequential: bool
    first_last: bool


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Files by index or glob; all where neither says anything. What `exclude` names is not wanted whatever else does."""

    files: tuple[Range, ...] = ()
    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    priorities: tuple[tuple[str, str], ...] = ()  # (glob, one of LEVELS); of those that name a file the last one counts
    sequential: bool = False  # pieces in their order
    first_last: bool = False  # the first and the last piece of each file before all others

    @classmethod
    def of(
        cls,
        *,
        files: Iterable[int | str] | str = (),
        select: Iterable[str] | str = (),
        exclude: Iterable[str] | str = (),
        priorities: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        sequential: bool = False,
        first_last: bool = False,
    ) -> Self:
        """From what people write: `files` as indices or texts such as "0,3-7", globs one or several. Raises InputError."""
        ranges: list[Range] = []
        for item in [files] if isinstance(files, str) else files:
            ranges += parse_ranges(item) if isinstance(item, str) else [(item, item)]
        pairs = tuple(priorities.items() if isinstance(priorities, Mapping) else priorities)
        made = cls(
            files=tuple(ranges), select=_several(select), exclude=_several(exclude), priorities=pairs,
            sequential=sequential, first_last=first_last,
        )  # fmt: skip
        for glob, level in pairs:
            if level not in LEVELS:
                raise InputError(f"priority {glob}={level}: no such priority: use {', '.join(LEVELS)}", glob=glob)
        for first, last in ranges:
            if not 0 <= first <= last:
                raise InputError(f"files {first}-{last}: not indices of files: they begin at 0")
        matcher((*made.select, *made.exclude, *(glob for glob, _ in pairs)))
        return made


def parse_ranges(text: str) -> list[Range]:
    """`0,3-7,12-` as first and last of each range; the last one has no end. Raises InputError."""
    found = []
    for item in text.split(","):
        match = _RANGE.fullmatch(item.strip())
        if match is None or (match[3] and int(match[3]) < int(match[1])):
            raise InputError(f"files {text[:80]!r}: {item[:40]!r} is not an index or a range: write 0,3-7", text=text)
        found.append((int(match[1]), int(match[3]) if match[3] else END if match[2] else int(match[1])))
    return found


def parse_priority(text: str) -> tuple[str, str]:
    """`GLOB=high` as a pair; the level is checked later. Raises InputError."""
    glob, equals, level = text.rpartition("=")
    if not equals or not glob:
        raise InputError(f"priority {text[:80]!r}: not understood: write GLOB=high, GLOB=normal or GLOB=low", text=text)
    return glob, level


class Selection:
    """What is wanted of one torrent, but for the files `without`. Raises InputError where nothing is, or a file is named that
    it does not have.

    `levels`: SKIP to HIGH of each file. `partial`: some file is not wanted. `total`: bytes of what is.
    `piece_levels`: SKIP to FIRST of each piece, None where all are wanted alike.
    """

    __slots__ = ("_mixed", "_torrent", "levels", "partial", "piece_levels", "sequential", "total")

    def __init__(self, torrent: Torrent, wanted: Wanted | None = None, without: Collection[int] = ()) -> None:
        wanted = wanted or Wanted()
        self._torrent = torrent
        self.sequential = wanted.sequential
        self.levels = bytes((NORMAL,)) * len(torrent.files)
        self.partial = False
        self.total = torrent.total_length
        self.piece_levels: bytes | None = None
        self._mixed: dict[int, int] = {}
        if wanted.files or wanted.select or wanted.exclude or wanted.priorities or without:
            self._choose(wanted, without)
        if len(set(self.levels)) > 1 or wanted.first_last:
            self.piece_levels = self._spread(first_last=wanted.first_last)

    def wants(self, file: int) -> bool:
        """Whether file number `file` is wanted; pad files are where all is."""
        return self.levels[file] != SKIP

    @property
    def files(self) -> list[int]:
        """The wanted files, pad files left out."""
        files = self._torrent.files
        return [number for number, level in enumerate(self.levels) if level != SKIP and not files[number].pad]

    def piece_bytes(self, index: int) -> int:
        """Bytes of wanted files in piece `index`."""
        if self.piece_levels is not None and self.piece_levels[index] == SKIP:
            return 0
        mixed = self._mixed.get(index)
        return self._torrent.geometry.piece_size(index) if mixed is None else mixed

    def _choose(self, wanted: Wanted, without: Collection[int]) -> None:
        torrent = self._torrent
        files = torrent.files
        root = "" if torrent.single_file else f"{torrent.name}/"
        paths = [root + "/".join(file.path) for file in files]
        levels = bytearray(SKIP if wanted.files or wanted.select else NORMAL for _ in files)
        for first, last in wanted.files:
            if first >= len(files):
                raise InputError(
                    f"{torrent.name}: has no file {first}: its files are 0 to {len(files) - 1}, see `btfast info`",
                    file=first,
                )
            end = min(last + 1, len(files))
            levels[first:end] = bytes((NORMAL,)) * (end - first)
        _mark(levels, paths, wanted.select, root, NORMAL)
        for level, run in groupby(wanted.priorities, key=lambda pair: LEVELS[pair[1]]):
            _mark(levels, paths, [glob for glob, _ in run], root, level, also=False)
        _mark(levels, paths, wanted.exclude, root, SKIP)
        for number in without:
            levels[number] = SKIP
        real = [level for level, file in zip(levels, files, strict=True) if not file.pad]
        if not any(real):
            raise InputError(f"{torrent.name}: no file is wanted: {_told(wanted)}: see `btfast info`")
        self.partial = SKIP in real
        for number, file in enumerate(files):
            if file.pad:
                levels[number] = SKIP if self.partial else LOW
        self.levels = bytes(levels)
        if self.partial:
            self.total = sum(file.length for level, file in zip(levels, files, strict=True) if level)
            self._find_mixed()

    def _find_mixed(self) -> None:
        """Pieces that hold bytes of wanted files and others: each has an end of a run of wanted files in it."""
        geometry, levels = self._torrent.geometry, self.levels
        for first, last in self._runs(lambda level: level != SKIP):
            for index in (geometry.file_pieces(first)[0], geometry.file_pieces(last)[-1]):
                if index not in self._mixed:
                    spans = geometry.piece_spans(index)
                    self._mixed[index] = sum(length for file, _, length in spans if levels[file] != SKIP)

    def _spread(self, *, first_last: bool) -> bytes:
        """Each piece gets the highest level of the files in it."""
        geometry = self._torrent.geometry
        pieces = bytearray(geometry.piece_count)
        for wanted in (LOW, NORMAL, HIGH):
            for first, last in self._runs(wanted.__eq__):
                begin, end = geometry.file_pieces(first)[0], geometry.file_pieces(last)[-1] + 1
                pieces[begin:end] = bytes((wanted,)) * (end - begin)
        if first_last:
            for file in self.files:
                held = geometry.file_pieces(file)
                if held:
                    pieces[held[0]] = pieces[held[-1]] = FIRST
        return bytes(pieces)

    def _runs(self, belongs: object) -> Iterator[Range]:
        """First and last of each row of neighbouring files with bytes whose levels `belongs` takes."""
        files = self._torrent.files
        held = ((number, level) for number, level in enumerate(self.levels) if files[number].length)
        for taken, row in groupby(held, key=lambda pair: belongs(pair[1])):  # type: ignore[operator]
            if taken:
                numbers = [number for number, _ in row]
                yield numbers[0], numbers[-1]


def _mark(
    levels: bytearray, paths: Sequence[str], globs: Sequence[str], root: str, level: int, *, also: bool = True
) -> None:
    """Gives the files that a glob names the level; with `also` those that are not wanted, too."""
    if globs:
        named = matcher(globs, root)
        for number, path in enumerate(paths):
            if (also or levels[number]) and named(path):
                levels[number] = level


def _told(wanted: Wanted) -> str:
    said = [
        f"{kind} {glob!r}" for kind, globs in (("select", wanted.select), ("exclude", wanted.exclude)) for glob in globs
    ]
    return ", ".join(said[:_LISTED]) or "only pad files are named"


def _several(globs: Iterable[str] | str) -> tuple[str, ...]:
    return (globs,) if isinstance(globs, str) else tuple(globs)
