"""What of a torrent's data is right: all of it read and hashed once, and told by file. Nothing is written."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

from btfast._plan import Plan
from btfast._sweep import GOOD, MISSING, SHA1_DIFFERS, SHA256_DIFFERS
from btfast.metainfo import merkle
from btfast.metainfo.torrent import Torrent
from btfast.storage.folding import placed
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
    torrent = placed(torrent, directory, writing=False)
    with Places(directory) as places:
        found = [None if file.pad else places.look(_path(torrent, number)) for number, file in enumerate(torrent.files)]
        stream = _stream(torrent)
        plan = _plan(torrent, places.root, stream, found, sums=sums)
        swept: list[Swept] = []
        if sums:
            # Runs of files first; then the pieces that no run holds as a whole.
            swept.append(sweep_tracks(plan, list(_tracks(plan.piece_length, stream, found)), threads))
        states = plan.states
        rest = [range(first, last + 1) for first, last in _unknown(states)]
        known = plan.piece_count - sum(map(len, rest))
        progress(known, plan.piece_count)
        swept.append(sweep_pieces(plan, rest, threads, lambda done: progress(known + done, plan.piece_count)))
        extra: list[str] = []
        if not torrent.single_file:
            paths = [_path(torrent, number) for number, file in enumerate(torrent.files) if not file.pad]
            extra = places.strangers(torrent.name, paths)
    return _judge(torrent, stream, found, plan, swept, extra, sums=sums)


def _path(torrent: Torrent, number: int) -> tuple[str, ...]:
    return (torrent.name,) if torrent.single_file else (torrent.name, *torrent.files[number].path)


class _Part(NamedTuple):
    """A file of the torrent by its number, or None: the gap of v2 up to the next piece, which nobody hashes."""

    file: int | None
    length: int


def _stream(torrent: Torrent) -> list[_Part]:
    """What the plan takes for its files."""
    stream: list[_Part] = []
    gaps = torrent.info_hash_v1 is None
    end = 0  # of the last part with bytes of a file
    for number, file in enumerate(torrent.files):
        stream.append(_Part(number, file.length))
        if file.length:
            end = len(stream)
            if gaps:
                stream.append(_Part(None, -file.length % torrent.piece_length))
    return [part for at, part in enumerate(stream) if at < end or part.file is not None]


def _plan(torrent: Torrent, root: int, stream: Sequence[_Part], found: Sequence[Found | None], *, sums: bool) -> Plan:
    places = [found[part.file] if part.file is not None else None for part in stream]
    v1, v2 = torrent.info_hash_v1 is not None, torrent.info_hash_v2 is not None
    return Plan(
        root,
        torrent.piece_length,
        [None if place is None else place.path for place in places],
        [part.length for part in stream],
        [-1 if place is None else place.size for place in places],
        sha1=v1,
        sha256=v2,
        expected_sha1=torrent.pieces if v1 else None,
        expected_sha256=_expected_v2(torrent) if v2 else None,
        keep=bool(torrent.hashes.missing),
        sums=sums,
    )


def _expected_v2(torrent: Torrent) -> bytes:
    """32 bytes a piece; zeros where a piece layer is not known."""
    expected: list[bytes] = []
    for file in torrent.files:
        if file.pieces_root is None:
            continue
        if file.length <= torrent.piece_length:
            expected.append(file.pieces_root)
        else:
            count = -(-file.length // torrent.piece_length)
            expected.append(torrent.hashes.layers.get(file.pieces_root, bytes(merkle.HASH * count)))
    return b"".join(expected)


def _tracks(piece_length: int, stream: Sequence[_Part], found: Sequence[Found | None]) -> Iterator[tuple[int, int]]:
    """Runs of files that are there as a whole, each of a few pieces at least."""
    least = max(_TRACK, 16 * piece_length)
    first, size = 0, 0
    for at, part in enumerate(stream):
        place = found[part.file] if part.file is not None else None
        whole = place is None or place.size >= part.length
        if not whole or size >= least:
            if size:
                yield first, at
            first, size = at if whole else at + 1, 0
        if whole:
            size += part.length
    if size:
        yield first, len(stream)


def _unknown(states: bytes) -> Iterator[Range]:
    at = states.find(0)
    while at >= 0:
        end = at
        while end + 1 < len(states) and not states[end + 1]:
            end += 1
        yield at, end
        at = states.find(0, end + 1)


def _layerless(torrent: Torrent, plan: Plan) -> bytes:
    """The states, with the files whose piece layers are not known judged as a whole, by their roots."""
    states = bytearray(plan.states)
    hashes = plan.sha256 or b""
    level = merkle.piece_level(plan.piece_length)
    unknown = set(torrent.hashes.missing)
    for number, file in enumerate(torrent.files):
        if file.pieces_root is None or file.pieces_root not in unknown:
            continue
        pieces = torrent.geometry.file_pieces(number)
        own = states[pieces.start : pieces.stop]
        if any(state & MISSING for state in own):
            states[pieces.start : pieces.stop] = bytes([MISSING]) * len(pieces)
            continue
        layer = hashes[pieces.start * merkle.HASH : pieces.stop * merkle.HASH]
        if merkle.root_of(layer, level, file.length) != file.pieces_root:
            states[pieces.start : pieces.stop] = bytes(state & ~GOOD | SHA256_DIFFERS for state in own)
    return bytes(states)


def _judge(
    torrent: Torrent,
    stream: Sequence[_Part],
    found: Sequence[Found | None],
    plan: Plan,
    swept: Sequence[Swept],
    extra: list[str],
    *,
    sums: bool,
) -> Verdict:
    states = _layerless(torrent, plan) if torrent.hashes.missing else plan.states
    trouble = {stream[at].file: (error, offset) for each in swept for at, error, offset in each.problems}
    places = {part.file: at for at, part in enumerate(stream)}
    verdicts = []
    for number, place in enumerate(found):
        if place is not None:
            verdict = _judge_file(torrent, number, place, states, trouble.get(number))
            if sums and verdict.state == "good" and torrent.files[number].symlink is None:
                digest = plan.sum(places[number]) if verdict.size else hashlib.sha256().digest()
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

    if place.kind == "unreadable":
        return verdict("unreadable", place.target)
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
        halves = torrent.info_hash_v1 is not None and torrent.info_hash_v2 is not None
        if halves and any(state in (SHA1_DIFFERS, SHA256_DIFFERS) for state in own):
            return verdict("bad", "the v1 and v2 hashes of the torrent contradict each other")
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
