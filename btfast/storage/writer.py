"""Verified pieces to their files: the aligned inside with O_DIRECT, head and tail through the page cache."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from btfast.storage.files import Files
from btfast.storage.layout import PAGE, Layout

REMOVED = "it was removed while it was written"
_VECTORS = 512  # below IOV_MAX everywhere
_TOGETHER = 4 << 20  # bytes of one call from which on no more are added: what is written lets go of its memory earlier
_WORTH_DIRECT = 4 * PAGE  # a shorter inside is not worth a second system call


class VerifiedPiece(NamedTuple):
    """Piece number `piece`. `offset`: where its payload lies in the arena; `payload`: the bytes.

    `begin`: from which byte of the piece on they are; a part that is not verified yet counts for nothing.
    """

    piece: int
    offset: int
    payload: memoryview
    begin: int = 0


class _Segment(NamedTuple):
    file: int
    offset: int
    data: memoryview
    piece: int


def write_pieces(
    files: Files,
    layout: Layout,
    pieces: Sequence[VerifiedPiece],
    handle_written: Callable[[list[int]], object] = lambda pieces: None,
) -> dict[int, tuple[int, OSError]]:
    """Writes the pieces. Returns, for each piece that could not be written, the file and the error.

    `handle_written` is told after each write which pieces it was the last of; of none that fails, nor that has no byte to
    write.
    """
    direct: list[_Segment] = []
    buffered: list[_Segment] = []
    for piece in pieces:
        _cut(layout, piece, direct, buffered)
    left = Counter(segment.piece for segment in direct)
    left.update(segment.piece for segment in buffered)

    def tell(group: list[_Segment]) -> None:
        left.subtract(segment.piece for segment in group)
        whole = dict.fromkeys(segment.piece for segment in group if not left[segment.piece])
        handle_written([piece for piece in whole if piece not in failed])

    direct.sort(key=lambda segment: segment[:2])
    failed: dict[int, tuple[int, OSError]] = {}
    while direct:
        group, rest = _first_group(direct)
        try:
            fd = _present(files.writable(layout, group[0].file, direct=True))
            layout.probe_direct(fd)
            if layout.direct:
                _write(fd, group)
        except OSError as error:
            if error.errno != errno.EINVAL:
                _note(failed, group, error)
                direct = rest
                continue
            try:
                layout.give_up_direct()
            except OSError as refused:
                _note(failed, direct, refused)
                break
        if not layout.direct:
            # The file system turned direct I/O down: everything that is left goes through the page cache.
            buffered += direct
            break
        tell(group)
        direct = rest
    buffered.sort(key=lambda segment: segment[:2])
    while buffered:
        group, buffered = _first_group(buffered)
        try:
            fd = _present(files.writable(layout, group[0].file, direct=False))
            _write(fd, group)
            files.wrote(fd, sum(len(segment.data) for segment in group))
        except OSError as error:
            _note(failed, group, error)
        else:
            tell(group)
    return failed


def _cut(layout: Layout, piece: VerifiedPiece, direct: list[_Segment], buffered: list[_Segment]) -> None:
    at = 0
    first = piece.piece * layout.geometry.piece_length + piece.begin
    for file, offset, length in layout.geometry.spans(first, len(piece.payload)):
        if file not in layout.pads and layout.wants(file):
            begin, end = at, at + length
            if layout.direct and (piece.offset + at - offset) % PAGE == 0:
                head = -offset % PAGE
                inside = (length - head) // PAGE * PAGE
                if inside >= _WORTH_DIRECT:
                    begin, end = at + head, at + head + inside
                    direct.append(_Segment(file, offset + head, piece.payload[begin:end], piece.piece))
                    if head:
                        buffered.append(_Segment(file, offset, piece.payload[at:begin], piece.piece))
                    if end < at + length:
                        tail = piece.payload[end : at + length]
                        buffered.append(_Segment(file, offset + head + inside, tail, piece.piece))
                    at += length
                    continue
            buffered.append(_Segment(file, offset, piece.payload[begin:end], piece.piece))
        at += length
    if layout.keeps(piece.piece):
        slot = layout.slots.offset(piece.piece) + piece.begin
        buffered.append(_Segment(layout.parts_file, slot, piece.payload, piece.piece))


def _first_group(segments: list[_Segment]) -> tuple[list[_Segment], list[_Segment]]:
    """Splits off the leading segments that lie one behind the other in one file, as many as make a good write."""
    first = segments[0]
    n, end = 1, first.offset + len(first.data)
    while n < min(len(segments), _VECTORS) and end - first.offset < _TOGETHER:
        if segments[n].file != first.file or segments[n].offset != end:
            break
        end += len(segments[n].data)
        n += 1
    return segments[:n], segments[n:]


def _present(fd: int) -> int:
    if os.fstat(fd).st_nlink == 0:
        raise FileNotFoundError(errno.ENOENT, REMOVED)
    return fd


def _write(fd: int, group: list[_Segment]) -> None:
    offset = group[0].offset
    views = [segment.data for segment in group]
    while views:
        written = os.pwritev(fd, views, offset)
        if written == 0:
            raise OSError(errno.EIO, "nothing was written")
        offset += written
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if written:
            views[0] = views[0][written:]


def _note(failed: dict[int, tuple[int, OSError]], group: list[_Segment], error: OSError) -> None:
    for segment in group:
        failed.setdefault(segment.piece, (segment.file, error))
