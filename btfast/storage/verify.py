"""What of a torrent's data is right: all of it read and hashed once, and told by file. Nothing is written."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

from btfast._plan import Plan
from btfast._sweep import GOOD, MISSING, SHA1_DIFFERS, SHA256_DIFFERS
from btfast.metainfo.torrent import Torrent
from btfast.storage.presence import Found, Places
from btfast.sweep import Swept, sweep_pieces, sweep_tracks

_TRACK = 16 << 20  # bytes that a run of files has at least, so that few pieces lie across the ends of runs

State = Literal[
    "good", "bad", "missing", "unfinished", "wrong_size", "unreadable", "unverified", "not_a_file"
]
Range = tuple[int, int]  # the first and the last piece


class FileVerdict(NamedTuple):
    """How a file of the torrent stands. `size`: what the torrent says; `found`: what is there, None for no file."""

    path: str  # below the directory
    size: int
    found: int | None
    state: State
    bad: tuple[Range, ...] = ()  # pieces with bytes of it whose data is wrong
    missing: tuple[Range, ...] = ()  # pieces with bytes of it that could not be read as a whole
    reason: str = ""
    sha256: bytes | None = None  # of a good file, where sums were asked for


class Verdict(NamedTuple):
    """How the whole torrent stands."""

    files: tuple[FileVerdict, ...]  # without pad files
    extra: tuple[str, ...]  # what lies among its files and is none of them
    good: int  # pieces
    bad: tuple[Range, ...]
    missing: tuple[Range, ...]
    states: bytes  # a byte a piece, as of Plan
    bytes_read: int
    cold: bool  # whether the disk had to be waited for


def ranges(states: bytes, wanted: int, first: int = 0) -> tuple[Range, ...]:
    """Runs of pieces, the first of them `first`, whose state has one of the `wanted` bits."""
    found: list[Range] = []
    for index, state in enumerate(states, first):
        if state & wanted:
            if found and found[-1][1] == index - 1:
                found[-1] = (found[-1][0], index)
            else:
                found.append((index, index))
    return tuple(found)


def verify(
    torrent: Torrent,
    directory: str,
    *,
    threads: int = 0,
    sums: bool = False,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Verdict:
    """Reads all of it with `threads` (0: one a core). `progress`: pieces done, pieces in all, in the calling thread.

    With `sums` also makes the SHA-256 of each file. OSError when the directory cannot be opened.
    """
    with Places(directory) as places:
        found = [None if file.pad else places.look(_path(torrent, number)) for number, file in enumerate(torrent.files)]
        plan = _plan(torrent, places.root, found, sums=sums)
        swept: list[Swept] = []
        if sums:
            # Runs of files first; then the pieces that no run holds as a whole.
            swept.append(sweep_tracks(plan, list(_tracks(torrent, found)), threads))
        states = plan.states
        rest = [range(first, last + 1) for first, last in _unknown(states)]
        known = plan.piece_count - sum(map(len, rest))
        progress(known, plan.piece_count)
        swept.append(sweep_pieces(plan, rest, threads, lambda done: progress(known + done, plan.piece_count)))
        extra: list[str] = []
        if not torrent.single_file:
            paths = [_path(torrent, number) for number, file in enumerate(torrent.files) if not file.pad]
            extra = places.strangers(torrent.name, paths)
    return _judge(torrent, found, plan, swept, extra, sums=sums)


def _path(torrent: Torrent, number: int) -> tuple[str, ...]:
    return (torrent.name,) if torrent.single_file else (torrent.name, *torrent.files[number].path)


def _plan(torrent: Torrent, root: int, found: Sequence[Found | None], *, sums: bool) -> Plan:
    paths: list[bytes | None] = []
    available: list[int] = []
    for place in found:
        paths.append(None if place is None else place.path)
        available.append(-1 if place is None else place.size)
    return Plan(
        root,
        torrent.piece_length,
        paths,
        [file.length for file in torrent.files],
        available,
        expected_sha1=torrent.pieces,
        sums=sums,
    )


def _tracks(torrent: Torrent, found: Sequence[Found | None]) -> Iterator[tuple[int, int]]:
    """Runs of files that are there as a whole, each of a few pieces at least."""
    least = max(_TRACK, 16 * torrent.piece_length)
    first, size = 0, 0
    for number, (file, place) in enumerate(zip(torrent.files, found, strict=True)):
        whole = place is None or place.size >= file.length
        if not whole or size >= least:
            if size:
                yield first, number
            first, size = number if whole else number + 1, 0
        if whole:
            size += file.length
    if size:
        yield first, len(torrent.files)


def _unknown(states: bytes) -> Iterator[Range]:
    at = states.find(0)
    while at >= 0:
        end = at
        while end + 1 < len(states) and not states[end + 1]:
            end += 1
        yield at, end
        at = states.find(0, end + 1)


def _judge(
    torrent: Torrent, found: Sequence[Found | None], plan: Plan, swept: Sequence[Swept], extra: list[str], *, sums: bool
) -> Verdict:
    states = plan.states
    trouble = {file: (error, offset) for part in swept for file, error, offset in part.problems}
    verdicts = []
    for number, place in enumerate(found):
        if place is not None:
            verdict = _judge_file(torrent, number, place, states, trouble.get(number))
            if sums and verdict.state == "good" and torrent.files[number].symlink is None:
                digest = plan.sum(number) if verdict.size else hashlib.sha256().digest()
                verdict = verdict._replace(sha256=digest)
            verdicts.append(verdict)
    wrong = SHA1_DIFFERS | SHA256_DIFFERS
    return Verdict(
        tuple(verdicts),
        tuple(extra),
        states.count(GOOD),
        ranges(states, wrong),
        ranges(states, MISSING),
        states,
        sum(part.bytes_read for part in swept),
        any(part.cold for part in swept),
    )


def _judge_file(
    torrent: Torrent, number: int, place: Found, states: bytes, trouble: tuple[int, int] | None
) -> FileVerdict:
    file = torrent.files[number]
    path = "/".join(_path(torrent, number))
    pieces = torrent.geometry.file_pieces(number)
    own = states[pieces.start : pieces.stop]
    bad = ranges(own, SHA1_DIFFERS | SHA256_DIFFERS, pieces.start)
    missing = ranges(own, MISSING, pieces.start)
    size = place.size if place.size >= 0 else None

    def verdict(state: State, reason: str = "") -> FileVerdict:
        return FileVerdict(path, file.length, size, state, bad, missing, reason)

    if file.symlink is not None:
        if place.kind != "link":
            return verdict("missing" if place.kind == "missing" else "bad", "a symbolic link belongs there")
        if _leads_to(file.path, place.target, file.symlink):
            return verdict("good")
        return verdict("bad", f"leads to {place.target!r} instead of {'/'.join(file.symlink)!r}")
    if place.kind == "missing":
        return verdict("missing")
    if place.kind in ("link", "other"):
        return verdict("not_a_file", "a link stands in its place" if place.kind == "link" else "it is no regular file")
    if place.kind == "part":
        return verdict("unfinished")
    if place.size != file.length:
        return verdict("wrong_size", f"{place.size} bytes instead of {file.length}")
    if trouble is not None:
        error, offset = trouble
        why = "it became shorter while it was read" if error == 0 else os.strerror(error)
        return verdict("missing" if error == errno.ENOENT else "unreadable", f"at byte {offset}: {why}")
    if bad:
        return verdict("bad")
    if missing:
        return verdict("unverified", "it shares pieces with a file that is not there")
    return verdict("good")


def _leads_to(path: tuple[str, ...], target: str, wanted: tuple[str, ...]) -> bool:
    """Whether a link at `path` with this text leads to `wanted`, both below the torrent's directory, names alone looked at."""
    if target.startswith("/"):
        return False
    at = list(path[:-1])
    for element in target.split("/"):
        if element == "..":
            if not at:
                return False
            at.pop()
        elif element not in ("", "."):
            at.append(element)
    return tuple(at) == wanted
