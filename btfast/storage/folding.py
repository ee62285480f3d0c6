"""Whether a directory takes two names for one that differ in case, or in how accents are composed."""

from __future__ import annotations

import os

from btfast.metainfo.torrent import Torrent

_NAME = "btfast-Ob-Gro\u00df-\u00e9"
_OTHERS = ("BTFAST-oB-Gro\u00df-\u00e9", "btfast-Ob-Gro\u00df-e\u0301")


def placed(torrent: Torrent, directory: str, *, writing: bool = True) -> Torrent:
    """The torrent with the names that its files have in the directory; without `writing` nothing is tried out there."""
    return torrent.where_case_is_ignored() if torrent.folded and folds(directory, writing=writing) else torrent


def folds(directory: str, *, writing: bool = True) -> bool:
    """Tries it out in the directory, or above it where it is not there yet; nothing stays. False where it cannot be told."""
    while not os.path.isdir(directory):
        above = os.path.dirname(directory)
        if above == directory:
            return False
        directory = above
    if not writing:
        return _entries_fold(directory)
    name = os.path.join(directory, f".{_NAME}-{os.getpid()}")
    try:
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except OSError:
        return _entries_fold(directory)
    try:
        return any(os.path.lexists(os.path.join(directory, f".{other}-{os.getpid()}")) for other in _OTHERS)
    finally:
        os.unlink(name)


def _entries_fold(directory: str) -> bool:
    """The same for a directory that cannot be written into: told by what is in it."""
    try:
        entries = set(os.listdir(directory))
    except OSError:
        return False
    for entry in entries:
        other = entry.swapcase()
        if other != entry and other not in entries:
            return os.path.lexists(os.path.join(directory, other))
    return False
