"""Who may use the embedded tracker: a whitelist of info-hashes, and keys that stand in the announce URL.

A key is an element of the path, `/KEY/announce`, or of the query, `/announce?passkey=KEY` (`key` is something else, see
BEP 3). Over UDP the URL's path and query come too (BEP 41), but not with a scrape: a tracker with keys refuses those.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from btfast.errors import InputError, RemoteError

NOT_LISTED = "this torrent is not on the tracker's list"
NO_KEY = "the announce URL has no valid key: take it from whoever runs the tracker"

_KEY = re.compile(rb"[A-Za-z0-9._~-]{1,128}")
_HEX = re.compile(r"[0-9A-Fa-f]{40}")
_SPLIT = re.compile(rb"[/?&]")


class Access:
    """None of either means that everybody may. The checks raise RemoteError, whose text goes to the client."""

    def __init__(self, info_hashes: Iterable[bytes] | None = None, keys: Iterable[bytes] | None = None) -> None:
        self.info_hashes = None if info_hashes is None else frozenset(info_hashes)
        self.keys = None if keys is None else frozenset(keys)

    def replace(self, other: Access) -> None:
        """From now on, the other's lists count."""
        self.info_hashes, self.keys = other.info_hashes, other.keys

    def check_torrent(self, info_hash: bytes) -> None:
        """Whether it is on the list."""
        if self.info_hashes is not None and info_hash not in self.info_hashes:
            raise RemoteError(NOT_LISTED)

    def check_key(self, target: bytes) -> None:
        """Whether the path and query of a request hold a key."""
        if self.keys is None:
            return
        for part in _SPLIT.split(target[:4096]):
            if part.removeprefix(b"passkey=") in self.keys:
                return
        raise RemoteError(NO_KEY)

    def check_listing(self) -> None:
        """Whether all torrents may be listed at once."""
        if self.info_hashes is not None or self.keys is not None:
            raise RemoteError("this tracker does not list its torrents: name some with info_hash")


def parse_whitelist(text: str, what: str) -> list[bytes]:
    """Info-hashes, 40 hexadecimal digits a line; # begins a comment. InputError, beginning with `what`."""
    hashes = []
    for number, words in _lines(text):
        if not _HEX.fullmatch(words):
            raise InputError(f"{what}: line {number}: not an info-hash of 40 hexadecimal digits: correct it")
        hashes.append(bytes.fromhex(words))
    return hashes


def parse_keys(text: str, what: str) -> list[bytes]:
    """Keys, one a line; # begins a comment. InputError, beginning with `what`."""
    keys = []
    for number, words in _lines(text):
        key = words.encode()
        if not _KEY.fullmatch(key) or key in (b"announce", b"scrape"):
            raise InputError(
                f"{what}: line {number}: not a key: use up to 128 letters, digits and - . _ ~, and not announce or scrape"
            )
        keys.append(key)
    return keys


def _lines(text: str) -> list[tuple[int, str]]:
    stripped = ((number, line.partition("#")[0].strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, words) for number, words in stripped if words]
