"""Whether the bytes of pieces are what their torrent says: SHA-1 (BEP 3), a merkle root (BEP 52), or for a hybrid both."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from btfast import _hashing
from btfast.metainfo.piece_hashes import UNPROVED
from btfast.storage.messages import DISAGREE, MISMATCH, OK

SHA1 = 20  # bytes of a digest
ROOT = 32

Shape = tuple[int, int]  # bytes of a piece that are its file's, and leaves of its tree


def judge_pieces(
    payloads: Sequence[memoryview], expected: Sequence[bytes], shape: Callable[[int], Shape]
) -> list[int]:
    """OK, MISMATCH or DISAGREE for each payload; `shape(n)` is asked of those whose digest has a root.

    What a peer has sent for the pad behind a hybrid's file is overwritten with the zeros that belong there: it is
    written nowhere, and must not make right data look wrong to one half alone.
    """
    verdicts = [MISMATCH] * len(payloads)
    for size in {len(digest) for digest in expected}:
        numbers = [number for number, digest in enumerate(expected) if len(digest) == size]
        views = [payloads[number] for number in numbers]
        if size == len(UNPROVED):
            found = [UNPROVED] * len(views)
        elif size == SHA1:
            found = _hashing.hash_many("sha1", views)
        else:
            shapes = [shape(number) for number in numbers]
            if size > ROOT:
                for view, (length, _) in zip(views, shapes, strict=True):
                    if length < len(view):
                        view[length:] = bytes(len(view) - length)
            found = _hashing.hash_trees(views, shapes, sha1=size > ROOT)
        for number, digest in zip(numbers, found, strict=True):
            verdicts[number] = judge(digest, expected[number])
    return verdicts


def judge(found: bytes, expected: bytes) -> int:
    """OK, MISMATCH, or DISAGREE where of a hybrid's two digests just one is right: then no data can satisfy both halves."""
    if found == expected:
        return OK
    if len(expected) > ROOT and (found[:SHA1] == expected[:SHA1] or found[SHA1:] == expected[SHA1:]):
        return DISAGREE
    return MISMATCH
